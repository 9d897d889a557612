"""The store at its edges: the last token of a limit, every limit in its place, the slot in which a call sits, a disk
that fails between two writes.

Written where the bugs of `test_mutants` were found by no other test, or only by a long one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import apsw
import pytest
from store_kit import (
    DAY_MS,
    HOUR_MS,
    LEASE_MS,
    MINUTE_MS,
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
    ledger,
    plan,
    release,
    reserve,
    settle,
    stands,
)

from budgetguard.core.model import Account, Claim, Plan
from budgetguard.errors import StoreUnusable
from budgetguard.stores.sqlite import SQLiteStore
from budgetguard.testing.clock import FakeClock

EVERY_PERIOD = ("hour", "day", "week", "month", "total", "rolling 10 minutes")


def in_memory(scenario: Callable[[SQLiteStore, FakeClock], Awaitable[None]]) -> None:
    """Run a scenario on an empty store at noon."""

    async def run() -> None:
        clock = FakeClock(NOON_MS)
        store = SQLiteStore(":memory:", clock=clock)
        await scenario(store, clock)
        await store.aclose()

    asyncio.run(run())


@pytest.mark.parametrize("period", EVERY_PERIOD)
def test_a_limit_grants_its_last_token_and_not_one_more(period: str) -> None:
    """What is spent, what is reserved and what is asked count together."""

    async def scenario(store: SQLiteStore, clock: FakeClock) -> None:
        known = plan(f"100 tokens/{period}")
        await ask_one(store, reserve("a", known, amounts(30)))
        await ask_one(store, settle("a", known, amounts(40), amounts(30)))
        await ask_one(store, reserve("b", known, amounts(50)))
        refused = await ask_one(store, reserve("c", known, amounts(11)))
        (violation,) = refused.violations
        assert (refused.word, violation.reason) == ("refused", "held")
        assert (violation.limit, violation.spent, violation.reserved, violation.available) == (100, 40, 50, 10)
        assert (await ask_one(store, reserve("d", known, amounts(10)))).word == "granted"
        assert (await ask_one(store, reserve("e", known, amounts(1)))).word == "refused"
        await ask_one(store, release("b"))
        assert [v.reason for v in (await ask_one(store, reserve("f", known, amounts(61)))).violations] == ["spent"]
        assert (await ask_one(store, reserve("g", known, amounts(50)))).word == "granted"

    in_memory(scenario)


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_every_limit_judges_wherever_it_stands_and_every_one_that_refuses_is_named(place: int) -> None:
    async def scenario(store: SQLiteStore, clock: FakeClock) -> None:
        limits = ["1000 tokens/hour", "$1/day", "1000 input_tokens/total", "10 requests/rolling 1 hour"]
        tight = ["99 tokens/hour", "$0.000004/day", "79 input_tokens/total", "0 requests/rolling 1 hour"]
        one = plan(*limits[:place], tight[place], *limits[place + 1 :])
        call = amounts(80, 20, 5_000)
        (violation,) = (await ask_one(store, reserve("r", one, call))).violations
        assert violation.account == one.claims[place].account
        all_tight = await ask_one(store, reserve("r", plan(*tight), call))
        assert [v.account.unit for v in all_tight.violations] == ["tokens", "usd", "input_tokens", "requests"]
        assert await stands(store) == {}

    in_memory(scenario)


def test_a_unit_of_which_a_call_asks_nothing_is_not_checked() -> None:
    """A free model passes a dollar budget that is spent, even overdrawn."""

    async def scenario(store: SQLiteStore, clock: FakeClock) -> None:
        known = plan("$0.000005/day", "1000 tokens/day")
        await ask_one(store, reserve("a", known, amounts(10, 0, 5_000)))
        await ask_one(store, settle("a", known, amounts(10, 0, 9_000)))
        assert (await ask_one(store, reserve("b", known, amounts(10, 0, 1)))).word == "refused"
        assert (await ask_one(store, reserve("c", known, amounts(10, 0, 0)))).word == "granted"

    in_memory(scenario)


def test_a_shadow_budget_counts_and_does_not_refuse() -> None:
    async def scenario(store: SQLiteStore, clock: FakeClock) -> None:
        shadow = claims("watched", ["10 tokens/day"], NOON_MS, enforced=False)
        both = Plan(claims("all", ["1000 tokens/day"], NOON_MS) + shadow)
        verdict = await ask_one(store, reserve("a", both, amounts(50)))
        assert (verdict.word, verdict.would_refuse) == ("granted", ("watched",))
        assert await stands(store) == {"all tokens/day@UTC": (0, 50), "watched tokens/day@UTC": (0, 50)}

    in_memory(scenario)


@pytest.mark.parametrize("after_ms", [0, 1, REPLAY_KEEP_MS // 4, REPLAY_KEEP_MS // 2, REPLAY_KEEP_MS, 9 * HOUR_MS])
def test_a_reserve_that_comes_after_its_release_never_holds_however_late_it_is(after_ms: int) -> None:
    """As long as a reserve is not too old, the tombstone is there; sweeps do not take it away before."""

    async def scenario(store: SQLiteStore, clock: FakeClock) -> None:
        known = plan("1000 tokens/total")
        delayed = reserve("r", known, amounts(100), tried_since_ms=NOON_MS)
        assert (await ask_one(store, release("r"))).word == "tombstone"
        clock.advance(after_ms)
        await store.due(10)
        assert (await ask_one(store, delayed)).word in ("voided", "too_old")
        assert await stands(store) == {}

    in_memory(scenario)


def test_grow_takes_what_is_left_and_not_one_token_more() -> None:
    async def scenario(store: SQLiteStore, clock: FakeClock) -> None:
        known = plan("100 tokens/hour", "100 tokens/rolling 10 minutes")
        await ask(store, reserve("a", known, amounts(60)), reserve("b", known, amounts(20)))
        assert (await ask_one(store, grow("a", known, amounts(81)))).word == "refused"
        assert (await ask_one(store, grow("a", known, amounts(80)))).word == "granted"
        assert (await ask_one(store, grow("b", known, amounts(21)))).word == "refused"
        assert set((await stands(store)).values()) == {(0, 100)}

    in_memory(scenario)


def test_a_growth_moves_the_whole_hold_to_the_slot_of_now() -> None:
    """Slots of ten seconds: the hold counts a period from its growth, and its settle sits there too."""

    async def scenario(store: SQLiteStore, clock: FakeClock) -> None:
        known = plan("1000 tokens/rolling 10 minutes")
        await ask_one(store, reserve("a", known, amounts(50), lease_ms=HOUR_MS))
        clock.advance(5 * MINUTE_MS)
        await ask_one(store, grow("a", known, amounts(60)))
        clock.advance(5 * MINUTE_MS + 20_000)
        assert set((await stands(store)).values()) == {(0, 60)}
        await ask_one(store, settle("a", known, amounts(70)))
        assert set((await stands(store)).values()) == {(70, 0)}
        clock.advance(5 * MINUTE_MS - 20_001 + 10_000)
        assert set((await stands(store)).values()) == {(70, 0)}
        clock.advance(1)
        assert set((await stands(store)).values()) == {(0, 0)}

    in_memory(scenario)


def test_a_rolling_charge_sits_in_the_slot_of_the_admission() -> None:
    async def scenario(store: SQLiteStore, clock: FakeClock) -> None:
        known = plan("1000 tokens/rolling 10 minutes")
        await ask_one(store, reserve("a", known, amounts(50), lease_ms=HOUR_MS))
        clock.advance(9 * MINUTE_MS)
        await ask_one(store, settle("a", known, amounts(70)))
        assert set((await stands(store)).values()) == {(70, 0)}
        clock.advance(MINUTE_MS + 10_000)
        assert set((await stands(store)).values()) == {(0, 0)}

    in_memory(scenario)


def test_an_extended_lease_is_not_due_before_its_new_end() -> None:
    async def scenario(store: SQLiteStore, clock: FakeClock) -> None:
        await ask_one(store, reserve("a", plan("1000 tokens/total"), amounts(50)))
        clock.advance(LEASE_MS - 1)
        await ask_one(store, extend("a", LEASE_MS))
        clock.advance(LEASE_MS - 1)
        assert await store.due(10) == []
        clock.advance(1)
        assert await store.due(10) == ["a"]

    in_memory(scenario)


def test_workers_with_other_time_zone_data_share_the_account_of_a_label() -> None:
    """One day by its label, though one worker believes that it began an hour later: the account is the same."""

    async def scenario(store: SQLiteStore, clock: FakeClock) -> None:
        (claim,) = claims("all", ["100 tokens/day"], NOON_MS, zone="Africa/Cairo")
        account = claim.account
        assert account.window_start_ms is not None
        other = replace(account, window_start_ms=account.window_start_ms + HOUR_MS)
        await ask_one(store, reserve("a", Plan((claim,)), amounts(60)))
        assert (await ask_one(store, reserve("b", Plan((Claim(other, 100),)), amounts(60)))).word == "refused"
        assert isinstance(other, Account) and other.key == account.key

    in_memory(scenario)


def test_an_account_stands_as_long_as_a_hold_is_open_on_it_however_often_it_is_swept(tmp_path: Path) -> None:
    """A month after the lease: the hold still counts, and its resolution finds the account."""

    async def run() -> None:
        path, clock = tmp_path / "store.db", FakeClock(NOON_MS)
        store = SQLiteStore(str(path), clock=clock)
        known = plan("2 concurrent", "1000 tokens/rolling 1 hour", "1000 tokens/hour")
        await ask_one(store, reserve("a", known, amounts(50)))
        clock.advance(32 * DAY_MS)
        for _ in range(2):
            assert await store.due(10) == ["a"]
        assert (await stands(store))["all concurrent/concurrent"] == (0, 1)
        assert (await ask_one(store, expire("a"))).word == "expired"
        row = ledger(path, "a")
        assert row is not None
        assert known.claims[0].account.key in row["accounts"]
        assert await store.due(10) == []
        await store.aclose()

    asyncio.run(run())


def sabotage(path: Path, statement: str) -> None:
    """Change the file behind the store's back, as a broken disk or another program would."""
    db = apsw.Connection(str(path))
    db.set_busy_timeout(5_000)
    db.execute(statement)
    db.close()


