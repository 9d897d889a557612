"""Every public coroutine, cancelled in each round of the loop while it is under way, once and twice: nothing leaks.

Afterwards nothing is reserved and nobody waits, no task is left, the cancellation has come through, and what was sent
to a provider is in the ledger, with what was recorded of it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest
from cancel_cases import BUDGETS, CASES, ERRORS, Case, looked
from cancel_kit import Ran, StrikingLoop, run_struck
from guard_kit import LossyStore, World, until

import budgetguard as bg
from budgetguard import telling

STEPS = 1
"""Rounds of the loop before and after each verb of the store: an answer takes several steps to come."""
FEWEST_POINTS = 3
DUTIES = 4
"""How many timers an open guard has."""


async def struck(
    kind: type[Case], world: World, guard: bg.Guard, store: LossyStore, at: frozenset[int], everybody: bool = False
) -> Ran:
    """One run: everything is let go of, and everything is checked."""
    if kind.fresh:
        store = LossyStore(world.store(), STEPS)
        guard = world.guard(budgets=BUDGETS, store=store)
    case = kind(world, guard, store)
    await case.before()
    ran = await run_struck(case.play(), at, everybody)
    await case.after()
    if kind.fresh:
        await guard.aclose()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, StrikingLoop)
        assert loop.timers() <= DUTIES, "the guard that was closed has no duties any more; the other one has"
    wanted = asyncio.CancelledError if ran.struck else ERRORS.get(kind, type(None))
    assert isinstance(ran.error, wanted), f"ended with {ran.error!r}"
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()}, "no task is left")
    await until(lambda: looked(world, "SELECT count(*) FROM reservations WHERE state = 'held'") == [(0,)], "none held")
    assert looked(world, "SELECT count(*) FROM accounts WHERE reserved <> 0") == [(0,)]
    for id, tokens in case.billed.items():
        row = looked(world, "SELECT total_tokens FROM token_usage WHERE reservation_id = ?", id)
        assert row == [(tokens,)], "what was sent is in the ledger, with what was recorded"
    return ran


async def plays(kind: type[Case], world: World) -> AsyncIterator[tuple[str, Ran]]:
    """Every run of a case: unstruck; at each k, and again at each later point; and every task at each k."""
    store = LossyStore(world.store(), STEPS)
    guard = world.guard(budgets=BUDGETS, store=store)
    await guard.status()
    try:
        yield "unstruck", await struck(kind, world, guard, store, frozenset())
        for k in itertools.count(1):
            ran = await struck(kind, world, guard, store, frozenset({k}), everybody=True)
            yield f"everybody at {k}", ran
            for j in itertools.count(k):
                ran = await struck(kind, world, guard, store, frozenset({k, j}))
                yield f"at {k} and {j}", ran
                if ran.points < j:
                    break
            if not ran.struck:
                break
    finally:
        await guard.aclose()


@pytest.mark.parametrize("kind", CASES)
def test_cancelled_at_any_point_and_once_more_at_any_later_nothing_leaks(
    world: World, kind: type[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "COUNT_KEPT_S", -1.0)  # each refusal counts the open calls anew
    runs: dict[str, Ran] = {}

    async def main() -> None:
        async for name, ran in plays(kind, world):
            runs[name] = ran

    with asyncio.Runner(loop_factory=StrikingLoop) as runner:
        runner.run(main())
    points = runs["unstruck"].points
    print(f"{kind.__name__}: {points} points, {len(runs)} runs")
    assert points >= FEWEST_POINTS
    assert sum(ran.struck for ran in runs.values()) > points
