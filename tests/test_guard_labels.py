"""Whose call it is: labels from the call, `acting_as`, the environment and the policy; `budgeted` and `carry`."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from guard_kit import BOTH, ESTIMATE, MODEL, USAGE, World

import budgetguard as bg
from budgetguard.labels import current_labels

STORES = BOTH

RULES = bg.LabelRules(known=["team", "agent", "session", "task", "user", "tenant", "env"], default={"env": "default"})


def test_the_calls_own_labels_win_over_acting_as_over_the_environment_over_the_default(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUDGETGUARD_LABELS", "team=from-env,agent=from-env,user=from-env,env=from-env")

    async def main() -> None:
        guard = world.guard("9 requests/day", labels=RULES)
        async with guard:
            with bg.acting_as(team="acting", agent="acting", labels={"tenant": "acting"}):
                async with guard.reserve(team="own", session="s-1", provider="acme", model=MODEL) as hold:
                    hold.record(USAGE)
            async with guard.reserve(labels={"tenant": "mapped", "env": "own"}) as other:
                other.record(USAGE)
        assert hold.subject == {
            "env": "from-env", "team": "own", "agent": "acting", "user": "from-env", "tenant": "acting",
            "session": "s-1", "provider": "acme", "model": MODEL,
        }  # fmt: skip
        assert other.subject == {
            "env": "own",
            "team": "from-env",
            "agent": "from-env",
            "user": "from-env",
            "tenant": "mapped",
        }
        row = world.row(hold.id)
        assert [row[name] for name in ("team", "agent", "session_id", "user", "provider", "model", "labels")] == [
            "own", "acting", "s-1", "from-env", "acme", MODEL, '{"env":"from-env","tenant":"acting"}',
        ]  # fmt: skip

    asyncio.run(main())


def test_the_default_of_the_policy_stands_where_nobody_says_otherwise(world: World) -> None:
    async def main() -> None:
        guard = world.guard("9 requests/day", labels=RULES)
        async with guard, guard.reserve() as hold:
            hold.record(USAGE)
        assert hold.subject == {"env": "default"}

    asyncio.run(main())


def test_labels_reach_tasks_and_are_carried_to_threads(world: World) -> None:
    guard = world.guard("9 requests/day")

    def in_thread() -> str:
        with guard.sync.reserve(task="read") as hold:
            hold.record(USAGE)
        return hold.id

    async def in_task() -> str:
        async with guard.reserve(task="write") as hold:
            hold.record(USAGE)
        return hold.id

    async def main() -> list[str]:
        with bg.acting_as(team="search"), ThreadPoolExecutor(1) as executor:
            loop = asyncio.get_running_loop()
            carried = loop.run_in_executor(executor, bg.carry(in_thread))
            bare = loop.run_in_executor(executor, in_thread)
            return [await asyncio.create_task(in_task()), await carried, await bare]

    ids = asyncio.run(main())
    guard.sync.close()
    found = [(world.row(id)["team"], world.row(id)["task_type"]) for id in ids]
    assert found == [("search", "write"), ("search", "read"), (None, "read")]


def test_budgeted_guards_every_call_of_an_async_function(world: World) -> None:
    async def main() -> None:
        guard = world.guard("100k tokens/day", "$5/day")

        def expected(text: str, *, times: int = 1) -> bg.Usage:
            return bg.Usage(len(text) * times, 100)

        @guard.budgeted(team="search", task="summarise", model=MODEL, estimate=expected)
        async def summarise(text: str, *, times: int = 1) -> dict[str, Any]:
            """Sum it up."""
            assert world.reserved() == len(text) * times + 100 + (len(text) * times + 200) * 1_000
            assert current_labels() == {}
            return {"usage": {"prompt_tokens": 500, "completion_tokens": 100}, "text": "short"}

        @guard.budgeted(estimate=ESTIMATE, model=MODEL, labels={"agent": "a"})
        async def fixed() -> bg.Usage:
            return USAGE

        async with guard:
            assert (await summarise("x" * 50, times=3))["text"] == "short"
            assert (await fixed()) is USAGE
        assert (summarise.__name__, summarise.__doc__) == ("summarise", "Sum it up.")
        assert (world.spent(), world.reserved()) == (1_200, 0)
        assert world.statuses() == ["settled", "settled"]

    asyncio.run(main())


def test_budgeted_calls_are_refused_before_they_begin_and_charged_when_they_fail(world: World) -> None:
    async def main() -> None:
        guard = world.guard("1k tokens/day")
        begun = []

        @guard.budgeted(estimate=ESTIMATE)
        async def ask(result: Any) -> Any:
            begun.append(result)
            if isinstance(result, Exception):
                raise result
            return result

        async with guard:
            with pytest.raises(TypeError, match="this str has no usage"):
                await ask("no usage in it")
            with pytest.raises(bg.BudgetExceeded):
                await ask(USAGE)
        assert begun == ["no usage in it"]
        assert (world.spent(), world.statuses()) == (800, ["assumed"])

    asyncio.run(main())


def test_budgeted_is_for_async_functions_and_says_so_where_it_is_written(world: World) -> None:
    guard = world.guard("9 requests/day")
    for wrong in (len, lambda: None, World):
        with pytest.raises(TypeError, match=r"needs an async function, .* use guard\.sync\.budgeted"):
            guard.budgeted()(wrong)
    with pytest.raises(TypeError, match="teem"):
        guard.budgeted(teem="search")


def test_sync_code_is_guarded_by_the_same_verbs(world: World) -> None:
    guard = world.guard("1k tokens/day")

    @guard.sync.budgeted(estimate=lambda tokens: bg.Usage(tokens, 0), team="search")
    def ask(tokens: int) -> bg.Usage:
        return bg.Usage(tokens, 0)

    ask(100)
    with guard.sync.reserve(estimate=ESTIMATE) as hold:
        hold.record(USAGE)
    by_hand = guard.sync.hold(estimate=bg.Usage(100, 0))
    by_hand.grow(bg.Usage(200, 0))
    assert (by_hand.open, world.reserved()) == (True, 200)
    by_hand.release()
    settled = guard.sync.hold(estimate=bg.Usage(10, 0))
    settled.settle(bg.Usage(5, 0))
    with pytest.raises(bg.BudgetExceeded), guard.sync.reserve(estimate=ESTIMATE):
        pass
    with pytest.raises(ZeroDivisionError), guard.sync.reserve(estimate=bg.Usage(1, 0)):
        raise ZeroDivisionError
    assert guard.sync.available() == {"tokens": 1_000 - 100 - 600 - 5 - 1}
    assert [row.spent for row in guard.sync.status()] == [706]
    assert guard.sync.close() == 0
    assert (world.spent(), world.reserved(), hold.open, by_hand.open) == (706, 0, False, False)


def test_a_sync_call_inside_an_open_hold_does_not_wait(world: World) -> None:
    guard = world.guard(budgets=[bg.Budget("one", ["1 concurrent"], on_exceed="delay", max_delay="60s")])
    with guard.sync.reserve() as hold:
        with pytest.raises(bg.BudgetExceeded):
            guard.sync.hold()
        hold.record(USAGE)
    guard.sync.close()
