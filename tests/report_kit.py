"""Ledger rows for the tests of reports."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from drain_kit import row
from store_kit import DAY_MS, HOUR_MS, NOON_MS, amounts

from budgetguard.core.model import CallInfo, UsageRow
from budgetguard.core.verbs import Row
from budgetguard.ledger import open_ledger

TEAMS = {"search": ("crawler", "ranker"), "ads": ("copywriter",), "support": ("triage", "reply", "escalate")}
MODELS = ("gpt-4o-mini", "claude-sonnet-4", "gemini-2.5-flash")
STATUSES = ("settled",) * 16 + ("assumed", "late", "expired", "cancelled", "error", "released")


def fill(url: str, rows: Sequence[Row], namespace: str = "prod") -> None:
    """Write these rows into a ledger, which is made if need be."""
    ledger = open_ledger(url)
    for start in range(0, len(rows), 20_000):
        ledger.write([(namespace, one) for one in rows[start : start + 20_000]])
    ledger.close()


def generated(
    count: int, seed: int = 1, first_ms: int = NOON_MS - 20 * DAY_MS, span_ms: int = 20 * DAY_MS
) -> Iterator[Row]:
    """That many calls over a span of time, more of them by day than by night."""
    dice = random.Random(seed)
    for number in range(count):
        at_ms = first_ms + dice.randrange(span_ms)
        if at_ms % DAY_MS < 7 * HOUR_MS and dice.random() < 0.8:
            at_ms += 8 * HOUR_MS
        team = dice.choice(tuple(TEAMS))
        labels = {"team": team, "agent": dice.choice(TEAMS[team]), "model": dice.choice(MODELS), "provider": "any"}
        if dice.random() < 0.05:
            del labels["team"]
        prompt, status = dice.randrange(200, 9_000), dice.choice(STATUSES)
        cached, written = dice.randrange(prompt // 2), dice.randrange(prompt // 4)
        cost_nanousd = None if dice.random() < 0.01 else dice.randrange(10_000, 90_000_000)
        usage = UsageRow(prompt, dice.randrange(900), cached, written, 10, cost_nanousd, "reported")
        yield row(
            f"r{number}", info=CallInfo(labels, "given", "host-1"), usage=UsageRow() if status == "released" else usage,
            timestamp_ms=at_ms, status=status, error_type=dice.choice(["", "", "", "", "APIError"]),
            estimate=amounts(prompt, 10, 7),
        )  # fmt: skip


HOSTILE = (
    "=1+1", "-2", "@SUM(A1)", "\t=1", "<script>alert(1)</script><img src=http://127.0.0.1:1/x onerror=alert(2)>",
    "a|b`c`**d**[e](http://evil.example/)\\", "\x1b[31mred\x07\u202eevil", "x" * 512, "\"'&amp;&lt;<b>", "-->]]>",
    "@someone #1 $x$ www.evil.example https://evil.example", "{{7*7}} ~~s~~ _u_ <!--", "line\nbreak\r\n\u2028more",
    "wide \u8868 \u00e9",
)  # fmt: skip


def hostile_rows() -> list[Row]:
    """A call for each of `HOSTILE`: as team, as agent, and as the name of a label."""
    return [
        row(
            f"h{number}", info=CallInfo({"team": label, "agent": HOSTILE[-number], label: label}, "given", "h"),
            usage=UsageRow(10, 1, cost_nanousd=10**9 + number), timestamp_ms=NOON_MS - number * HOUR_MS,
        )
        for number, label in enumerate(HOSTILE, 1)
    ]  # fmt: skip
