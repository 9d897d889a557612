"""The guard as users hold it: opened at its first use, a call by block and by hand, and what is charged for it."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from guard_kit import BOTH, ESTIMATE, ESTIMATE_NANOUSD, MODEL, PRICES, USAGE, USAGE_NANOUSD, World, run_script
from store_kit import rows

import budgetguard as bg
from budgetguard.events import Assumed, Overage, Settled, SettleRejected

STORES = BOTH


def test_a_guard_of_one_text_holds_the_whole_process_to_it_in_the_users_state_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("BUDGETGUARD_STORE", raising=False)

    async def main() -> None:
        guard = bg.Guard("$0.002/day", prices=PRICES)
        assert list(tmp_path.iterdir()) == [], "nothing is opened before the first use"
        async with guard:
            async with guard.reserve(model=MODEL, estimate=ESTIMATE) as hold:
                hold.record(USAGE)
            with pytest.raises(bg.BudgetExceeded):
                await guard.reserve(model=MODEL, estimate=bg.Usage(1_301, 0))
            assert [row[0] for row in await guard.status()] == ["default"]
        assert (tmp_path / "budgetguard" / "budgets.db").is_file()

    asyncio.run(main())


def test_a_block_reserves_at_its_start_and_settles_at_its_end(world: World) -> None:
    async def main() -> None:
        guard = world.guard("100k tokens/day", "$5/day", "20 concurrent")
        async with guard:
            async with guard.reserve(team="search", model=MODEL, estimate=ESTIMATE) as hold:
                assert hold.open
                assert world.reserved() == 800 + ESTIMATE_NANOUSD + 1
                assert hold.record(USAGE) == USAGE
            assert not hold.open
            assert (world.reserved(), world.spent(), world.spent("usd")) == (0, 600, USAGE_NANOUSD)
        row = world.row(hold.id)
        assert (row["status"], row["team"], row["model"]) == ("settled", "search", MODEL)
        assert (row["prompt_tokens"], row["completion_tokens"], row["cost_nanousd"]) == (500, 100, USAGE_NANOUSD)
        assert (row["estimated_tokens"], row["estimated_cost_nanousd"]) == (800, ESTIMATE_NANOUSD)
        assert (row["price_source"], row["error_type"]) == (f"price:{MODEL}", None)
        assert hold.subject == {"team": "search", "model": MODEL}
        assert world.heard.of(Settled)[0].cost_nanousd == USAGE_NANOUSD

    asyncio.run(main())


def test_by_hand_a_hold_is_settled_released_or_grown_once(world: World) -> None:
    async def main() -> None:
        guard = world.guard("10k tokens/day")
        async with guard:
            hold = await guard.reserve(estimate=ESTIMATE)
            await hold.grow(bg.Usage(600, 400))
            assert world.reserved() == 1_000
            await hold.grow(bg.Usage(600, 100))
            assert world.reserved() == 1_000, "a hold never shrinks"
            await hold.settle(USAGE)
            assert (world.reserved(), world.spent()) == (0, 600)
            for again in (hold.settle, hold.release, lambda: hold.grow(ESTIMATE)):
                with pytest.raises(bg.ReservationFinished, match="already been settled or released"):
                    await again()
            with pytest.raises(bg.ReservationFinished):
                hold.record(USAGE)

            returned = await guard.reserve(estimate=ESTIMATE)
            await returned.release()
            assert (world.reserved(), world.spent(), not returned.open) == (0, 600, True)
        assert world.statuses() == ["settled"], "a released call has no row"

    asyncio.run(main())


def test_a_growth_that_asks_for_less_input_holds_the_most_of_both_where_a_budget_counts_them(world: World) -> None:
    """What is assumed of it then is the same in the ledger and on every account."""

    async def main() -> None:
        guard = world.guard("10k tokens/day", "10k input_tokens/day", "10k output_tokens/day")
        async with guard:
            hold = await guard.reserve(estimate=ESTIMATE)
            await hold.grow(bg.Usage(100, 1_000))
            held = {row.unit: row.reserved for row in await guard.status()}
            assert held == {"tokens": 1_600, "input_tokens": 600, "output_tokens": 1_000}
            await hold.settle()
            spent = {row.unit: row.spent for row in await guard.status()}
        assert spent == held
        row = world.row(hold.id)
        assert (row["prompt_tokens"], row["completion_tokens"], row["status"]) == (600, 1_000, "assumed")

    asyncio.run(main())


def test_a_growth_without_room_is_refused_and_the_hold_stands(world: World) -> None:
    async def main() -> None:
        guard = world.guard("1k tokens/day")
        async with guard, guard.reserve(estimate=ESTIMATE) as hold:
            with pytest.raises(bg.BudgetExceeded, match="default refused this call: 1,001 tokens is more than"):
                await hold.grow(bg.Usage(1_000, 1))
            with pytest.raises(TypeError, match=r"estimate must be a bg\.Usage, not 'much'"):
                await hold.grow("much")  # type: ignore[arg-type]
            assert (hold.open, world.reserved()) == (True, 800)
            hold.record(USAGE)
        assert (world.spent(), world.reserved()) == (600, 0)

    asyncio.run(main())


RESPONSES: dict[str, Any] = {
    "bg.Usage": bg.Usage(500, 100),
    "an OpenAI chat completion": SimpleNamespace(usage=SimpleNamespace(prompt_tokens=500, completion_tokens=100)),
    "its dict": {"usage": {"prompt_tokens": 500, "completion_tokens": 100, "total_tokens": 600}},
    "the usage alone": {"prompt_tokens": 500, "completion_tokens": 100},
    "an OpenAI response": {"usage": {"input_tokens": 500, "input_tokens_details": {}, "output_tokens": 100}},
    "an Anthropic message": SimpleNamespace(
        type="message", usage=SimpleNamespace(input_tokens=400, cache_read_input_tokens=100, output_tokens=100)
    ),
}


@pytest.mark.parametrize("kind", RESPONSES)
def test_record_reads_what_providers_answer(world: World, kind: str) -> None:
    async def main() -> None:
        guard = world.guard("100k tokens/day")
        async with guard, guard.reserve(estimate=ESTIMATE) as hold:
            assert hold.record(RESPONSES[kind]).total_tokens == 600
        assert world.spent() == 600

    asyncio.run(main())


def test_record_of_something_else_says_what_it_takes_and_the_call_is_assumed(world: World) -> None:
    async def main() -> None:
        guard = world.guard("100k tokens/day")
        async with guard:
            with pytest.raises(TypeError, match=r"this str has no usage; .*budgetguard Usage.*OpenAI.*Anthropic"):
                async with guard.reserve(estimate=ESTIMATE) as hold:
                    hold.record("42 tokens")
        row = world.row(hold.id)
        assert (row["status"], row["error_type"], row["total_tokens"]) == ("assumed", "TypeError", 800)

    asyncio.run(main())


def test_record_twice_adds_each_priced_on_its_own(world: World) -> None:
    async def main() -> None:
        guard = world.guard("100k tokens/day", "$5/day", "9 requests/day")
        async with guard, guard.reserve(model=MODEL, estimate=ESTIMATE) as hold:
            hold.record(bg.Usage(500, 100))
            hold.record(bg.Usage(100, 0, cost_usd="0.25"))
        row = world.row(hold.id)
        assert (row["prompt_tokens"], row["completion_tokens"]) == (600, 100)
        assert row["cost_nanousd"] == USAGE_NANOUSD + 250_000_000
        assert row["price_source"] == f"price:{MODEL}+stated"
        assert (world.spent(), world.spent("requests")) == (700, 1)
        assert world.heard.of(Overage)[0].overage.usd == USAGE_NANOUSD + 250_000_000 - ESTIMATE_NANOUSD

    asyncio.run(main())


def test_a_cost_that_nobody_knows_is_charged_as_estimated_where_dollars_count(world: World) -> None:
    async def main() -> None:
        guard = world.guard("$5/day")
        estimate = bg.Usage(600, 200, cost_usd="0.125")
        async with guard, guard.reserve(model="unheard-of", estimate=estimate) as hold:
            hold.record(USAGE)
        row = world.row(hold.id)
        assert (row["cost_nanousd"], row["price_source"], row["total_tokens"]) == (125_000_000, "estimate", 600)

    asyncio.run(main())


def test_left_without_record_a_call_is_assumed_with_one_warning(world: World) -> None:
    async def main() -> None:
        guard = world.guard("100k tokens/day")
        async with guard:
            async with guard.reserve(estimate=ESTIMATE) as in_block:
                pass
            by_hand = await guard.reserve(estimate=ESTIMATE)
            await by_hand.settle()
        assert world.spent() == 1_600
        assert world.statuses() == ["assumed", "assumed"]
        causes = [(event.reservation_id, event.cause, event.level) for event in world.heard.of(Assumed)]
        assert causes == [(hold.id, "left without record()", "warning") for hold in (in_block, by_hand)]

    asyncio.run(main())


def test_a_call_that_no_budget_covers_is_let_through_and_recorded(world: World) -> None:
    async def main() -> None:
        guard = world.guard(budgets=[bg.Budget("search", ["$1/day"], where={"team": "search"})])
        async with guard, guard.reserve(team="ads") as hold:
            hold.record(USAGE)
        assert (world.row(hold.id)["status"], world.row(hold.id)["total_tokens"]) == ("settled", 600)

    asyncio.run(main())


def test_a_guard_from_python_and_one_from_a_file_need_a_budget_and_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BUDGETGUARD_CONFIG", raising=False)
    with pytest.raises(bg.ConfigError, match=r'pass a limit such as "\$5/day", budgets=\[\.\.\.\], or set BUDGET'):
        bg.Guard()
    with pytest.raises(bg.ConfigError, match="there is no such file"):
        bg.Guard.from_toml(tmp_path / "none.toml")
    file = tmp_path / "budgetguard.toml"
    file.write_text('[[budget]]\nname = "all"\nlimits = ["$5/day"]\n')
    monkeypatch.setenv("BUDGETGUARD_CONFIG", str(file))
    assert [budget.name for budget in bg.Guard().policy.budgets] == ["all"]
    with pytest.raises(bg.ConfigError, match="mode: the file that BUDGETGUARD_CONFIG names says it"):
        bg.Guard(mode="shadow")
    with pytest.raises(bg.ConfigError, match="mode"):
        bg.Guard("$5/day", mode="strict")  # type: ignore[arg-type]


def test_a_reservation_is_made_anew_by_each_use_and_entered_by_one_block_at_a_time(world: World) -> None:
    async def main() -> None:
        guard = world.guard("100k tokens/day")
        async with guard:
            reserving = guard.reserve(estimate=ESTIMATE)
            async with reserving as first:
                first.record(USAGE)
                with pytest.raises(RuntimeError, match=r"already entered: call guard\.reserve\(\) for each block"):
                    await reserving.__aenter__()
            async with reserving as second:
                second.record(USAGE)
            assert first.id != second.id
        assert (world.spent(), world.reserved()) == (1_200, 0)

    asyncio.run(main())


def test_several_runs_of_asyncio_share_one_guard_and_a_hold_may_be_settled_in_the_next(world: World) -> None:
    guard = world.guard("100k tokens/day")

    async def call() -> bg.Hold:
        async with guard.reserve(estimate=ESTIMATE) as hold:
            hold.record(USAGE)
        return await guard.reserve(estimate=ESTIMATE)

    async def end(hold: bg.Hold) -> None:
        hold.record(USAGE)
        await hold.settle()

    carried = asyncio.run(call())
    asyncio.run(end(carried))
    asyncio.run(end(asyncio.run(call())))
    asyncio.run(guard.aclose())
    assert (world.spent(), world.reserved(), world.held()) == (4 * 600, 0, 0)
    assert world.heard.of(SettleRejected) == []


def test_a_guard_that_was_dropped_is_drained_at_the_exit(tmp_path: Path) -> None:
    script = """
import asyncio, gc, sys
import budgetguard as bg
def job():
    async def main():
        hold = await guard.reserve(estimate=bg.Usage(10, 10))
        hold.record(bg.Usage(3, 4))
        return hold
    guard = bg.Guard("1k tokens/day", store="sqlite:///dropped.db")
    return asyncio.run(main())
hold = job()
gc.collect()
"""
    ended = run_script(script, tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert rows(tmp_path / "dropped.db", "SELECT status, total_tokens FROM token_usage") == [("settled", 7)]


def test_a_guard_leaves_nothing_running(world: World) -> None:
    async def main() -> None:
        guard = world.guard("100k tokens/day")
        async with guard, guard.reserve(estimate=ESTIMATE) as hold:
            hold.record(USAGE)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    gc.collect()
