"""The matrix of DESIGN 4, cell by cell, through the real store: what each verb answers to a reservation in each state,
what it does to every account and to the ledger, and in which order a reserve looks for a reason to say no."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from store_kit import (
    LEASE_MS,
    NOON_MS,
    NOTHING,
    REPLAY_KEEP_MS,
    amounts,
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

from budgetguard.core.amounts import Amounts
from budgetguard.core.model import Plan
from budgetguard.stores.sqlite import SQLiteStore
from budgetguard.testing.clock import FakeClock

ESTIMATE, ACTUAL = amounts(100, 50, 7_000), amounts(90, 70, 5_000)
GUESS, MORE = amounts(95, 45, 6_500), amounts(200, 50)
LIMITS = (
    "1000 tokens/hour", "1000 input_tokens/day", "1000 output_tokens/month", "$1/week", "10 requests/day",
    "5 concurrent", "1000 tokens/rolling 10 minutes", "$1/total",
)  # fmt: skip
ALL = plan(*LIMITS)
DUE_MS = NOON_MS + LEASE_MS

MATRIX = """
                unknown   held      settled   assumed   released  expired   tombstone
reserve         granted   replayed  finished  finished  finished  finished  voided
reserve_other   granted   conflict  finished  finished  finished  finished  voided
settle          late      settled   replayed  settled   late      late      late
settle_other    late      settled   conflict  settled   late      late      late
assume          late      settled   finished  replayed  late      late      late
assume_other    late      settled   finished  conflict  late      late      late
release         tombstone released  finished  finished  replayed  released  replayed
grow            unknown   granted   finished  finished  finished  finished  finished
grow_less       unknown   replayed  finished  finished  finished  finished  finished
extend          unknown   extended  finished  finished  finished  finished  finished
extend_less     unknown   replayed  finished  finished  finished  finished  finished
expire          unknown   expired   finished  finished  finished  replayed  finished
expire_early    unknown   not_due   finished  finished  finished  replayed  finished
"""
VERBS: dict[str, Callable[[], Any]] = {
    "reserve": lambda: reserve("r", ALL, ESTIMATE),
    "reserve_other": lambda: reserve("r", ALL, MORE),
    "settle": lambda: settle("r", ALL, ACTUAL, ESTIMATE),
    "settle_other": lambda: settle("r", ALL, MORE, ESTIMATE),
    "assume": lambda: settle("r", ALL, GUESS, ESTIMATE, "assumed"),
    "assume_other": lambda: settle("r", ALL, MORE, ESTIMATE, "assumed"),
    "release": lambda: release("r"),
    "grow": lambda: grow("r", ALL, MORE),
    "grow_less": lambda: grow("r", ALL, ACTUAL._replace(output_tokens=1, tokens=91)),
    "extend": lambda: extend("r", 2 * LEASE_MS),
    "extend_less": lambda: extend("r", LEASE_MS - 1_000),
    "expire": lambda: expire("r"),
    "expire_early": lambda: expire("r"),
}
STATES = {
    "unknown": (),
    "held": ("reserve",),
    "settled": ("reserve", "settle"),
    "assumed": ("reserve", "assume"),
    "released": ("reserve", "release"),
    "expired": ("reserve", "expire"),
    "tombstone": ("release",),
}
# What stands afterwards where a verb changes something: spent, reserved, and the row (status, amounts, revision).
LATE, ASSUMED = (ACTUAL, NOTHING, ("late", ACTUAL, 1)), (GUESS, NOTHING, ("assumed", GUESS, 1))
LATE_OTHER, ASSUMED_OTHER = (MORE, NOTHING, ("late", MORE, 1)), (MORE, NOTHING, ("assumed", MORE, 1))
AFTER: dict[tuple[str, str], tuple[Amounts, Amounts, tuple[str, Amounts, int] | None]] = {
    ("reserve", "unknown"): (NOTHING, ESTIMATE, None),
    ("reserve_other", "unknown"): (NOTHING, MORE, None),
    ("settle", "held"): (ACTUAL, NOTHING, ("settled", ACTUAL, 1)),
    ("settle", "assumed"): (ACTUAL, NOTHING, ("settled", ACTUAL, 2)),
    ("settle", "expired"): (ACTUAL, NOTHING, ("late", ACTUAL, 2)),
    ("settle_other", "held"): (MORE, NOTHING, ("settled", MORE, 1)),
    ("settle_other", "assumed"): (MORE, NOTHING, ("settled", MORE, 2)),
    ("settle_other", "expired"): (MORE, NOTHING, ("late", MORE, 2)),
    ("assume", "held"): ASSUMED,
    ("assume", "expired"): (GUESS, NOTHING, ("assumed", GUESS, 2)),
    ("assume_other", "held"): ASSUMED_OTHER,
    ("assume_other", "expired"): (MORE, NOTHING, ("assumed", MORE, 2)),
    ("release", "held"): (NOTHING, NOTHING, None),
    ("release", "expired"): (NOTHING, NOTHING, ("released", NOTHING, 2)),
    ("grow", "held"): (NOTHING, amounts(200, 50, 7_000), None),
    ("expire", "held"): (ESTIMATE, NOTHING, ("expired", ESTIMATE, 1)),
    **{("settle", state): LATE for state in ("unknown", "released", "tombstone")},
    **{("settle_other", state): LATE_OTHER for state in ("unknown", "released", "tombstone")},
    **{("assume", state): ASSUMED for state in ("unknown", "released", "tombstone")},
    **{("assume_other", state): ASSUMED_OTHER for state in ("unknown", "released", "tombstone")},
}
CHANGING = {"granted", "settled", "late", "released", "tombstone", "extended", "expired"}
HIDDEN_CHANGES = {("release", "unknown"), ("extend", "held")}
"""A tombstone, or a later lease: rows that no account and no ledger shows."""


def cells() -> list[tuple[str, str, str]]:
    head, *lines = [line.split() for line in MATRIX.strip().splitlines()]
    return [(verb, state, word) for verb, *words in lines for state, word in zip(head, words, strict=True)]


def standing(spent: Amounts, reserved: Amounts, of: Plan = ALL) -> dict[str, tuple[int, int]]:
    """What `stands` tells if one call has so much spent and reserved on each account of the plan."""
    return {
        f"{a.budget} {a.unit}/{a.period}": (
            0 if a.unit == "concurrent" else getattr(spent, a.unit),
            getattr(reserved, a.unit),
        )
        for a in (claim.account for claim in of.claims)
    }


@pytest.fixture(params=["memory", "file"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the store is: the same rule holds in memory and in a file."""
    return ":memory:" if request.param == "memory" else str(tmp_path / "store.db")


