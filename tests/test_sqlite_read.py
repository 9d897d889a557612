"""What a store tells of itself, a page at a time; and what its sweep forgets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

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
    expire,
    extend,
    plan,
    release,
    reserve,
    rows,
    settle,
    stands,
)

from budgetguard.core.model import Plan
from budgetguard.store import Page
from budgetguard.stores.sqlite import SQLiteStore
from budgetguard.testing.clock import FakeClock

AGENTS = [f"crawler-{n:02}" for n in range(12)] + ["planner", "[x]", "Crawler-1", None]


def of(agent: str | None) -> Plan:
    """An agent's plan: its own accounts, and the team's."""
    each = claims("each-agent", ("1000 tokens/day", "5 concurrent"), NOON_MS, (("agent", agent),))
    return Plan(each + claims("team-search", ("1000000 tokens/hour",), NOON_MS))


async def filled(path: str = ":memory:") -> SQLiteStore:
    """A store in which every agent has one open call of as many tokens as its place in the list, from one."""
    store = SQLiteStore(path, clock=FakeClock(NOON_MS))
    for number, agent in enumerate(AGENTS, 1):
        labels = {"team": "search"} if agent is None else {"team": "search", "agent": agent}
        await ask_one(store, reserve(f"r{number:02}", of(agent), amounts(number), **labels))
    return store


async def pages(read: Callable[..., Awaitable[Page[Any]]], most: int, **globs: Any) -> list[list[Any]]:
    """All pages, from the first to the one without a cursor."""
    found: list[list[Any]] = []
    cursor = None
    while not found or cursor is not None:
        page = await read(cursor=cursor, most=most, **globs)
        found.append(list(page.rows))
        cursor = page.cursor
    return found


@pytest.mark.parametrize("most", [1, 2, 7, 32, 33, 34, 1000])
@pytest.mark.parametrize("what", ["accounts", "holds"])
def test_pages_hold_every_row_once_and_none_too_many(most: int, what: str) -> None:
    async def scenario() -> None:
        store = await filled()
        read = store.read_accounts if what == "accounts" else store.read_holds
        found = await pages(read, most)
        assert all(len(page) <= most for page in found)
        assert all(len(page) == most for page in found[:-1])
        told = [row.account.key if what == "accounts" else row.id for page in found for row in page]
        assert len(told) == len(set(told)) == (33 if what == "accounts" else 16)
        await store.aclose()

    asyncio.run(scenario())


def test_rows_that_come_and_go_between_pages_do_not_disturb_the_others() -> None:
    async def scenario() -> None:
        store = await filled()
        first = await store.read_holds(most=5)
        assert [row.id for row in first.rows] == ["r01", "r02", "r03", "r04", "r05"]
        await ask(store, release("r05"), release("r07"))
        await ask_one(store, reserve("r00", of("late"), amounts(1)))
        await ask_one(store, reserve("r06b", of("late"), amounts(1)))
        second = await store.read_holds(cursor=first.cursor, most=3)
        assert [row.id for row in second.rows] == ["r06", "r06b", "r08"]
        await store.aclose()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("globs", "accounts", "holds"),
    [
        ({}, 33, 16),
        ({"budget": "each-*"}, 32, 16),
        ({"budget": "team-search"}, 1, 16),
        ({"budget": "Team-*"}, 0, 0),
        ({"budget": "*agent", "labels": {"agent": "crawler-0?"}}, 20, 10),
        ({"budget": "each-agent", "labels": {"agent": "crawler-*"}}, 24, 12),
        ({"budget": "each-agent", "labels": {"agent": "[[]x]"}}, 2, 1),
        ({"budget": "each-agent", "labels": {"agent": "(none)"}}, 2, 1),
        ({"labels": {"agent": "planner"}}, 3, 1),  # the team's account holds the planner's calls too
        ({"labels": {"agent": "planner", "team": "search"}}, 3, 1),
        ({"labels": {"team": "other"}}, 33, 0),  # no account is kept by team
        ({"labels": {"agent": "nobody"}}, 1, 0),
    ],
)
def test_globs_choose_as_fnmatchcase_does(globs: dict[str, Any], accounts: int, holds: int) -> None:
    async def scenario() -> None:
        store = await filled()
        for most in (1, 1000):
            assert sum(map(len, await pages(store.read_accounts, most, **globs))) == accounts
            assert sum(map(len, await pages(store.read_holds, most, **globs))) == holds
        await store.aclose()

    asyncio.run(scenario())


def test_a_row_says_who_holds_what_since_when() -> None:
    async def scenario() -> None:
        clock = FakeClock(NOON_MS)
        store = SQLiteStore(":memory:", clock=clock)
        await ask_one(store, reserve("r", of("a"), amounts(5, 2), team="search", agent="a"))
        clock.advance(10_000)
        await ask_one(store, extend("r", LEASE_MS))
        (hold,) = (await store.read_holds()).rows
        assert hold.labels == {"team": "search", "agent": "a"}
        assert [account.budget for account in hold.accounts] == ["each-agent", "each-agent", "team-search"]
        assert (hold.id, hold.estimate, hold.host) == ("r", amounts(5, 2), "host-1")
        assert (hold.admitted_ms, hold.lease_end_ms, hold.now_ms) == (NOON_MS, NOON_MS + 70_000, NOON_MS + 10_000)
        found = {str(row.account.period): row for row in (await store.read_accounts()).rows}
        assert {period: (row.spent, row.reserved) for period, row in found.items()} == {
            "day@UTC": (0, 7),
            "hour@UTC": (0, 7),
            "concurrent": (0, 1),
        }
        hour = found["hour@UTC"]
        assert (hour.account.window_end_ms, hour.now_ms) == (NOON_MS + HOUR_MS, NOON_MS + 10_000)
        await store.aclose()

    asyncio.run(scenario())


def test_accounts_of_windows_that_are_over_are_not_shown() -> None:
    async def scenario() -> None:
        clock = FakeClock(NOON_MS)
        store = SQLiteStore(":memory:", clock=clock)
        known = plan("9 tokens/hour", "9 tokens/day", "9 tokens/rolling 10 minutes", "9 tokens/total", "3 concurrent")
        await ask(store, reserve("r", known, amounts(5)), reserve("s", known, amounts(1)))
        await ask_one(store, settle("r", known, amounts(5)))
        clock.set(NOON_MS + HOUR_MS - 1)
        assert "all tokens/hour@UTC" in await stands(store)
        clock.set(NOON_MS + HOUR_MS)
        assert await stands(store) == {
            "all tokens/day@UTC": (5, 1),
            "all tokens/rolling 600000ms": (0, 0),
            "all tokens/total": (5, 1),
            "all concurrent/concurrent": (0, 1),
        }
        await store.aclose()

    asyncio.run(scenario())


# How long each account stands after the last call on it (DESIGN 5), where nothing is held.
STANDS_MS = {
    "9 tokens/minute": 60_000 + DAY_MS,
    "9 tokens/hour": HOUR_MS + DAY_MS,
    "9 tokens/rolling 10 minutes": 1_000 + 600_000 + DAY_MS,
    "9 tokens/total": 1_000 + 400 * DAY_MS,
    "9 concurrent": LEASE_MS + DAY_MS,
}


@pytest.mark.parametrize("limit", STANDS_MS)
def test_the_sweep_forgets_an_account_when_its_time_is_over_and_not_before(tmp_path: Path, limit: str) -> None:
    async def scenario() -> None:
        path, clock = tmp_path / "store.db", FakeClock(NOON_MS)
        store = SQLiteStore(str(path), clock=clock)
        known = plan(limit)
        await ask_one(store, reserve("r", known, amounts(5)))
        clock.advance(1_000)
        await ask_one(store, settle("r", known, amounts(5)))
        clock.set(NOON_MS + STANDS_MS[limit] - 1)
        await store.due(1)
        assert rows(path, "SELECT count(*) FROM accounts") == [(1,)]
        clock.advance(1)
        await store.due(1)
        assert rows(path, "SELECT count(*) FROM accounts") == [(0,)]
        assert rows(path, "SELECT count(*) FROM token_usage") == [(1,)]  # the ledger stays
        await store.aclose()

    asyncio.run(scenario())


def test_the_sweep_forgets_reservations_by_their_state_and_plans_that_nobody_needs(tmp_path: Path) -> None:
    async def scenario() -> None:
        path, clock = tmp_path / "store.db", FakeClock(NOON_MS)
        store = SQLiteStore(str(path), clock=clock)
        one, other = plan("99 tokens/total", name="one"), plan("99 tokens/total", name="other")
        ids = ("settled", "assumed", "released", "expired", "held")
        await ask(store, *(reserve(id, one, amounts(5), lease_ms=1_000) for id in ids[:4]))
        await ask_one(store, reserve("held", other, amounts(5), lease_ms=60 * DAY_MS))
        await ask(store, settle("settled", one, amounts(5)), settle("assumed", one, amounts(5), status="assumed"))
        await ask(store, release("released"), release("tombstone"))
        clock.advance(1_000)
        await ask_one(store, expire("expired"))
        standing = {*ids, "tombstone"}
        for at_ms, gone in [
            (NOON_MS + REPLAY_KEEP_MS - 1, set()),
            (NOON_MS + REPLAY_KEEP_MS, {"settled", "assumed", "released", "tombstone"}),
            (NOON_MS + 1_000 + 7 * DAY_MS - 1, set()),
            (NOON_MS + 1_000 + 7 * DAY_MS, {"expired"}),
            (NOON_MS + 59 * DAY_MS, set()),
        ]:
            clock.set(at_ms)
            await store.due(1)
            standing -= gone
            assert {id for (id,) in rows(path, "SELECT id FROM reservations")} == standing, at_ms
        assert [body.split('"')[3] for (body,) in rows(path, "SELECT body FROM plans")] == ["other"]
        clock.set(NOON_MS + 60 * DAY_MS)
        assert await store.due(1) == ["held"]
        await store.aclose()

    asyncio.run(scenario())


def test_what_is_due_comes_oldest_first_and_no_more_than_asked(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = FakeClock(NOON_MS)
        store = SQLiteStore(str(tmp_path / "store.db"), clock=clock)
        known = plan("99 tokens/total")
        for id, lease_ms in {"c": 3_000, "a": 2_000, "b": 1_000, "d": 4_000}.items():
            await ask_one(store, reserve(id, known, amounts(1), lease_ms=lease_ms))
        clock.set(NOON_MS + 999)
        assert await store.due(10) == []
        clock.set(NOON_MS + 3_000)
        assert await store.due(2) == ["b", "a"]
        assert await store.due(10) == ["b", "a", "c"]
        await ask(store, expire("a"), expire("b"))
        assert await store.due(10) == ["c"]
        refused = await ask_one(store, reserve("e", known, amounts(100)))
        assert (refused.word, refused.sweep_due) == ("refused", True)
        await ask_one(store, expire("c"))
        assert (await ask_one(store, reserve("e", known, amounts(100)))).sweep_due is False
        await store.aclose()

    asyncio.run(scenario())
