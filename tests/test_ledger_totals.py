"""Questions to a ledger: exact sums of any stretch, whatever of it comes from rollups and what from rows."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from fnmatch import fnmatchcase
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
    0, 1, 899_999, 900_000, 900_001, HOUR_MS - 1, HOUR_MS, HOUR_MS + 1, 3 * HOUR_MS + 299_000,
    12 * HOUR_MS - 1, 12 * HOUR_MS, 36 * HOUR_MS, 36 * HOUR_MS + 1, SPAN_MS,
]  # fmt: skip


def made(dice: random.Random, number: int) -> Row:
    """A call at any instant, most often at the edge of a stretch."""
    at_ms = NOON_MS + (dice.choice(EDGES_MS) if dice.random() < 0.5 else dice.randrange(SPAN_MS))
    labels = {name: dice.choice("abc") for name in LABEL_OF.values() if dice.random() < 0.7}
    status = dice.choice(["settled", "settled", "late", "cancelled", "released"])
    usage = UsageRow(dice.randrange(99), dice.randrange(9), cost_nanousd=dice.choice([None, dice.randrange(2**40)]))
    about = replace(info(amounts(1), **(labels or {"user": "u"})), attempt=dice.choice([1, 1, 2]))
    return row(
        f"r{number}", status=status, timestamp_ms=at_ms, info=about,
        usage=UsageRow() if status == "released" else usage, latency_ms=dice.choice([0, 5, 80, 1_000, 9_000]),
        error_type=dice.choice(["", "", "APIError"]),
    )  # fmt: skip


def matches(value: str, glob: str) -> bool:
    return value == glob if glob == "" else value != "" and fnmatchcase(value, glob)


def reckoned(rows: list[Row], stretch: Stretch, group_by: tuple[str, ...], where: dict[str, str]) -> dict[Any, Any]:
    """The same sums, row by row."""
    sums: dict[Any, list[int]] = {}
    for one in rows:
        labels = {name: one.info.labels.get(label, "") for name, label in LABEL_OF.items()}
        inside = stretch.since_ms <= one.timestamp_ms < stretch.until_ms
        if (
            not inside
            or one.status == "released"
            or not all(matches(labels[name], glob) for name, glob in where.items())
        ):
            continue
        cost_nanousd = one.usage.cost_nanousd
        more = (
            1, int(bool(one.error_type) and one.status != "cancelled"), one.usage.prompt_tokens,
            one.usage.completion_tokens, cost_nanousd or 0, int(cost_nanousd is None), int(one.info.attempt == 1),
        )  # fmt: skip
        group = tuple(labels[name] for name in group_by)
        sums[group] = [a + b for a, b in zip(sums.get(group, [0] * 7), more, strict=True)]
    return sums


def plain(found: list[Total]) -> dict[Any, Any]:
    assert found == sorted(found, key=lambda total: total.group)
    assert all(sum(total.latencies.values()) == total.calls for total in found)
    return {
        total.group: [
            total.calls, total.errors, total.prompt_tokens, total.completion_tokens, total.cost_nanousd,
            total.unpriced_calls, total.operations,
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
        where = {name: dice.choice(["a", "", "[ab]", "*"]) for name in LABEL_OF if dice.random() < 0.2}
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


def test_what_guides_optimisation_by_hand(url: str) -> None:
    """Two tasks of one agent, one of them tried twice: 3 calls, 30 + 12 tokens, 90 nano-dollars."""
    of_agent = replace(info(amounts(1), agent="a"), attempt=1)
    again = replace(of_agent, attempt=2)
    book = book_of(url, [
        row("failed", info=of_agent, usage=UsageRow(5, 0, cost_nanousd=10), error_type="APIError", latency_ms=10),
        row("again", info=again, usage=UsageRow(5, 4, cost_nanousd=30), latency_ms=1_000),
        row("other", info=of_agent, usage=UsageRow(20, 8, cost_nanousd=51), latency_ms=2_000),
    ])  # fmt: skip
    (total,) = book.totals(Stretch("prod"), ["agent"])
    assert (total.group, total.calls, total.operations, total.errors) == (("a",), 3, 2, 1)
    assert (total.error_share, total.tokens_per_completion, total.token_efficiency) == (1 / 3, 42 / 3, 12 / 30)
    assert (total.total_tokens, total.cost_nanousd, total.cost_per_task_nanousd) == (42, 91, 46)
    nothing = Total(())
    assert (nothing.error_share, nothing.tokens_per_completion, nothing.cost_per_task_nanousd) == (None, None, None)
    assert (nothing.token_efficiency, nothing.latency_ms(50)) == (None, None)
    book.close()


def test_labels_of_any_text_and_of_the_longest_are_kept_apart(url: str) -> None:
    texts = [
        "'; DROP TABLE usage_sums; --",
        "a",
        "A",
        "a ",
        " a",
        "\u00e9",
        "e\u0301",
        "%",
        "_",
        "\\",
        "[a]",
        "\U0001f4a9" * 128,
    ]
    made = [
        row(
            f"r{number}", info=info(amounts(1), **dict.fromkeys(LABEL_OF.values(), text)), timestamp_ms=NOON_MS + number
        )
        for number, text in enumerate(texts)
    ]
    book = book_of(url, made)
    found = book.totals(Stretch("prod"), tuple(LABEL_OF))
    assert {total.group: total.calls for total in found} == {(text,) * len(LABEL_OF): 1 for text in texts}
    for text in texts:
        escaped = text.replace("[", "[[]")
        assert [total.group for total in book.totals(Stretch("prod"), ["team"], {"agent": escaped})] == [(text,)]
    book.close()
