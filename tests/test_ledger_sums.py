"""Sums by any label, over the rows themselves: against sums by hand, and against those over `rows()`."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from drain_kit import row
from store_kit import HOUR_MS, NOON_MS, amounts, info

from budgetguard.core.model import UsageRow
from budgetguard.core.verbs import Row
from budgetguard.ledger import open_ledger
from budgetguard.ledger.books import open_book
from budgetguard.ledger.reading import Book, Stretch
from budgetguard.ledger.sums import AMOUNTS, SLOT, SLOT_MS, Sum
from budgetguard.ledger.table import LABEL_COLUMNS

STRETCH = Stretch("prod", NOON_MS, NOON_MS + 3 * HOUR_MS)
ODD = ("ten\u00e4nt", 'a"b', "c\\d", "$.x", "[0]", "%s", "d'e", "new\nline", "status_")
"""Names of labels that are no plain words."""


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres").url)
    return f"sqlite:///{tmp_path / 'ledger.db'}"


def book_of(url: str, rows: Sequence[Row]) -> Book:
    ledger = open_ledger(url)
    ledger.write([("prod", one) for one in rows] + [("other", one) for one in rows[:3]])
    ledger.close()
    return open_book(url)


def call(id: str, labels: Mapping[str, str], usage: UsageRow, after_ms: int = 0, **changed: Any) -> Row:
    at_ms = NOON_MS + after_ms
    return row(id, info=info(amounts(1), **labels), usage=usage, timestamp_ms=at_ms, **changed)


def test_sums_are_those_that_were_added_up_by_hand(url: str) -> None:
    search, ads = {"team": "search", "tenant": "acme"}, {"team": "ads"}
    book = book_of(
        url,
        [
            call("1", search, UsageRow(100, 10, 40, 20, 5, 1_000_000_007, "reported")),
            call("2", search, UsageRow(50, 5, 0, 0, 0, 3, "estimate"), status="assumed", error_type="Timeout"),
            call("3", search, UsageRow(7, 1, cost_nanousd=None, source="reported"), SLOT_MS, status="late"),
            call("4", ads, UsageRow(9, 9, cost_nanousd=500, source="estimate"), SLOT_MS - 1, status="expired"),
            call("5", ads, UsageRow(1, 1, cost_nanousd=20, source="estimate"), 0, revision=2, status="assumed"),
            call("6", ads, UsageRow(2, 1, cost_nanousd=9), 0, status="cancelled", error_type="CancelledError"),
            call("7", search, UsageRow(), status="released"),
            call("8", search, UsageRow(1, 1, cost_nanousd=1), -1),
            call("9", search, UsageRow(1, 1, cost_nanousd=1), 3 * HOUR_MS),
        ],
    )
    by_ads = Sum(
        ("ads",), calls=3, operations=3, prompt_tokens=12, completion_tokens=11, cost_nanousd=529, assumed_calls=1,
        assumed_cost_nanousd=20, expired_calls=1, expired_cost_nanousd=500, late_calls=1, late_cost_nanousd=20,
    )  # fmt: skip
    by_search = Sum(
        ("search",), calls=3, operations=3, errors=1, prompt_tokens=157, completion_tokens=16, cache_read_tokens=40,
        cache_write_tokens=20, reasoning_tokens=5, cost_nanousd=1_000_000_010, unpriced_calls=1, assumed_calls=1,
        assumed_cost_nanousd=3, late_calls=1,
    )  # fmt: skip
    assert book.sums(STRETCH, ("team",)) == [by_ads, by_search]
    assert (by_ads.total_tokens, by_search.total_tokens) == (23, 173)
    slot = NOON_MS // SLOT_MS
    found = {one.group: one.cost_nanousd for one in book.sums(STRETCH, ("tenant", SLOT))}
    assert found == {
        ("", str(slot)): 529, ("acme", str(slot)): 1_000_000_010, ("acme", str(slot + 1)): 0
    }  # fmt: skip
    assert book.sums(STRETCH, ("status",), {"team": "ads"})[0].group == ("assumed",)
    book.close()


def test_attempts_after_the_first_are_calls_of_the_same_operation(url: str) -> None:
    def attempt(number: int) -> Row:
        of = info(amounts(1), team="t")
        return row(f"r{number}", info=type(of)(of.labels, "", "h", of.usage, "op", number))

    book = book_of(url, [attempt(1), attempt(2), attempt(3)])
    (found,) = book.sums(STRETCH)
    assert (found.group, found.calls, found.operations) == ((), 3, 1)
    book.close()


def made(dice: random.Random, number: int) -> Row:
    names = [name for name in (*LABEL_COLUMNS, "model", "provider", *ODD) if dice.random() < 0.6] or ["team"]
    labels = {name: dice.choice(["a", "ab", "B", "[a]", "\u00e9*", "(none)"]) for name in names}
    cost_nanousd = dice.choice([None, dice.randrange(2**40)])
    usage = UsageRow(
        dice.randrange(99), dice.randrange(99), dice.randrange(9), dice.randrange(9), dice.randrange(9), cost_nanousd,
        "estimate" if dice.random() < 0.5 else "reported",
    )  # fmt: skip
    status = dice.choice(["settled", "late", "assumed", "expired", "cancelled", "error", "uncounted", "released"])
    return call(
        f"r{number}", labels, usage, dice.randrange(-HOUR_MS, 4 * HOUR_MS), status=status,
        revision=dice.choice([1, 2]), error_type=dice.choice(["", "APIError"]),
    )  # fmt: skip


def reckoned(rows: Sequence[dict[str, Any]], by: Sequence[str], where: Mapping[str, str]) -> list[Sum]:
    """The same sums, row by row."""
    found: dict[tuple[str, ...], Sum] = {}
    for one in rows:
        labels = {**one["labels"], **{name: one[column] for name, column in LABEL_COLUMNS.items()}}
        labels |= {"model": one["model"], "provider": one["provider"], "status": one["status"]}
        matches = all(
            fnmatchcase(labels[name], glob) if labels.get(name) else glob == "(none)" for name, glob in where.items()
        )
        if one["status"] == "released" or not matches:
            continue
        cost_nanousd = one["cost_nanousd"] or 0
        status, group = one["status"], tuple(labels.get(name) or "" for name in by)
        expired = status == "expired"
        assumed = not expired and (status == "assumed" or one["usage_source"] == "estimate")
        late = status in ("late", "uncounted") or (status == "assumed" and one["revision"] > 1)
        more = Sum(
            group, 1, one["error_type"] is not None and status != "cancelled", one["prompt_tokens"],
            one["completion_tokens"], cost_nanousd, one["cost_nanousd"] is None, 1, one["cache_read_tokens"],
            one["cache_write_tokens"], one["reasoning_tokens"], assumed, cost_nanousd * assumed, expired,
            cost_nanousd * expired, late, cost_nanousd * late,
        )  # fmt: skip
        found.setdefault(group, Sum(group)).add(more)
    return [found[group] for group in sorted(found)]


def test_sums_by_any_labels_are_those_of_the_rows(url: str) -> None:
    seed = random.randrange(2**32)
    print(f"\nseed {seed}")
    dice = random.Random(seed)
    book = book_of(url, [made(dice, number) for number in range(300)])
    rows = list(book.rows(STRETCH))
    names = [*LABEL_COLUMNS, "model", "provider", "status", *ODD, "nobody's"]
    for _ in range(40):
        by = dice.sample(names, dice.randrange(4))
        globs = ["(none)", "a", "a*", "?", "*", "[[]a]", "[!a]*", "\u00e9[*]"]
        where = {name: dice.choice(globs) for name in names if dice.random() < 0.06}
        assert book.sums(STRETCH, by, where) == reckoned(rows, by, where), (by, where)
    assert book.sums(Stretch("nobody")) == []
    book.close()


def test_a_label_with_a_nul_is_summed_as_it_is(tmp_path: Path) -> None:
    """PostgreSQL has no such texts: SQLite alone."""
    book = book_of(f"sqlite:///{tmp_path / 'l.db'}", [call("1", {"t\0": "a\0b"}, UsageRow(1, 1, cost_nanousd=1))])
    assert [one.group for one in book.sums(STRETCH, ("t\0",), {"t\0": "a?b"})] == [("a\0b",)]
    book.close()


def test_what_is_asked_of_a_standing_ledger_is_of_one_instant(url: str) -> None:
    book = book_of(url, [call("1", {"team": "t"}, UsageRow(1, 1, cost_nanousd=1))])
    with book.standing():
        before = book.sums(STRETCH)
        book_of(url, [call("2", {"team": "t"}, UsageRow(1, 1, cost_nanousd=1))]).close()
        assert (book.sums(STRETCH), len(list(book.rows(STRETCH)))) == (before, 1)
        assert book.totals(STRETCH)[0].calls == 1
    assert book.sums(STRETCH)[0].calls == 2
    book.close()


def test_every_amount_is_summed() -> None:
    whole = Sum((), **{name: number for number, name in enumerate(AMOUNTS, 1)})
    whole.add(whole)
    assert [getattr(whole, name) for name in AMOUNTS] == [2 * number for number in range(1, len(AMOUNTS) + 1)]
