"""Refusals in a SQL ledger: moved there once in effect, summed by whatever is asked, forgotten with the rows."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from drain_kit import NAMESPACE, MemoryOutbox, row
from postgres_kit import Books
from redis_kit import key_prefix
from redis_world import RedisWorld
from store_kit import DAY_MS, HOUR_MS, MINUTE_MS, NOON_MS, rows

from budgetguard.core.amounts import MAX_AMOUNT, Amounts
from budgetguard.ledger import open_ledger
from budgetguard.ledger.books import open_book
from budgetguard.ledger.drain import Ledger, drain
from budgetguard.ledger.outbox import OutboxRow
from budgetguard.ledger.reading import Book, Stretch
from budgetguard.ledger.refusals import Flush
from budgetguard.ledger.sums import SLOT
from budgetguard.store import RefusalCount, RefusedBy
from budgetguard.stores import open_outbox
from budgetguard.stores.sqlite import SQLiteStore

TEAM_DAY = RefusedBy("team-day", "usd", "day/UTC", "spent")
TEAM_HOUR = RefusedBy("team-day", "tokens", "hour/UTC", "held")
AGENT = RefusedBy("each-agent", "tokens", "hour/UTC", "impossible")
SHADOW = RefusedBy("trial", "", "", "exceeded")
SEARCH = {"team": "search", "agent": "crawler", "tenant": "acme"}
ALL = Stretch(NAMESPACE)


def counted(*limits: RefusedBy, calls: int = 1, at_ms: int = NOON_MS, **more: Any) -> RefusalCount:
    made = RefusalCount(at_ms, False, "budget", limits, SEARCH, calls, Amounts())
    return made._replace(**more)


COUNTS = (
    counted(TEAM_DAY, TEAM_HOUR, calls=3, asked=Amounts(tokens=300, usd=30)),
    counted(TEAM_DAY, AGENT, calls=2, asked=Amounts(tokens=20, usd=2), at_ms=NOON_MS + 20 * MINUTE_MS),
    counted(AGENT, calls=4, asked=Amounts(tokens=4), labels={"team": "ads", "agent": "=crawler\x00"}),
    counted(SHADOW, calls=5, shadow=True, asked=Amounts(tokens=50, usd=5)),
    counted(cause="LabelRequired", calls=6, labels={}),
)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    books: Books = request.getfixturevalue("postgres")
    return books.url


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    made = open_ledger(url)
    yield made
    made.close()


@pytest.fixture
def filled(ledger: Ledger, url: str) -> Iterator[Book]:
    ledger.write([(NAMESPACE, Flush("f", COUNTS)), ("other", Flush("f", COUNTS[:1])), (NAMESPACE, row("a"))])
    book = open_book(url)
    yield book
    book.close()


def calls(book: Book, *by: str, **asked: Any) -> dict[Any, int]:
    found = book.refusals(asked.pop("stretch", ALL), by, **asked)
    return {one.group[0] if len(by) == 1 else one.group: one.calls for one in found}


def test_calls_are_counted_once_in_each_group_and_once_in_all(filled: Book) -> None:
    assert calls(filled) == {(): 20}
    assert calls(filled, "mode") == {"enforce": 15, "shadow": 5}
    assert calls(filled, "budget") == {"": 6, "each-agent": 6, "team-day": 5, "trial": 5}
    assert calls(filled, "budget", shadow=False) == {"": 6, "each-agent": 6, "team-day": 5}
    assert calls(filled, "budget", shadow=True) == {"trial": 5}
    assert calls(filled, "team") == {"": 6, "ads": 4, "search": 10}
    assert calls(filled, "reason") == {"LabelRequired": 6, "exceeded": 5, "held": 3, "impossible": 6, "spent": 5}
    assert calls(filled, "team", "budget", shadow=False) == {
        ("", ""): 6, ("ads", "each-agent"): 4, ("search", "each-agent"): 2, ("search", "team-day"): 5
    }  # fmt: skip
    assert calls(filled, "tenant") == {"": 10, "acme": 10}
    assert calls(filled, "status") == {"": 20}, "no label of these calls, and no column here"
    quarter = NOON_MS // 900_000
    assert calls(filled, SLOT) == {str(quarter): 18, str(quarter + 1): 2}


def test_what_was_asked_is_told_in_the_units_of_the_limits_that_refused(filled: Book) -> None:
    asked = {one.group: one.asked for one in filled.refusals(ALL, ["budget", "unit"])}
    assert asked == {
        ("", ""): {}, ("each-agent", "tokens"): {"tokens": 24}, ("team-day", "tokens"): {"tokens": 300},
        ("team-day", "usd"): {"usd": 32}, ("trial", ""): {"tokens": 50, "usd": 5},
    }  # fmt: skip
    (of_search,) = filled.refusals(ALL, (), {"team": "search"}, shadow=False)
    assert (of_search.calls, of_search.asked) == (5, {"tokens": 320, "usd": 32})
    assert of_search.last_ms == NOON_MS + 20 * MINUTE_MS


def test_globs_choose_calls_by_their_labels_and_limits_and_a_label_that_is_missing_matches_none(filled: Book) -> None:
    assert calls(filled, "team", where={"team": "*"}) == {"ads": 4, "search": 10}
    assert calls(filled, "budget", where={"budget": "*-agent"}) == {"each-agent": 6}
    assert calls(filled, "team", where={"budget": "team-*", "reason": "spent"}) == {"search": 5}
    assert calls(filled, where={"unit": "tokens", "reason": "spent"}) == {}, "not of one limit"
    assert calls(filled, "tenant", where={"agent": "[=]*"}) == {"": 4}
    assert calls(filled, where={"reason": "LabelRequired"}) == {(): 6}


def test_a_stretch_is_of_whole_minutes(filled: Book) -> None:
    assert calls(filled, stretch=Stretch(NAMESPACE, NOON_MS, NOON_MS + 1)) == {(): 18}
    assert calls(filled, stretch=Stretch(NAMESPACE, NOON_MS + 1)) == {(): 2}
    assert calls(filled, stretch=Stretch("other")) == {(): 3}
    assert calls(filled, stretch=Stretch("nobody")) == {}


def test_the_largest_amounts_are_added_up_exactly(ledger: Ledger, url: str) -> None:
    most = counted(AGENT, calls=1, asked=Amounts(tokens=MAX_AMOUNT))
    ledger.write([(NAMESPACE, Flush("f", (most,) * 1_100))])
    book = open_book(url)
    (found,) = book.refusals(ALL)
    book.close()
    assert found.asked == {"tokens": 1_100 * MAX_AMOUNT} and 1_100 * MAX_AMOUNT > 2**63


def test_a_flush_in_any_order_and_any_number_of_times_counts_once(ledger: Ledger, url: str) -> None:
    dice = random.Random(7)
    flushes = [Flush(f"f{n}", tuple(dice.choices(COUNTS, k=n))) for n in range(1, 8)]
    for _ in range(3):
        dice.shuffle(flushes)
        some = flushes[: dice.randint(1, 7)] + flushes + flushes[:2]
        ledger.write([(NAMESPACE, flush) for flush in some])
    book = open_book(url)
    assert calls(book) == {(): sum(one.calls for flush in flushes for one in flush.rows)}
    book.close()


def test_prune_forgets_refusals_before_an_instant_too_a_part_at_a_time(ledger: Ledger, filled: Book, url: str) -> None:
    ledger.write([(NAMESPACE, Flush("g", (counted(AGENT, at_ms=NOON_MS + DAY_MS, calls=9),)))])
    pruned = []
    while some := ledger.prune(NAMESPACE, NOON_MS + DAY_MS, 2):
        pruned.append(some)
    assert pruned == [2, 2, 2], "five refusals and a call"
    assert calls(filled) == {(): 9} and calls(filled, stretch=Stretch("other")) == {(): 3}
    assert list(filled.rows(ALL)) == []


def test_what_no_ledger_can_hold_stays_and_holds_up_no_other(tmp_path: Path) -> None:
    bad = Flush("bad", (counted(AGENT, calls=2**70),))
    outbox = MemoryOutbox([row("a")])
    for number, flush in enumerate((bad, Flush("good", COUNTS)), 2):
        entry_id = f"{number:06}"
        outbox.entries[entry_id] = OutboxRow(entry_id, NAMESPACE, flush)
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    drained = asyncio.run(drain(outbox, ledger))  # type: ignore[arg-type]
    ledger.close()
    assert (drained.rows, list(drained.unreadable), list(outbox.entries)) == (1, ["000002"], ["000002"])
    assert rows(tmp_path / "ledger.db", "SELECT DISTINCT flush_id FROM refusals") == [("good",)]


class Killed(BaseException):
    """The process ends here, without another word."""


class Mortal:
    """An outbox and a ledger of a process that is killed before its n-th step; what it writes it writes three times."""

    def __init__(self, outbox: Any, ledger: Ledger, fatal: int) -> None:
        self.outbox, self.ledger, self.fatal, self.steps = outbox, ledger, fatal, count(1)

    def _step(self) -> None:
        if next(self.steps) == self.fatal:
            raise Killed

    async def read(self, most: int, after: str = "") -> Any:
        self._step()
        found = await self.outbox.read(most, after)
        self._step()
        return found

    def write(self, entries: Sequence[Any]) -> None:
        for _ in range(3):
            self._step()
            self.ledger.write(entries)
            entries = entries[::-1]

    async def drop(self, entry_ids: Sequence[str]) -> None:
        self._step()
        await self.outbox.drop(entry_ids)
        self._step()


def test_what_redis_has_noted_comes_into_the_ledger_once_though_every_drain_is_killed(
    redis_world: RedisWorld, url: str
) -> None:
    """Each flush is noted twice, as where the answer was lost; a drain is killed before each of its steps in turn."""

    async def life(fatal: int) -> bool:
        ledger = open_ledger(url)
        outbox = open_outbox(redis_world.url, redis_world.namespace, 15_000)
        async with aclosing(outbox):
            mortal: Any = Mortal(outbox, ledger, fatal)
            try:
                await drain(mortal, mortal, 3)
            except Killed:
                return False
            finally:
                ledger.close()
        return True

    async def main() -> None:
        async with redis_world.opened() as store:
            for fatal in range(1, 8):
                for _ in range(2):
                    await store.note_refusals(f"f{fatal}", COUNTS)
                assert not await life(fatal)
        assert await life(0)

    asyncio.run(main())
    book = open_book(url)
    stretch = Stretch(redis_world.namespace)
    assert calls(book, stretch=stretch) == {(): 7 * 20}
    assert calls(book, "agent", stretch=stretch)["crawler"] == 7 * 10
    book.close()
    assert redis_world.server.ask("XLEN", f"{key_prefix(redis_world.namespace)}outbox") == 0


def test_an_entry_that_somebody_else_has_written_stays_and_is_named(redis_world: RedisWorld, tmp_path: Path) -> None:
    stream = f"{key_prefix(redis_world.namespace)}outbox"

    async def main() -> Any:
        async with redis_world.opened() as store:
            await store.note_refusals("f", COUNTS)
        for packed in (b"\x00", b"\x92\xa1f\x91\x97\x00"):
            redis_world.server.ask("XADD", stream, "*", "refusals", packed)
        ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
        async with aclosing(open_outbox(redis_world.url, redis_world.namespace, 15_000)) as outbox:
            return await drain(outbox, ledger)

    drained = asyncio.run(main())
    assert len(drained.unreadable) == 2 == redis_world.server.ask("XLEN", stream)
    assert rows(tmp_path / "ledger.db", "SELECT sum(calls) FROM refusals") == [(20,)]


def test_the_file_of_a_store_is_a_ledger_of_them_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with aclosing(SQLiteStore(str(tmp_path / "store.db"), NAMESPACE)) as store:
            await store.note_refusals("f", [counted(AGENT), counted(AGENT, at_ms=NOON_MS + HOUR_MS)])

    asyncio.run(main())
    book = open_book(f"sqlite:///{tmp_path / 'store.db'}")
    assert calls(book, "budget", stretch=Stretch(NAMESPACE, NOON_MS + 1)) == {"each-agent": 1}
    book.close()