async def bring(store: SQLiteStore, clock: FakeClock, state: str) -> None:
    """Bring the reservation "r" into a state."""
    for verb in STATES[state]:
        if verb == "expire":
            clock.set(DUE_MS)
        await ask_one(store, VERBS[verb]())


def row_seen(path: str) -> tuple[str, Amounts, int] | None:
    row = ledger(path, "r")
    if row is None:
        return None
    told = amounts(row["prompt_tokens"], row["completion_tokens"], row["cost_nanousd"])
    return row["status"], told if any(told[:4]) else NOTHING, row["revision"]


@pytest.mark.parametrize(("verb", "state", "word"), cells())
def test_every_cell_answers_and_changes_what_the_matrix_says(path: str, verb: str, state: str, word: str) -> None:
    async def scenario() -> None:
        clock = FakeClock(NOON_MS)
        store = SQLiteStore(path, clock=clock)
        await bring(store, clock, state)
        if verb == "expire":
            clock.set(DUE_MS)
        on_disk = path != ":memory:"
        before, rows_before = await stands(store), dump(path) if on_disk else None
        answer = await ask_one(store, VERBS[verb]())
        assert answer.word == word
        assert answer.now_ms == clock.now_ms()
        after = AFTER.get((verb, state))
        if after is None:
            assert await stands(store) == before
            assert on_disk is False or (verb, state) in HIDDEN_CHANGES or dump(path) == rows_before
        else:
            spent, reserved, row = after
            assert await stands(store) == standing(spent, reserved)
            assert on_disk is False or row_seen(path) == row
        # Once more at the same instant: the same answer in other words, and nothing moves.
        now_stands = await stands(store)
        again = await ask_one(store, VERBS[verb]())
        assert again.word == ("replayed" if word in CHANGING else word)
        assert await stands(store) == now_stands
        await store.aclose()

    asyncio.run(scenario())


def test_the_table_has_every_verb_and_every_state() -> None:
    assert len(cells()) == len(VERBS) * len(STATES) == 91


@pytest.mark.parametrize("released_too", [False, True])
def test_an_expiry_that_releases_returns_the_hold(path: str, released_too: bool) -> None:
    """`on_expiry = "release"`: nothing is spent; the row says that the call was abandoned. A late settle counts."""

    async def scenario() -> None:
        clock = FakeClock(NOON_MS)
        store = SQLiteStore(path, clock=clock)
        lenient = plan(*LIMITS, on_expiry="release")
        await ask_one(store, reserve("r", lenient, ESTIMATE))
        clock.set(DUE_MS)
        assert (await ask_one(store, expire("r"))).word == "expired"
        assert path == ":memory:" or row_seen(path) == ("expired", NOTHING, 1)
        assert await stands(store) == standing(NOTHING, NOTHING)
        if released_too:
            assert (await ask_one(store, release("r"))).word == "released"
        late = await ask_one(store, settle("r", lenient, ACTUAL, ESTIMATE))
        assert late.word == "late"
        assert await stands(store) == standing(ACTUAL, NOTHING)
        await store.aclose()

    asyncio.run(scenario())