@pytest.mark.parametrize("table", ["token_usage", "accounts", "reservations"])
def test_a_settle_is_recorded_whole_or_not_at_all(tmp_path: Path, table: str) -> None:
    """The disk fails at one of the three writes: account, reservation and ledger row stay as they were."""

    async def run() -> None:
        path = tmp_path / "store.db"
        store = SQLiteStore(str(path), clock=FakeClock(NOON_MS))
        known = plan("1000 tokens/hour")
        await ask_one(store, reserve("r", known, amounts(50)))
        before = dump(path)
        for verb in ("INSERT", "UPDATE"):
            fails = "BEGIN SELECT RAISE(ABORT, 'disk'); END"
            sabotage(path, f"CREATE TRIGGER broken_{verb} BEFORE {verb} ON {table} {fails}")
        with pytest.raises(StoreUnusable, match="disk"):
            await ask_one(store, settle("r", known, amounts(70), amounts(50)))
        assert dump(path) == before
        for verb in ("INSERT", "UPDATE"):
            sabotage(path, f"DROP TRIGGER broken_{verb}")
        assert (await ask_one(store, settle("r", known, amounts(70), amounts(50)))).word == "settled"
        assert await stands(store) == {"all tokens/hour@UTC": (70, 0)}
        row = ledger(path, "r")
        assert row is not None and row["total_tokens"] == 70
        await store.aclose()

    asyncio.run(run())
