"""Where the verbs end: in any order of delivery at the same place; after ids are forgotten; and late."""

from __future__ import annotations

import asyncio
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import pytest
from store_kit import (
    DAY_MS,
    HOUR_MS,
    LEASE_MS,
    MINUTE_MS,
    NOON_MS,
    NOTHING,
    REPLAY_KEEP_MS,
    amounts,
    ask_one,
    dump,
    expire,
    grow,
    ledger,
    plan,
    release,
    reserve,
    rows,
    settle,
    stands,
)

from budgetguard.core.amounts import Amounts
from budgetguard.core.model import OnExpiry
from budgetguard.stores.sqlite import SQLiteStore
from budgetguard.testing.clock import FakeClock

ESTIMATE, ACTUAL, GUESS = amounts(100, 50, 7_000), amounts(90, 70, 5_000), amounts(95, 45, 6_500)
LIMITS = ("1000 tokens/hour", "$1/total", "10 requests/day", "5 concurrent", "1000 tokens/rolling 10 minutes")
VERBS = ("settle", "assume", "release", "expire")
RANK = {None: 1, "expired": 0, "released": 1, "assumed": 2, "late": 3, "settled": 3}


def operation(verb: str, of: Any) -> Any:
    return {
        "settle": settle("r", of, ACTUAL, ESTIMATE),
        "assume": settle("r", of, GUESS, ESTIMATE, "assumed"),
        "release": release("r"),
        "expire": expire("r"),
    }[verb]


def deliveries() -> list[tuple[str, ...]]:
    """Every subset of the verbs in every order, alone and with each of them delivered a second time at the end."""
    orders = [order for size in range(1, 5) for some in combinations(VERBS, size) for order in permutations(some)]
    return orders + [order + tuple(again) for order in orders for again in permutations(order, 1)]


@pytest.mark.parametrize("on_expiry", ["charge", "release"])
def test_every_order_of_delivery_ends_in_the_same_accounts_and_row(tmp_path: Path, on_expiry: OnExpiry) -> None:
    """The end is that of the highest rank delivered: expired < released < assumed < settled."""

    async def scenario() -> int:
        clock = FakeClock(NOON_MS)
        path = tmp_path / "store.db"
        known = plan(*LIMITS, on_expiry=on_expiry)
        of_expiry = ESTIMATE if on_expiry == "charge" else NOTHING
        for number, order in enumerate(deliveries()):
            clock.set(NOON_MS)
            # Each delivery in a namespace of its own: the same id and the same accounts every time.
            store = SQLiteStore(str(path), f"n{number}", clock=clock)
            await ask_one(store, reserve("r", known, ESTIMATE))
            clock.set(NOON_MS + LEASE_MS)
            for verb in order:
                await ask_one(store, operation(verb, known))
            highest = max(order, key=("expire", "release", "assume", "settle").index)
            spent = {"settle": ACTUAL, "assume": GUESS, "release": NOTHING, "expire": of_expiry}[highest]
            found = await stands(store)
            assert found == {
                "all tokens/hour@UTC": (spent.tokens, 0),
                "all usd/total": (spent.usd, 0),
                "all requests/day@UTC": (spent.requests, 0),
                "all concurrent/concurrent": (0, 0),
                "all tokens/rolling 600000ms": (spent.tokens, 0),
            }, order
            row = rows(
                path, "SELECT status, prompt_tokens, completion_tokens, cost_nanousd FROM token_usage "
                "WHERE reservation_id = 'r' AND namespace = ?", f"n{number}",
            )  # fmt: skip
            status, *told = row[0] if row else (None, 0, 0, 0)
            assert (RANK[status], told) == (RANK[RANKED[highest]], list(spent[1:4])), order
            await store.aclose()
        return len(deliveries())

    assert asyncio.run(scenario()) == 64 + 4 * 1 + 12 * 2 + 24 * 3 + 24 * 4


RANKED = {"settle": "settled", "assume": "assumed", "release": "released", "expire": "expired"}


@pytest.mark.parametrize("order", list(permutations(["settle", "assume", "release"])))
def test_an_id_that_was_never_reserved_ends_the_same_in_every_order(order: tuple[str, ...]) -> None:
    async def scenario() -> None:
        store = SQLiteStore(":memory:", clock=FakeClock(NOON_MS))
        known = plan("1000 tokens/hour")
        for verb in order:
            await ask_one(store, operation(verb, known))
        assert await stands(store) == {"all tokens/hour@UTC": (ACTUAL.tokens, 0)}
        assert (await ask_one(store, reserve("r", known, ESTIMATE))).word == "finished"
        await store.aclose()

    asyncio.run(scenario())


