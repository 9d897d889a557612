"""Months that are closed: what was frozen stays, what comes late is an adjustment, and nothing is billed twice or not
at all.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from drain_kit import NAMESPACE, row
from store_kit import amounts, info, instant_ms

from budgetguard.core.model import UsageRow
from budgetguard.core.verbs import Row
from budgetguard.errors import ConfigError
from budgetguard.ledger import open_ledger
from budgetguard.ledger.books import open_book
from budgetguard.ledger.closing import Billing, window_of
from budgetguard.ledger.drain import Ledger
from budgetguard.ledger.reading import Book

ZONES = ("Europe/Berlin", "America/Los_Angeles", "Asia/Kathmandu")
LATER_MS = instant_ms("2027-06-01T00:00:00+00:00")
MONTHS = [f"2026-{number:02d}" for number in range(7, 13)] + ["2027-01", "2027-02"]


class Books:
    """A ledger that is written, closed and read."""

    def __init__(self, url: str) -> None:
        self.ledger: Ledger = open_ledger(url)
        self.ledger.write([])
        self.book: Book = open_book(url)

    def write(self, *made: Row) -> None:
        self.ledger.write([(NAMESPACE, one) for one in made])

    def close(self, month: str, zone: str = "UTC", now_ms: int = LATER_MS, facts: str = "{}") -> tuple[Billing, bool]:
        return self.ledger.close_month(NAMESPACE, month, zone, now_ms, lambda _: facts)

    def billing(self, month: str, zone: str = "UTC") -> Billing:
        return self.book.billing(NAMESPACE, month, zone)

    def lines(self, month: str, zone: str = "UTC") -> list[tuple[str, str, int, int]]:
        """Of each line the month it is of, its team, its calls and its nano-dollars."""
        return [
            (of, one.group[0], one.calls, one.cost_nanousd) for of, one in self.billing(month, zone).lines
        ]  # fmt: skip


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres").url)
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def books(url: str) -> Iterator[Books]:
    made = Books(url)
    yield made
    made.book.close()
    made.ledger.close()


def call(id: str, at: str, cost_nanousd: int | None, revision: int = 1, team: str = "search", **changed: object) -> Row:
    labels = {"agent": "a", "model": "m", "provider": "p", **({"team": team} if team else {})}
    usage = UsageRow(10, 1, cost_nanousd=cost_nanousd, source="reported")
    found = row(id, revision, info=info(amounts(1), **labels), usage=usage, timestamp_ms=instant_ms(at))
    return found._replace(**changed)


def test_a_closed_month_shows_what_was_frozen_and_the_next_one_what_came_late(books: Books) -> None:
    books.write(call("a", "2026-10-05T10:00:00+00:00", 100), call("b", "2026-10-31T23:59:59.999+00:00", 7, team=""))
    books.write(call("c", "2026-11-01T00:00:00+00:00", 1_000))
    closed, new = books.close("2026-10", facts='{"x": 1}')
    assert (new, closed.closing and closed.closing.facts) == (True, '{"x": 1}')
    assert books.lines("2026-10") == [("2026-10", "", 1, 7), ("2026-10", "search", 1, 100)]
    books.write(
        call("a", "2026-10-05T10:00:00+00:00", 130, 2), call("b", "2026-10-31T23:59:59.999+00:00", 7, 2, team=""),
        call("late", "2026-10-09T10:00:00+00:00", 5, team="ads"),
    )  # fmt: skip
    assert books.lines("2026-10") == [("2026-10", "", 1, 7), ("2026-10", "search", 1, 100)]
    assert books.lines("2026-11") == [
        ("2026-11", "search", 1, 1_000), ("2026-10", "ads", 1, 5), ("2026-10", "search", 0, 30)
    ]  # fmt: skip
    assert books.lines("2026-12") == []
    again, new = books.close("2026-10", facts="{}")
    assert (new, again) == (False, books.billing("2026-10")) and again.closing == closed.closing
    books.close("2026-11")
    books.write(call("a", "2026-10-05T10:00:00+00:00", 0, 3, status="released", usage=UsageRow()))
    assert books.lines("2026-11")[1:] == [("2026-10", "ads", 1, 5), ("2026-10", "search", 0, 30)]
    assert books.lines("2026-12") == [("2026-10", "search", -1, -130)], "never in a month that is closed"


def test_a_month_that_has_not_ended_is_not_closed_and_nothing_is_kept(books: Books) -> None:
    ends_ms = instant_ms("2026-11-01T00:00:00+01:00")
    with pytest.raises(ConfigError, match=r"2026-10 has not ended: .* from 2026-11-01T00:00:00\+01:00 on"):
        books.close("2026-10", "Europe/Berlin", ends_ms - 1)
    assert books.billing("2026-10").standing == {}
    assert books.close("2026-10", "Europe/Berlin", ends_ms)[1]


@pytest.mark.parametrize("month", ["2026-13", "2026-00", "26-01", "2026-1", "", "1969-12", "9999-12", "2026-11\n", "x"])
def test_what_is_no_month_is_refused(books: Books, month: str) -> None:
    for ask in (books.billing, books.close):
        with pytest.raises(ConfigError, match="expected a month such as 2026-11"):
            ask(month)


@pytest.mark.parametrize("zone", ZONES)
def test_a_call_is_billed_in_the_month_of_the_zone_to_the_millisecond(tmp_path: Path, zone: str) -> None:
    """October has 31 days and an hour in Berlin, and an ordinary month's hours in the other two."""
    books = Books(f"sqlite:///{tmp_path / 'l.db'}")
    window = window_of("2026-10", zone)
    hours = (window.end_ms - window.start_ms) / 3_600_000
    assert hours == 31 * 24 + (zone == "Europe/Berlin")
    edges = {"before": window.start_ms - 1, "first": window.start_ms, "last": window.end_ms - 1, "after": window.end_ms}
    for id, at_ms in edges.items():
        books.write(call(id, "2026-10-01T00:00:00+00:00", 1, team=id, timestamp_ms=at_ms))
    for _ in range(2):
        assert [team for _, team, _, _ in books.lines("2026-10", zone)] == ["first", "last"]
        assert [team for _, team, _, _ in books.lines("2026-09", zone)] == ["before"]
        assert [team for _, team, _, _ in books.lines("2026-11", zone)] == ["after"]
        books.close("2026-10", zone)
        zone = "Pacific/Kiritimati"  # 14 hours ahead: a closed month keeps its zone, and its neighbours meet it
    books.book.close()
    books.ledger.close()


