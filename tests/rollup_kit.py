"""The rollups of a ledger, reckoned again from its rows."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Any

WIDTHS_MS = (900_000, 3_600_000, 21_600_000, 86_400_000)
BAND = 16
LATENCIES = ", ".join(f"latency_{place}" for place in range(BAND))
ROWS = """
SELECT namespace, timestamp, team, agent, task_type, model, provider, latency_ms, status, error_type, prompt_tokens,
       completion_tokens, cost_nanousd, attempt FROM token_usage"""
ROLLUPS = f"""
SELECT namespace, width_ms, start_ms, team, agent, task_type, model, provider, latency_band, calls, errors,
       prompt_tokens, completion_tokens, cost_nanousd, unpriced_calls, operations, {LATENCIES} FROM usage_rollups"""
SUMMED = "SELECT namespace, width_ms, start_ms FROM usage_stretches WHERE is_summed = 1"
Told = dict[tuple[Any, ...], tuple[int, ...]]


def rollups_of(rows: Sequence[tuple[Any, ...]], summed: Collection[tuple[Any, ...]]) -> Told:
    """What the rollups of these rows (of `ROWS`) must be: of every quarter of an hour, and of these hours and days."""
    sums: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * (7 + BAND))
    for namespace, timestamp, *labels, latency_ms, status, error_type, prompt, completion, cost, attempt in rows:
        if status == "released":
            continue
        at_ms = _ms(timestamp)
        slow = math.ceil(round(4 * math.log2(latency_ms), 9)) if latency_ms > 0 else -1
        failed = int(error_type is not None and status != "cancelled")
        amounts = (1, failed, prompt, completion, cost or 0, int(cost is None), int(attempt == 1))
        band, place = divmod(slow, BAND)
        latencies = [int(place == n) for n in range(BAND)]
        for width_ms in WIDTHS_MS:
            start_ms = at_ms // width_ms * width_ms
            if width_ms > WIDTHS_MS[0] and (namespace, width_ms, start_ms) not in summed:
                continue
            key = (namespace, width_ms, start_ms, *(label or "" for label in labels), band)
            sums[key] = [a + b for a, b in zip(sums[key], (*amounts, *latencies), strict=True)]
    return {key: tuple(found) for key, found in sums.items()}


def rollups_in(ask: Callable[[str], Sequence[tuple[Any, ...]]]) -> tuple[Told, Told]:
    """What the rollups of a ledger say, and what they must say."""
    return {tuple(row[:9]): tuple(row[9:]) for row in ask(ROLLUPS)}, rollups_of(ask(ROWS), set(ask(SUMMED)))


def _ms(timestamp: str | datetime) -> int:
    at = timestamp if isinstance(timestamp, datetime) else datetime.fromisoformat(timestamp).replace(tzinfo=UTC)
    return round(at.timestamp() * 1000)
