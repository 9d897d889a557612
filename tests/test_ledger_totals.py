"""Questions to a ledger: exact sums of any stretch, whatever of it comes from rollups and what from rows."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from drain_kit import row
from store_kit import HOUR_MS, MINUTE_MS, NOON_MS, amounts, info

from budgetguard.core.model import UsageRow
from budgetguard.core.verbs import Row
from budgetguard.errors import ConfigError
from budgetguard.ledger import open_ledger
from budgetguard.ledger.books import open_book
from budgetguard.ledger.reading import Book, Stretch
from budgetguard.ledger.totals import Total

SPAN_MS = 60 * HOUR_MS
GROUPS = [(), ("team",), ("agent", "task_type"), ("team", "agent", "task_type", "model", "provider")]
LABEL_OF = {"team": "team", "agent": "agent", "task_type": "task", "model": "model", "provider": "provider"}
EDGES_MS = [
    0, 1, 299_999, 300_000, 300_001, HOUR_MS - 1, HOUR_MS, HOUR_MS + 1, 3 * HOUR_MS + 299_000,
    12 * HOUR_MS - 1, 12 * HOUR_MS, 36 * HOUR_MS, 36 * HOUR_MS + 1, SPAN_MS,
]  # fmt: skip


def made(dice: random.Random, number: int) -> Row:
    """A call at any instant, most often at the edge of a stretch."""
    at_ms = NOON_MS + (dice.choice(EDGES_MS) if dice.random() < 0.5 else dice.randrange(SPAN_MS))
    labels = {name: dice.choice("abc") for name in LABEL_OF.values() if dice.random() < 0.7}
    status = dice.choice(["settled", "settled", "late", "cancelled", "released"])
    usage = UsageRow(dice.randrange(99), dice.randrange(9), cost_nanousd=dice.choice([None, dice.randrange(2**40)]))
    return row(
        f"r{number}", status=status, timestamp_ms=at_ms, info=info(amounts(1), **(labels or {"user": "u"})),
        usage=UsageRow() if status == "released" else usage, latency_ms=dice.choice([0, 5, 80, 1_000, 9_000]),
        error_type=dice.choice(["", "", "APIError"]),
    )  # fmt: skip


def reckoned(rows: list[Row], stretch: Stretch, group_by: tuple[str, ...], where: dict[str, str]) -> dict[Any, Any]:
    """The same sums, row by row."""
    sums: dict[Any, list[int]] = {}
    for one in rows:
        labels = {name: one.info.labels.get(label, "") for name, label in LABEL_OF.items()}
        inside = stretch.since_ms <= one.timestamp_ms < stretch.until_ms
        if not inside or one.status == "released" or any(labels[name] != value for name, value in where.items()):
            continue
        cost_nanousd = one.usage.cost_nanousd
        more = (
            1, int(bool(one.error_type) and one.status != "cancelled"), one.usage.prompt_tokens,
            one.usage.completion_tokens, cost_nanousd or 0, int(cost_nanousd is None),
        )  # fmt: skip
        group = tuple(labels[name] for name in group_by)
        sums[group] = [a + b for a, b in zip(sums.get(group, [0] * 6), more, strict=True)]
    return sums


def plain(found: list[Total]) -> dict[Any, Any]:
    assert found == sorted(found, key=lambda total: total.group)
    assert all(sum(total.latencies.values()) == total.calls for total in found)
    return {
        total.group: [
            total.calls, total.errors, total.prompt_tokens, total.completion_tokens, total.cost_nanousd,
            total.unpriced_calls,
        ]
        for total in found
    }  # fmt: skip


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres").url)
    return f"sqlite:///{tmp_path / 'ledger.db'}"


def book_of(url: str, rows: list[Row]) -> Book:
    ledger = open_ledger(url)
    ledger.write([("prod", one) for one in rows] + [("other", one) for one in rows[:5]])
    ledger.close()
    return open_book(url)


def test_sums_of_any_stretch_are_those_of_its_rows(url: str) -> None:
    seed = random.randrange(2**32)
    print(f"\nseed {seed}")
    dice = random.Random(seed)
    rows = [made(dice, number) for number in range(400)]
    book = book_of(url, rows)
    instants_ms = [NOON_MS + edge_ms for edge_ms in EDGES_MS] + [NOON_MS + dice.randrange(SPAN_MS) for _ in range(10)]
    for number in range(60):
        since_ms, until_ms = sorted(dice.sample(instants_ms, 2))
        stretch = Stretch("prod", since_ms, until_ms)
        where = {name: dice.choice(["a", ""]) for name in LABEL_OF if dice.random() < 0.2}
        group_by = GROUPS[number % len(GROUPS)]
        assert plain(book.totals(stretch, group_by, where)) == reckoned(rows, stretch, group_by, where)
    assert plain(book.totals(Stretch("prod"))) == reckoned(rows, Stretch("prod"), (), {})
    assert book.totals(Stretch("nobody")) == []
    book.close()


def test_percentiles_are_within_a_tenth(url: str) -> None:
    latencies_ms = [10 * n for n in range(1, 201)]
    book = book_of(url, [row(f"r{n}", latency_ms=ms, timestamp_ms=NOON_MS + n) for n, ms in enumerate(latencies_ms)])
    (total,) = book.totals(Stretch("prod", NOON_MS, NOON_MS + MINUTE_MS))
    for percent, truth_ms in ((50, 1_000), (95, 1_900), (100, 2_000)):
        found_ms = total.latency_ms(percent)
        assert found_ms is not None and abs(found_ms - truth_ms) <= 0.1 * truth_ms
    assert Total((), latencies=Counter({-1: 3})).latency_ms(50) is None
    book.close()


def test_a_column_by_which_no_sums_are_kept_is_told(url: str) -> None:
    book = book_of(url, [row("r")])
    for question in ({"group_by": ("host",)}, {"where": {"session_id; --": "x"}}):
        with pytest.raises(ConfigError, match="sums are kept by team, agent"):
            book.totals(Stretch("prod"), **question)  # type: ignore[arg-type]
    book.close()