def test_rows_that_are_pruned_change_no_statement(books: Books) -> None:
    books.write(call("a", "2026-08-05T10:00:00+00:00", 100), call("b", "2026-09-05T10:00:00+00:00", 7))
    books.write(call("gone", "2026-08-06T10:00:00+00:00", 0, status="released", usage=UsageRow()))
    books.close("2026-08")
    books.write(call("late", "2026-08-07T10:00:00+00:00", 9))
    before = {month: books.lines(month) for month in MONTHS}
    assert before["2026-09"] == [("2026-09", "search", 1, 7), ("2026-08", "search", 1, 9)]
    assert books.ledger.prune(NAMESPACE, instant_ms("2026-09-01T00:00:00+00:00"), 100) == 3
    assert {month: books.lines(month) for month in MONTHS} == before
    closing = books.billing("2026-08").closing
    assert closing is not None
    assert [one.cost_nanousd for one in books.book.billed_rows(NAMESPACE, closing)] == [109]


def test_of_several_who_close_a_month_at_once_one_does(url: str, books: Books) -> None:
    books.write(*(call(f"r{n}", "2026-08-05T10:00:00+00:00", n) for n in range(20)))
    closers = [Books(url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda one: one.close("2026-08"), closers))
    assert sorted(new for _, new in done) == [False, False, False, True]
    assert {billing.lines[0].sum.cost_nanousd for billing, _ in done} == {190}
    for one in closers:
        one.book.close()
        one.ledger.close()


