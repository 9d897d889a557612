"""A call that is refused, for whatever reason, leaves every row of every table as it was: only the clock may move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest
from store_kit import (
    DAY_MS,
    HOUR_MS,
    LEASE_MS,
    NOON_MS,
    REPLAY_KEEP_MS,
    amounts,
    ask,
    ask_one,
    claims,
    dump,
    expire,
    extend,
    grow,
    plan,
    release,
    reserve,
    settle,
)

from budgetguard.core.model import Plan
from budgetguard.stores.sqlite import SQLiteStore
from budgetguard.testing.clock import FakeClock

NOW_MS = NOON_MS + LEASE_MS
SMALL, LARGE = amounts(60, 20, 40_000_000), amounts(5_000, 0, 2_000_000_000)
TEAM = claims("team", ("1000 tokens/hour", "$1/day", "600 tokens/rolling 10 minutes", "8 concurrent"), NOON_MS)
WATCHED = claims("watched", ("10 tokens/hour", "1 concurrent"), NOON_MS, enforced=False, alert_levels=(5, 10))
ALERTED = claims("alerted", ("$0.50/total", "1000 requests/week"), NOON_MS, alert_levels=(50_000_000, 100_000_000))
FULL = Plan(TEAM + WATCHED + ALERTED)
EVERY = {"spent", "impossible", "held"}
NEW = claims("new", ("$1/day", "9 concurrent"), NOON_MS, (("agent", "seen for the first time"),))


def refusing(*texts: str, first: Any = (), last: Any = ()) -> Plan:
    """The team's accounts with other limits, in a plan with others."""
    return Plan((*first, *claims("team", texts, NOON_MS), *last))


REFUSED: dict[str, tuple[Plan, Any, set[str]]] = {
    "more than the limit": (FULL, LARGE, {"impossible"}),
    "more than what is not spent": (refusing("130 tokens/hour"), SMALL, {"spent"}),
    "more than what is not held": (refusing("300 tokens/hour", "2 concurrent"), SMALL, {"held"}),
    "a full rolling period": (refusing("150 tokens/rolling 10 minutes"), SMALL, {"spent"}),
    "every reason at once": (refusing("130 tokens/hour", "$0/day", "2 concurrent"), SMALL, EVERY),
    "beside accounts that would be new": (refusing("2 concurrent", first=NEW), SMALL, {"held"}),
    "beside shadow and alerts": (refusing("2 concurrent", first=WATCHED, last=ALERTED[1:]), SMALL, {"held"}),
}


async def filled(store: Any, clock: FakeClock) -> None:
    """Fill a store with something of everything: each state, both kinds of expiry, shadow, alerts, a slot or two."""
    lenient = Plan(FULL.claims, "release")
    for id in ("settled", "assumed", "released", "expired"):
        assert (await ask_one(store, reserve(id, FULL, SMALL))).word == "granted"
    await ask(store, settle("settled", FULL, SMALL), settle("assumed", FULL, amounts(9), status="assumed"))
    await ask(store, release("released"), release("tombstone"))
    assert (await ask_one(store, reserve("abandoned", lenient, SMALL))).word == "granted"
    clock.set(NOW_MS)
    await ask(store, expire("expired"), expire("abandoned"))
    for id in ("held", "held too"):
        assert (await ask_one(store, reserve(id, FULL, amounts(30, 0, 1), NOW_MS))).word == "granted"


@asynccontextmanager
async def busy(path: Path) -> AsyncIterator[SQLiteStore]:
    """A file that is `filled`."""
    clock = FakeClock(NOON_MS)
    store = SQLiteStore(str(path), clock=clock)
    await filled(store, clock)
    try:
        yield store
    finally:
        await store.aclose()


@pytest.mark.parametrize("why", REFUSED)
def test_a_refused_reserve_leaves_every_row_identical(tmp_path: Path, why: str) -> None:
    async def scenario() -> None:
        path = tmp_path / "store.db"
        of, asked, reasons = REFUSED[why]
        async with busy(path) as store:
            before = dump(path, clocks=True)
            look = apsw.Connection(str(path))
            version = look.execute("PRAGMA data_version").fetchall()
            refused = await ask_one(store, reserve("new", of, asked, NOW_MS))
            assert (refused.word, {v.reason for v in refused.violations}) == ("refused", reasons)
            assert dump(path, clocks=True) == before
            # At the same instant nothing at all is written: the file has not even changed its version.
            assert look.execute("PRAGMA data_version").fetchall() == version
            look.close()
            # A refused id is unknown: it may be asked again, and is decided anew.
            again = await ask_one(store, reserve("new", plan("$9/week", name="other"), SMALL, NOW_MS))
            assert again.word == "granted"

    asyncio.run(scenario())