class Bench:
    """A store in a file, its clock, and one call that is known as "r"."""

    def __init__(self, path: Path, *limits: str) -> None:
        self.path = path
        self.clock = FakeClock(NOON_MS)
        self.store = SQLiteStore(str(path), clock=self.clock)
        self.plan = plan(*limits)

    async def do(self, *ops: Any) -> list[Any]:
        return [await ask_one(self.store, op) for op in ops]

    async def words(self, *ops: Any) -> list[str]:
        return [answer.word for answer in await self.do(*ops)]

    async def forget(self, after_ms: int) -> None:
        """Let time pass, and sweep: what is too old is gone from the file."""
        self.clock.advance(after_ms)
        await self.store.due(10)
        assert rows(self.path, "SELECT * FROM reservations") == []

    def settle(self, actual: Amounts, **what: Any) -> Any:
        return settle("r", self.plan, actual, ESTIMATE, tried_since_ms=self.clock.now_ms(), **what)


def test_a_late_settle_keeps_what_the_expiry_had_charged(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path / "store.db", "$1/total")
        await bench.do(reserve("r", bench.plan, ESTIMATE))
        bench.clock.advance(LEASE_MS)
        await bench.do(expire("r"))
        first = ledger(bench.path, "r")
        assert first is not None
        assert (first["status"], first["cost_nanousd"], first["expired_cost_nanousd"]) == ("expired", 7_000, 7_000)
        bench.clock.advance(1_000)
        await bench.do(bench.settle(ACTUAL))
        row = ledger(bench.path, "r")
        assert row is not None
        assert (row["status"], row["revision"], row["cost_nanousd"]) == ("late", 2, 5_000)
        assert (row["expired_tokens"], row["expired_cost_nanousd"]) == (150, 7_000)
        assert (row["timestamp"], row["settled_at"]) == ("2026-11-22 12:00:00.000000", "2026-11-22 12:01:01.000000")
        assert (row["estimated_tokens"], row["estimated_cost_nanousd"], row["team"]) == (150, 7_000, "search")
        await bench.store.aclose()

    asyncio.run(scenario())


def test_a_release_after_the_expiry_zeroes_the_row(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path / "store.db", "$1/total")
        await bench.do(reserve("r", bench.plan, ESTIMATE))
        bench.clock.advance(LEASE_MS)
        await bench.do(expire("r"), release("r"))
        row = ledger(bench.path, "r")
        assert row is not None
        assert (row["status"], row["revision"], row["total_tokens"], row["cost_nanousd"]) == ("released", 2, 0, 0)
        assert row["expired_cost_nanousd"] == 7_000
        assert await stands(bench.store) == {"all usd/total": (0, 0)}
        await bench.store.aclose()

    asyncio.run(scenario())


@pytest.mark.parametrize("tombstone_first", [False, True])
@pytest.mark.parametrize("first", ["settle", "assume"])
def test_a_settle_of_a_forgotten_id_asks_the_ledger(tmp_path: Path, first: str, tombstone_first: bool) -> None:
    """Also where a release of the forgotten id has left a tombstone: nothing is ever charged twice."""

    async def scenario() -> None:
        bench = Bench(tmp_path / "store.db", "$1/total", "1000 tokens/rolling 1 week", "5 requests/day")
        await bench.do(reserve("r", bench.plan, ESTIMATE), operation(first, bench.plan))
        await bench.forget(REPLAY_KEEP_MS)
        if tombstone_first:
            assert await bench.words(release("r")) == ["tombstone"]
        charged = ACTUAL if first == "settle" else GUESS
        as_first: dict[str, Any] = {"status": "settled" if first == "settle" else "assumed"}
        before = dump(bench.path)
        assert await bench.words(bench.settle(charged, **as_first)) == ["replayed"]
        assert await bench.words(bench.settle(ESTIMATE, **as_first)) == ["conflict"]
        assert dump(bench.path) == before
        other = {"settle": ("finished", ACTUAL), "assume": ("settled", ESTIMATE)}[first]
        turned: dict[str, Any] = {"status": "assumed" if first == "settle" else "settled"}
        assert await bench.words(bench.settle(ESTIMATE, **turned)) == [other[0]]
        spent = other[1]
        assert await stands(bench.store) == {
            "all usd/total": (spent.usd, 0),
            "all tokens/rolling 604800000ms": (spent.tokens, 0),
            "all requests/day@UTC": (1, 0),
        }
        await bench.store.aclose()

    asyncio.run(scenario())