class Story:
    """A ledger's life at random, and what every statement must say at any time of it."""

    def __init__(self, books: Books, dice: random.Random) -> None:
        self.books, self.dice = books, dice
        self.rows: dict[str, Row] = {}
        self.frozen: dict[str, Billing] = {}
        self.zone = "UTC"
        self.adjusted = 0

    def step(self) -> None:
        what = self.dice.choice(["new", "new", "revised", "revised", "close", "prune", "zone"])
        getattr(self, f"_{what}")()

    def _new(self) -> None:
        self._write(f"r{len(self.rows)}", 1, self.dice.randrange(window_of("2026-08", "UTC").start_ms, LATER_MS))

    def _revised(self) -> None:
        if self.rows:
            known = self.dice.choice(list(self.rows.values()))
            self._write(known.id, known.revision + self.dice.randrange(-1, 3), known.timestamp_ms)

    def _write(self, id: str, revision: int, at_ms: int) -> None:
        cost = self.dice.choice([None, 0, 1, self.dice.randrange(10**12)])
        known = self.rows.get(id)
        team = known.info.labels.get("team", "") if known else self.dice.choice(["", "search", "ads"])
        made = call(id, "2026-08-01T00:00:00+00:00", cost, revision, team, timestamp_ms=at_ms)
        made = made._replace(status=self.dice.choice(["settled", "late", "assumed", "expired", "released"]))
        if made.status == "released":
            made = made._replace(usage=UsageRow())
        self.books.write(made)
        if known is None or revision > known.revision:
            self.rows[id] = made

    def _close(self) -> None:
        month = self.dice.choice(MONTHS[1:-2])
        billing, new = self.books.close(month, self.zone)
        assert new == (month not in self.frozen)
        self.frozen.setdefault(month, billing)

    def _prune(self) -> None:
        """Of closed months only, whose rows never come again."""
        if "2026-08" in self.frozen and self.dice.random() < 0.3:
            before_ms = self.frozen["2026-08"].since_ms + self.dice.randrange(86_400_000 * 27)
            self.books.ledger.prune(NAMESPACE, before_ms, 3)
            self.rows = {id: one for id, one in self.rows.items() if one.timestamp_ms >= before_ms} | {
                f"pruned {id}": one for id, one in self.rows.items() if one.timestamp_ms < before_ms
            }

    def _zone(self) -> None:
        self.zone = self.dice.choice(ZONES)

    def check(self) -> None:
        expected, found = Counter[str](), Counter[str]()
        for one in self.rows.values():
            if one.status != "released":
                expected["calls"] += 1
                expected["nanousd"] += one.usage.cost_nanousd or 0
                expected[one.info.labels.get("team", "")] += one.usage.cost_nanousd or 0
        for month in [*MONTHS, *(f"2027-{number:02d}" for number in range(3, 8))]:
            billing = self.books.billing(month, self.zone)
            if month in self.frozen:
                assert (billing.lines, billing.closing) == (self.frozen[month].lines, self.frozen[month].closing)
            for of_month, one in billing.lines:
                assert of_month == month or (of_month < month and of_month in self.frozen)
                self.adjusted += of_month != month
                found.update({"calls": one.calls, "nanousd": one.cost_nanousd})
                found[one.group[0]] += one.cost_nanousd
        assert {k: n for k, n in found.items() if n} == {k: n for k, n in expected.items() if n}


@pytest.mark.parametrize("seed", range(4))
def test_all_statements_together_bill_what_the_rows_say_whatever_comes_late(books: Books, seed: int) -> None:
    story = Story(books, random.Random(seed))
    for number in range(60):
        story.step()
        if number % 6 == 5:
            story.check()
    assert story.frozen and story.adjusted
