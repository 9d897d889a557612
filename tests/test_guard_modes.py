"""Shadow mode refuses nothing, for no cause at all, and tells what it would have refused; off does nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from guard_kit import BOTH, ESTIMATE, MODEL, PRICES, USAGE, LossyStore, World, only_on_sqlite

import budgetguard as bg
from budgetguard.events import Assumed, Refused, StoreProblem, Unmatched, WouldRefuse

STORES = BOTH

Spoil = Callable[[World, LossyStore], None]
LIMITS = ("1k tokens/day", "$0.001/day", "1 concurrent")
GOOD: dict[str, Any] = {"team": "search", "model": MODEL, "estimate": ESTIMATE}
CAUSES: dict[str, tuple[dict[str, Any], str]] = {
    "a required label is missing": ({"team": None}, "LabelRequired"),
    "a label is empty": ({"agent": ""}, "InvalidLabel"),
    "a label is no text": ({"agent": 7}, "InvalidLabel"),
    "a label does not even hash": ({"agent": ["a"]}, "InvalidLabel"),
    "a label is a lone surrogate": ({"agent": "\ud800"}, "InvalidLabel"),
    "a label is a megabyte": ({"agent": "a" * 2**20}, "InvalidLabel"),
    "a label is not known": ({"labels": {"taem": "search"}}, "InvalidLabel"),
    "the labels are none": ({"labels": 7}, "InvalidLabel"),
    "the price is not known": ({"model": "gpt-9"}, "PriceUnknown"),
    "two prices tie": ({"model": "tied-1"}, "PriceUnknown"),
    "there is no estimate": ({"estimate": None}, "EstimateRequired"),
    "the estimate is none": ({"estimate": 7}, "TypeError"),
    "the budgets have no room": ({"estimate": bg.Usage(2_000, 0)}, "BudgetExceeded"),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_in_shadow_a_call_is_let_through_and_charged_whatever_is_wrong_with_it(world: World, cause: str) -> None:
    changed, told = CAUSES[cause]
    tied = [bg.Price(model, {"input": 1, "output": 1}) for model in ("tied-*", "tied-?")]

    async def main() -> None:
        guard = world.guard(*LIMITS, mode="shadow", labels=bg.LabelRules(required=["team"]), prices=[*PRICES, *tied])
        async with guard, guard.reserve(**(GOOD | changed)) as hold:
            hold.record(USAGE)
        assert world.row(hold.id)["total_tokens"] == 600
        assert (world.spent(), world.reserved()) == (600, 0)
        assert [(event.cause, event.reservation_id) for event in world.heard.of(WouldRefuse)] == [(told, hold.id)]
        assert world.heard.of(Refused) == []

    asyncio.run(main())


def test_in_shadow_every_budget_is_counted_and_the_row_names_those_that_would_have_refused(world: World) -> None:
    async def main() -> None:
        guard = world.guard("1k tokens/day", mode="shadow", budgets=[bg.Budget("wide", ["9k tokens/day"])])
        async with guard:
            for _ in range(3):
                async with guard.reserve(estimate=ESTIMATE) as hold:
                    hold.record(USAGE)
            assert hold.would_refuse == ("default",)
            await hold_grown(guard)
        assert world.row(hold.id)["would_refuse"] == '["default"]'
        assert world.spent() == 2 * 4 * 600

    async def hold_grown(guard: bg.Guard) -> None:
        async with guard.reserve(estimate=ESTIMATE) as hold:
            await hold.grow(bg.Usage(20_000, 0))
            hold.record(USAGE)

    asyncio.run(main())


def test_a_shadow_budget_is_counted_beside_one_that_is_enforced(world: World) -> None:
    async def main() -> None:
        budgets = [bg.Budget("trial", ["500 tokens/day"], on_exceed="shadow"), bg.Budget("real", ["1k tokens/day"])]
        guard = world.guard(budgets=budgets)
        async with guard:
            async with guard.reserve(estimate=ESTIMATE) as hold:
                hold.record(USAGE)
            with pytest.raises(bg.BudgetExceeded) as refused:
                await guard.reserve(estimate=ESTIMATE)
        assert [violation.account.budget for violation in refused.value.violations] == ["real"]
        (told,) = world.heard.of(WouldRefuse)
        assert (told.budgets, told.cause) == (("trial",), "BudgetExceeded")

    asyncio.run(main())


def test_in_shadow_a_call_that_no_budget_covers_is_let_through_even_where_those_are_refused(world: World) -> None:
    async def main() -> None:
        settings = bg.GuardSettings(on_unmatched="refuse")
        budgets = [bg.Budget("search", ["1 tokens/day"], where={"team": "search"})]
        guard = world.guard(budgets=budgets, mode="shadow", settings=settings)
        async with guard, guard.reserve(team="ads", estimate=ESTIMATE) as hold:
            hold.record(USAGE)
        assert [event.cause for event in world.heard.of(WouldRefuse)] == ["CallUnmatched"]

    asyncio.run(main())


def test_in_shadow_a_run_is_over_its_own_budget_without_a_word(world: World) -> None:
    async def main() -> None:
        guard = world.guard("9k tokens/day", mode="shadow")
        async with guard, guard.within("100 tokens"), guard.reserve(estimate=ESTIMATE) as hold:
            hold.record(USAGE)
        assert world.spent() == 2 * 600

    asyncio.run(main())


def lose_state(world: World, store: LossyStore) -> None:
    world.lose()


def turn_back_the_clock(world: World, store: LossyStore) -> None:
    world.clock.set(world.clock.now_ms() - 61_000)


def be_away(world: World, store: LossyStore) -> None:
    store.refused = {"reserve", "grow"}


@pytest.mark.parametrize(("spoil", "in_spool"), [(be_away, 0), (turn_back_the_clock, 0), (lose_state, 1)])
def test_in_shadow_calls_go_on_when_the_store_does_not_decide(world: World, spoil: Spoil, in_spool: int) -> None:
    async def main() -> None:
        store = LossyStore(world.store())
        guard = world.guard(*LIMITS, mode="shadow", store=store)
        async with guard.reserve(**GOOD) as first:
            first.record(USAGE)
        spoil(world, store)
        async with guard.reserve(**GOOD) as hold:
            await hold.grow(bg.Usage(5_000, 0))
            hold.record(USAGE)
        problems = [problem for problem in world.heard.of(StoreProblem) if problem.verb in ("reserve", "grow")]
        assert problems
        assert all(problem.let_through for problem in problems)
        assert await guard.aclose() == in_spool
        if not in_spool:
            assert world.row(hold.id)["status"] == "late"

    asyncio.run(main())


@only_on_sqlite
def test_in_shadow_calls_go_on_where_there_is_no_store_at_all(world: World) -> None:
    async def main() -> None:
        world.path.mkdir()
        guard = world.guard(*LIMITS, mode="shadow")
        async with guard.reserve(**GOOD) as hold:
            hold.record(USAGE)
        assert await guard.aclose() == 1

    asyncio.run(main())


def test_in_shadow_a_hold_may_grow_that_somebody_else_has_resolved(world: World) -> None:
    async def main() -> None:
        guard, other = world.guard(*LIMITS, mode="shadow"), world.guard("1 tokens/day")
        async with guard, other, guard.reserve(**GOOD) as hold:
            world.clock.advance(60_001)
            with pytest.raises(bg.BudgetExceeded):
                await other.reserve(estimate=ESTIMATE)
            assert world.statuses() == ["expired"], "a refusal sweeps"
            await hold.grow(bg.Usage(5_000, 0))
            hold.record(USAGE)
        assert world.row(hold.id)["status"] == "late"

    asyncio.run(main())


def test_off_does_nothing_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    async def main(guard: bg.Guard) -> None:
        @guard.budgeted(estimate=ESTIMATE)
        async def ask() -> bg.Usage:
            return USAGE

        for _ in range(3):
            async with guard.reserve(team="", labels={"odd": "one"}, estimate=bg.Usage(10**12, 0)) as hold:
                assert hold.record({"prompt_tokens": 3, "completion_tokens": 4}) == bg.Usage(3, 4)
                with pytest.raises(TypeError):
                    hold.record("nothing")
            by_hand = await guard.reserve()
            assert by_hand.open
            await by_hand.grow(ESTIMATE)
            await by_hand.settle(USAGE)
            await (await guard.reserve()).release()
            assert (hold.open, by_hand.open, by_hand.would_refuse, by_hand.lease_lost) == (False, False, (), False)
            async with guard.within("$1", name="run"):
                await ask()
        with guard.sync.reserve() as hold_of_sync:
            hold_of_sync.record(USAGE)
        await guard.aclose()

    asyncio.run(main(bg.Guard.off()))
    asyncio.run(main(bg.Guard("1 tokens/day", mode="off")))
    assert list(tmp_path.iterdir()) == []


def test_the_environment_sets_the_mode_of_the_whole_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUDGETGUARD_MODE", "shadow")
    assert bg.Guard("$5/day", store="sqlite:///:memory:").policy.mode == "shadow"
    assert bg.Guard("$5/day", store="sqlite:///:memory:", mode="enforce").policy.mode == "enforce"
    monkeypatch.setenv("BUDGETGUARD_MODE", "dark")
    with pytest.raises(bg.ConfigError, match="mode"):
        bg.Guard("$5/day", store="sqlite:///:memory:")


def test_unmatched_calls_are_told_once_for_each_set_of_labels(world: World) -> None:
    async def main() -> None:
        guard = world.guard(budgets=[bg.Budget("search", ["$1/day"], where={"team": "search"})])
        async with guard:
            for team in ("ads", "ads", "news", "ads"):
                async with guard.reserve(team=team) as hold:
                    hold.record(USAGE)
        assert [dict(event.subject) for event in world.heard.of(Unmatched)] == [{"team": "ads"}, {"team": "news"}]
        assert world.heard.of(Assumed) == []

    asyncio.run(main())