def unanswered(now_ms: int) -> dict[str, list[Any]]:
    """Operations that change nothing, by the answer."""
    ended = ("settled", "assumed", "released", "expired", "abandoned")
    more = Plan(claims("team", ("200 tokens/hour",), NOON_MS))
    return {
        "finished": [
            *(reserve(id, FULL, SMALL, now_ms) for id in ended),
            *(grow(id, FULL, LARGE) for id in (*ended, "tombstone")),
            *(extend(id, DAY_MS) for id in (*ended, "tombstone")),
            *(expire(id) for id in ("settled", "assumed", "released", "tombstone")),
            *(release(id) for id in ("settled", "assumed")),
            settle("settled", FULL, SMALL, status="assumed"),
        ],
        "replayed": [
            reserve("held", FULL, amounts(30, 0, 1), now_ms), extend("held", 1), grow("held", FULL, amounts(1)),
            settle("settled", FULL, SMALL), settle("assumed", FULL, amounts(9), status="assumed"),
            release("released"), release("tombstone"), expire("expired"), expire("abandoned"),
        ],
        "conflict": [
            reserve("held", FULL, SMALL, now_ms), reserve("held", Plan(TEAM), amounts(30, 0, 1), now_ms),
            settle("settled", FULL, LARGE), settle("assumed", FULL, LARGE, status="assumed"),
        ],
        "voided": [reserve("tombstone", FULL, SMALL, now_ms)],
        "too_old": [reserve("new", FULL, SMALL, now_ms - REPLAY_KEEP_MS)],
        "stale_window": [reserve("new", plan("9 tokens/hour", now_ms=now_ms + HOUR_MS), SMALL, now_ms)],
        "unknown": [grow("new", FULL, SMALL), extend("new", 1), expire("new")],
        "not_due": [expire("held")],
        "refused": [grow("held", FULL, LARGE), grow("held", more, amounts(190))],
    }  # fmt: skip


@pytest.mark.parametrize("word", unanswered(0))
def test_an_operation_that_changes_nothing_leaves_every_row_identical(tmp_path: Path, word: str) -> None:
    async def scenario() -> None:
        path = tmp_path / "store.db"
        async with busy(path) as store:
            before = dump(path, clocks=True)
            for op in unanswered(NOW_MS)[word]:
                assert (await ask_one(store, op)).word == word, op
                assert dump(path, clocks=True) == before, op

    asyncio.run(scenario())


def test_a_clock_that_is_behind_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "store.db"
        async with busy(path) as store:
            await store.aclose()
            before = dump(path, clocks=True)
            late = SQLiteStore(str(path), clock=FakeClock(NOW_MS - 60_001))
            assert (await ask_one(late, reserve("new", FULL, amounts(1), NOW_MS))).word == "clock"
            assert (await ask_one(late, grow("held", FULL, amounts(31)))).word == "clock"
            await late.aclose()
            assert dump(path, clocks=True) == before

    asyncio.run(scenario())


def test_only_the_clock_moves_when_time_has_passed(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "store.db"
        async with busy(path) as store:
            await store.aclose()
            before = dump(path)
            later = SQLiteStore(str(path), clock=FakeClock(NOW_MS + 5))
            assert (await ask_one(later, reserve("new", FULL, LARGE, NOW_MS))).word == "refused"
            await later.aclose()
            assert dump(path) == before
            assert dump(path, clocks=True)["clocks"] == [("default", NOW_MS + 5)]

    asyncio.run(scenario())


def test_a_refusal_that_shares_a_transaction_with_admissions_changes_nothing_of_them(tmp_path: Path) -> None:
    """The file after granted, refused, granted is the file after granted, granted."""

    async def scenario() -> None:
        dumps = []
        asked = [reserve("a", FULL, amounts(1), NOW_MS), reserve("no", FULL, LARGE, NOW_MS)]
        asked += [reserve("no too", Plan(NEW + ALERTED), LARGE, NOW_MS), reserve("b", FULL, amounts(2), NOW_MS)]
        for ops in (asked, [asked[0], asked[3]]):
            path = tmp_path / f"{len(ops)}.db"
            async with busy(path) as store:
                words = [answer.word for answer in await ask(store, *ops)]
                assert words == (["granted", "refused", "refused", "granted"] if len(ops) == 4 else ["granted"] * 2)
                dumps.append({name: rows for name, rows in dump(path, clocks=True).items() if name != "meta"})
        assert dumps[0] == dumps[1]

    asyncio.run(scenario())
