"""A run's own budget over all that is awaited inside; a refusal that was swallowed comes up again."""

from __future__ import annotations

import asyncio
import re
from decimal import Decimal

import pytest
from guard_kit import BOTH, ESTIMATE, MODEL, USAGE, World

import budgetguard as bg

STORES = BOTH


async def call(guard: bg.Guard, usage: bg.Usage = USAGE) -> None:
    async with guard.reserve(model=MODEL, estimate=usage) as hold:
        hold.record(usage)


def test_a_run_is_held_to_its_own_limits_and_the_refusal_names_it(world: World) -> None:
    async def main() -> None:
        guard = world.guard("100k tokens/day")

        async def run() -> None:
            async with guard.within("$2", "1k tokens"):
                await call(guard)
                assert await guard.available() == {"tokens": 400, "usd": Decimal("1.9993")}
                await call(guard)

        async with guard:
            with pytest.raises(bg.BudgetExceeded, match=r"^run#[0-9a-f]{12} refused this call: 1k tokens/total is"):
                await run()
            await call(guard)
            assert await guard.available() == {"tokens": 100_000 - 1_200}

    asyncio.run(main())


def test_what_is_started_inside_counts_too_and_other_runs_do_not(world: World) -> None:
    async def main() -> None:
        guard = world.guard("100k tokens/day")

        async def run() -> int:
            admitted = 0
            async with guard.within("1500 tokens", name="mine"):
                for done in asyncio.as_completed([call(guard) for _ in range(2)]):
                    await done
                    admitted += 1
            return admitted

        async with guard:
            assert await asyncio.gather(run(), run()) == [2, 2]

    asyncio.run(main())


def test_a_refusal_swallowed_inside_is_raised_again_at_the_end(world: World) -> None:
    async def main() -> None:
        guard = world.guard("100k tokens/day")
        seen = []

        async def agent() -> None:
            try:
                await call(guard)
            except bg.BudgetExceeded as refusal:
                seen.append(refusal)

        async with guard:
            with pytest.raises(bg.BudgetExceeded) as at_the_end:
                async with guard.within("100 tokens"):
                    await asyncio.gather(agent(), agent())
            assert at_the_end.value in seen
            assert len(seen) == 2

    asyncio.run(main())


def test_a_growth_refused_inside_is_raised_again_too(world: World) -> None:
    async def main() -> None:
        guard = world.guard("100k tokens/day")

        async def agent() -> None:
            async with guard.reserve(estimate=USAGE) as hold:
                with pytest.raises(bg.BudgetExceeded):
                    await hold.grow(bg.Usage(1_001, 0))
                hold.record(USAGE)

        async with guard:
            with pytest.raises(bg.BudgetExceeded, match=r"^run#"):
                async with guard.within("1k tokens"):
                    await agent()

    asyncio.run(main())


def test_another_error_is_not_replaced_and_another_budgets_refusal_is_not_the_runs(world: World) -> None:
    async def main() -> None:
        guard = world.guard("700 tokens/day")

        async def swallowing() -> None:
            with pytest.raises(bg.BudgetExceeded):
                await call(guard, bg.Usage(300, 0))

        async def failing() -> None:
            async with guard.within("100 tokens"):
                await swallowing()
                raise ZeroDivisionError

        async with guard:
            with pytest.raises(ZeroDivisionError):
                await failing()
            async with guard.within("1k tokens"):
                await call(guard)
                await swallowing()

    asyncio.run(main())


def test_runs_nest_and_each_is_told_of_its_own_refusals(world: World) -> None:
    async def main() -> None:
        guard, other = world.guard("100k tokens/day"), world.guard("100k tokens/day")
        inner = guard.within("1k tokens", name="inner")

        async def run() -> None:
            async with inner:
                await call(guard)
                await call(other)
                with pytest.raises(bg.BudgetExceeded):
                    await call(guard)

        async with guard, other:
            async with guard.within("2k tokens", name="outer") as outer:
                with pytest.raises(bg.BudgetExceeded) as refused:
                    await run()
                assert [violation.account.budget for violation in refused.value.violations] == [inner.name]
                await call(guard)
                assert await guard.available() == {"tokens": 800}
            assert outer.name.startswith("outer#")
            async with outer:
                assert await guard.available() == {"tokens": 800}, "a run that goes on has its account still"

    asyncio.run(main())


def test_a_run_may_bound_how_many_calls_it_has_at_once(world: World) -> None:
    async def main() -> None:
        guard = world.guard("100k tokens/day")

        async def run() -> None:
            async with guard.within("1 concurrent", "9 requests/total"), guard.reserve(estimate=ESTIMATE) as hold:
                hold.record(USAGE)
                await call(guard)

        async with guard:
            with pytest.raises(bg.BudgetExceeded, match="1 concurrent is held by 1 open call"):
                await run()

    asyncio.run(main())


def test_sync_code_has_runs_too(world: World) -> None:
    guard = world.guard("100k tokens/day")

    def run() -> None:
        with guard.sync.within("1k tokens"):
            for _ in range(2):
                with guard.sync.reserve(estimate=USAGE) as hold:
                    hold.record(USAGE)

    with pytest.raises(bg.BudgetExceeded, match=r"^run#"):
        run()
    guard.sync.close()
    assert world.spent() == 2 * 600, "in the day's account and in the run's"


@pytest.mark.parametrize(
    ("limits", "name", "error", "text"),
    [
        ([], "run", bg.InvalidLimit, 'a run needs at least one limit, such as "$2"'),
        (["$2", "$3"], "run", bg.InvalidLimit, "a run has one limit for each unit"),
        (["5k tokens/hour"], "run", bg.InvalidLimit, "'5k tokens/hour': a run has one limit for each unit, over all"),
        (["5k tokens/rolling 5 minutes"], "run", bg.InvalidLimit, "over all of it"),
        (["5k"], "run", bg.InvalidLimit, "it has no unit"),
        (["$2"], "", bg.InvalidLabel, "label 'name' must be text of 1 to 512"),
        (["$2"], None, bg.InvalidLabel, "label 'name' must be text"),
    ],
)
def test_a_run_that_makes_no_sense_is_refused_where_it_is_written(
    world: World, limits: list[str], name: str, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=re.escape(text)):
        world.guard("1k tokens/day").within(*limits, name=name)
