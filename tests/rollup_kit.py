"""The rollups of a ledger, reckoned again from its rows."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

WIDTHS_MS = (300_000, 3_600_000)
ROWS = """
SELECT namespace, timestamp, team, agent, task_type, model, provider, latency_ms, status, error_type, prompt_tokens,
       completion_tokens, cost_nanousd FROM token_usage"""
ROLLUPS = """
SELECT namespace, width_ms, start_ms, team, agent, task_type, model, provider, latency_class, calls, errors,
       prompt_tokens, completion_tokens, cost_nanousd, unpriced_calls FROM usage_rollups WHERE calls <> 0"""
Told = dict[tuple[Any, ...], tuple[int, ...]]


def rollups_of(rows: Sequence[tuple[Any, ...]]) -> Told:
    """What the rollups of these rows (of `ROWS`) must be."""
    sums: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * 6)
    for namespace, timestamp, *labels, latency_ms, status, error_type, prompt, completion, cost_nanousd in rows:
        if status == "released":
            continue
        at_ms = _ms(timestamp)
        slow = math.ceil(round(4 * math.log2(latency_ms), 9)) if latency_ms > 0 else -1
        failed = int(error_type is not None and status != "cancelled")
        amounts = (1, failed, prompt, completion, cost_nanousd or 0, int(cost_nanousd is None))
        for width_ms in WIDTHS_MS:
            key = (namespace, width_ms, at_ms // width_ms * width_ms, *(label or "" for label in labels), slow)
            sums[key] = [a + b for a, b in zip(sums[key], amounts, strict=True)]
    return {key: tuple(found) for key, found in sums.items()}


def rollups_in(ask: Callable[[str], Sequence[tuple[Any, ...]]]) -> tuple[Told, Told]:
    """What the rollups of a ledger say, and what they must say."""
    return {tuple(row[:9]): tuple(row[9:]) for row in ask(ROLLUPS)}, rollups_of(ask(ROWS))


def _ms(timestamp: str | datetime) -> int:
    at = timestamp if isinstance(timestamp, datetime) else datetime.fromisoformat(timestamp).replace(tzinfo=UTC)
    return round(at.timestamp() * 1000)