def test_a_settle_of_an_expired_id_that_was_forgotten_pays_the_difference(tmp_path: Path) -> None:
    """After the seven days the ledger still knows what was charged, in which slot, and for whom."""

    async def scenario() -> None:
        bench = Bench(tmp_path / "store.db", "$1/total", "1000 tokens/rolling 4 weeks", "1000 tokens/day")
        grown = amounts(120, 50, 9_000)
        call = reserve("r", bench.plan, ESTIMATE, lease_ms=2 * DAY_MS, team="t", tenant="x")
        await bench.do(call)
        bench.clock.advance(DAY_MS)
        assert await bench.words(grow("r", bench.plan, grown)) == ["granted"]
        bench.clock.advance(DAY_MS)
        await bench.do(expire("r"))
        assert await stands(bench.store) == {"all usd/total": (9_000, 0), "all tokens/rolling 2419200000ms": (170, 0)}
        bench.clock.advance(7 * DAY_MS - 1)
        assert await bench.store.due(10) == []
        assert len(rows(bench.path, "SELECT * FROM reservations")) == 1
        await bench.forget(1)
        late = settle("r", bench.plan, ACTUAL, grown, team="t", tenant="x")
        assert await bench.words(late, late) == ["late", "replayed"]
        assert await stands(bench.store) == {"all usd/total": (5_000, 0), "all tokens/rolling 2419200000ms": (160, 0)}
        row = ledger(bench.path, "r")
        assert row is not None
        assert (row["team"], row["labels"], row["host"]) == ("t", '{"tenant":"x"}', "host-1")
        assert (row["status"], row["revision"], row["expired_cost_nanousd"]) == ("late", 2, 9_000)
        await bench.store.aclose()

    asyncio.run(scenario())


def test_a_hold_that_nobody_swept_for_a_month_is_still_resolved(tmp_path: Path) -> None:
    """The machine was off: the hold is listed, still counts, and its expiry takes nothing from the holds of others."""

    async def scenario() -> None:
        bench = Bench(tmp_path / "store.db", "$1/total", "2 concurrent")
        await bench.do(reserve("r", bench.plan, ESTIMATE))
        bench.clock.advance(32 * DAY_MS)
        now_ms = bench.clock.now_ms()
        assert await bench.words(reserve("s", bench.plan, ESTIMATE, now_ms)) == ["granted"]
        assert await stands(bench.store) == {"all usd/total": (0, 14_000), "all concurrent/concurrent": (0, 2)}
        assert await bench.store.due(10) == ["r"]
        assert await bench.words(expire("r")) == ["expired"]
        assert await bench.store.due(10) == []
        assert await stands(bench.store) == {"all usd/total": (7_000, 7_000), "all concurrent/concurrent": (0, 1)}
        await bench.store.aclose()

    asyncio.run(scenario())


@pytest.mark.parametrize(("after_ms", "counted"), [(DAY_MS + HOUR_MS - 1, True), (DAY_MS + HOUR_MS, False)])
def test_a_settle_after_its_accounts_are_gone_writes_only_the_row(tmp_path: Path, after_ms: int, counted: bool) -> None:
    """An account stands 24 hours after its window: until then a late settle counts in it, even if state was lost."""

    async def scenario() -> None:
        for id, ops in {"known": [reserve, release], "lost": []}.items():
            bench = Bench(tmp_path / f"{id}.db", "1000 tokens/hour")
            await bench.do(*(op("r") if op is release else op("r", bench.plan, ESTIMATE) for op in ops))
            bench.clock.set(NOON_MS + after_ms)
            (late,) = await bench.do(bench.settle(ACTUAL))
            row = ledger(bench.path, "r")
            assert row is not None
            assert (late.word, row["status"], row["total_tokens"]) == ("late", "late", 160)
            key = bench.plan.claims[0].account.key
            assert row["accounts"] == (f"[{key}]" if counted else "[]")
            found = rows(bench.path, "SELECT spent FROM accounts WHERE keep_until_ms > ?", bench.clock.now_ms())
            assert found == ([(160,)] if counted else [])
            await bench.store.aclose()

    asyncio.run(scenario())


def test_a_call_belongs_to_the_window_of_its_admission(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path / "store.db", "1000 tokens/minute", "1000 tokens/hour")
        await bench.do(reserve("r", bench.plan, ESTIMATE, lease_ms=HOUR_MS))
        bench.clock.advance(5 * MINUTE_MS)
        await bench.do(bench.settle(ACTUAL))
        found = rows(bench.path, "SELECT window, spent, reserved FROM accounts ORDER BY 1")
        assert found == [("2026-11-22T12+00:00", 160, 0), ("2026-11-22T12:00+00:00", 160, 0)]
        await bench.store.aclose()

    asyncio.run(scenario())