def test_reasons_to_say_no_are_looked_for_in_the_documented_order() -> None:
    """The id; too_old; clock; stale_window; the limits. Each case has every fault but those before it."""

    async def scenario() -> None:
        clock = FakeClock(NOON_MS)
        store = SQLiteStore(":memory:", clock=clock)
        await ask_one(store, reserve("known", ALL, ESTIMATE))
        yesterday = plan("1 tokens/hour", now_ms=NOON_MS - 86_400_000)
        clock.set(NOON_MS - 60_001)
        old = NOON_MS - REPLAY_KEEP_MS // 2 - 1
        assert (await ask_one(store, reserve("known", yesterday, MORE, old))).word == "conflict"
        assert (await ask_one(store, reserve("new", yesterday, MORE, old))).word == "too_old"
        assert (await ask_one(store, reserve("new", yesterday, MORE, old + 1))).word == "clock"
        clock.set(NOON_MS - 60_000)
        stale = await ask_one(store, reserve("new", yesterday, MORE))
        assert (stale.word, stale.now_ms) == ("stale_window", NOON_MS)
        refused = await ask_one(store, reserve("new", plan("1 tokens/hour", "2 requests/day"), MORE))
        assert (refused.word, [v.reason for v in refused.violations]) == ("refused", ["impossible"])
        assert (await ask_one(store, reserve("new", ALL, ESTIMATE))).word == "granted"
        await store.aclose()

    asyncio.run(scenario())


def test_a_window_that_has_not_begun_or_has_ended_is_stale_at_its_edges() -> None:
    async def scenario() -> None:
        hour = plan("1000 tokens/hour")
        for at_ms, word in [
            (NOON_MS - 1, "stale_window"),
            (NOON_MS, "granted"),
            (NOON_MS + 3_599_999, "granted"),
            (NOON_MS + 3_600_000, "stale_window"),
        ]:
            store = SQLiteStore(":memory:", clock=FakeClock(at_ms))
            assert (await ask_one(store, reserve("r", hour, ESTIMATE, at_ms))).word == word
            assert await stands(store) == ({} if word == "stale_window" else standing(NOTHING, ESTIMATE, hour))
            await store.aclose()

    asyncio.run(scenario())


def test_a_clock_that_is_behind_admits_no_growth_either_and_lets_everything_else_pass() -> None:
    async def scenario() -> None:
        clock = FakeClock(NOON_MS)
        store = SQLiteStore(":memory:", clock=clock)
        for id in ("a", "b", "c"):
            await ask_one(store, reserve(id, ALL, ESTIMATE))
        clock.set(NOON_MS - 61_000)
        assert (await ask_one(store, grow("a", ALL, MORE))).word == "clock"
        assert (await ask_one(store, grow("a", ALL, ESTIMATE))).word == "replayed"
        assert (await ask_one(store, extend("a", 2 * LEASE_MS))).word == "extended"
        assert (await ask_one(store, settle("a", ALL, ACTUAL, ESTIMATE))).word == "settled"
        assert (await ask_one(store, release("b"))).word == "released"
        assert (await ask_one(store, expire("c"))).word == "not_due"
        assert (await ask_one(store, expire("c"))).now_ms == NOON_MS
        await store.aclose()

    asyncio.run(scenario())


def test_the_same_content_is_budgets_per_values_units_and_amounts_never_windows_limits_or_lease() -> None:
    async def scenario() -> None:
        clock = FakeClock(NOON_MS)
        store = SQLiteStore(":memory:", clock=clock)
        mine = Plan(claims("each", ("1000 tokens/hour", "$1/day"), NOON_MS, (("agent", "a"),)))
        await ask_one(store, reserve("r", mine, ESTIMATE))
        clock.advance(3_600_000)
        tomorrow_ms = NOON_MS + 86_400_000
        same = [
            Plan(claims("each", ("1 tokens/hour", "$9/day"), tomorrow_ms, (("agent", "a"),), enforced=False)),
            Plan(mine.claims, "release"),
        ]
        other = [
            Plan(claims("each", ("1000 tokens/hour", "$1/day"), NOON_MS, (("agent", "b"),))),
            Plan(claims("each", ("1000 tokens/hour", "$1/day"), NOON_MS, (("agent", None),))),
            Plan(claims("eAch", ("1000 tokens/hour", "$1/day"), NOON_MS, (("agent", "a"),))),
            Plan(claims("each", ("1000 input_tokens/hour", "$1/day"), NOON_MS, (("agent", "a"),))),
            Plan(claims("each", ("1000 tokens/hour",), NOON_MS, (("agent", "a"),))),
        ]
        for found in same:
            assert (await ask_one(store, reserve("r", found, ESTIMATE, lease_ms=5))).word == "replayed"
        for found in other:
            assert (await ask_one(store, reserve("r", found, ESTIMATE))).word == "conflict"
        assert (await ask_one(store, reserve("r", mine, ESTIMATE._replace(usd=1)))).word == "conflict"
        await store.aclose()

    asyncio.run(scenario())
