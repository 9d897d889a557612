"""Every run of a public coroutine that is cancelled: at each point, once and again; what must be true afterwards."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

from cancel_cases import BUDGETS, ERRORS, Case, Look
from cancel_kit import Ran, StrikingLoop, run_struck
from guard_kit import LossyStore, World, until

import budgetguard as bg

STEPS = 2
"""Rounds of the loop before and after each verb of the store: an answer takes several steps to come."""
FEWEST_POINTS = 3
DUTIES = 8
"""How many timers an open guard has."""


def check_every_point(kind: type[Case], world: World, look: Look) -> None:
    """Cancel it at each point, once and twice, on a loop of its own."""
    runs: dict[str, Ran] = {}

    async def main() -> None:
        async for name, ran in plays(kind, world, look):
            runs[name] = ran

    with asyncio.Runner(loop_factory=StrikingLoop) as runner:
        runner.run(main())
    points = runs["unstruck"].points
    print(f"{kind.__name__}: {points} points, {len(runs)} runs")
    assert points >= FEWEST_POINTS
    assert sum(ran.struck for ran in runs.values()) > points


async def struck(
    kind: type[Case], world: World, look: Look, guard: bg.Guard, store: LossyStore, at: frozenset[int],
    everybody: bool = False,
) -> Ran:  # fmt: skip
    """One run: everything is let go of, and everything is checked."""
    if kind.fresh:
        store = LossyStore(world.store(), STEPS)
        guard = world.guard(budgets=BUDGETS, store=store)
    case = kind(world, look, guard, store)
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
    await until(lambda: look.held() == 0, "none held")
    assert look.reserved() == 0
    for id, tokens in case.billed.items():
        assert look.charged(id) == tokens, "what was sent is in the ledger, with what was recorded"
    return ran


async def plays(kind: type[Case], world: World, look: Look) -> AsyncIterator[tuple[str, Ran]]:
    """Every run of a case: unstruck; at each k, and again at each later point; and every task at each k."""
    store = LossyStore(world.store(), STEPS)
    guard = world.guard(budgets=BUDGETS, store=store)
    await guard.status()
    try:
        yield "unstruck", await struck(kind, world, look, guard, store, frozenset())
        for k in itertools.count(1):
            ran = await struck(kind, world, look, guard, store, frozenset({k}), everybody=True)
            yield f"everybody at {k}", ran
            for j in itertools.count(k):
                ran = await struck(kind, world, look, guard, store, frozenset({k, j}))
                yield f"at {k} and {j}", ran
                if ran.points < j:
                    break
            if not ran.struck:
                break
    finally:
        await guard.aclose()
