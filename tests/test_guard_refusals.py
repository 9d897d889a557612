"""What a refused call is told: the text of DESIGN 6, the attributes, the event; and that it changes nothing."""

from __future__ import annotations

import asyncio
import pickle
import re

import pytest
from guard_kit import BOTH, ESTIMATE, MODEL, USAGE, LossyStore, World

import budgetguard as bg
from budgetguard.core.balances import HELD_RETRY_MS
from budgetguard.events import Exhausted, Refused

STORES = BOTH

EACH_AGENT = bg.Budget("each-agent", ["$5/day"], per=["agent"], timezone="Europe/Berlin")


async def refused(guard: bg.Guard, estimate: bg.Usage | None, **labels: str) -> bg.BudgetExceeded:
    with pytest.raises(bg.BudgetExceeded) as caught:
        await guard.reserve(estimate=estimate, **labels)
    return caught.value


def test_a_refusal_because_it_is_spent_reads_as_the_design_says(world: World) -> None:
    async def main() -> None:
        guard = world.guard(budgets=[EACH_AGENT])
        async with guard:
            async with guard.reserve(agent="crawler", model="gpt-4o-mini", estimate=bg.Usage(1, 1, cost_usd=4)) as hold:
                hold.record(bg.Usage(1, 1, cost_usd="4.9931"))
            refusal = await refused(
                guard, bg.Usage(1, 1, cost_usd="0.0142"), agent="crawler", team="search", model="gpt-4o-mini"
            )
        assert str(refusal).splitlines() == [
            "each-agent refused this call: $5/day is spent",
            "  asked $0.0142 | limit $5.00 = spent $4.9931 + reserved $0.00 + available $0.0069"
            " | resets 2026-11-23 00:00 CET (in 11 h 0 min)",
            f"  team=search agent=crawler gpt-4o-mini | {refusal.reservation_id}",
        ]
        assert refusal.subject == {"agent": "crawler", "team": "search", "model": "gpt-4o-mini"}
        assert refusal.retry_after == 11 * 3600
        (violation,) = refusal.violations
        assert (violation.reason, violation.limit, violation.requested) == ("spent", 5 * 10**9, 14_200_000)
        assert (violation.spent, violation.reserved, violation.available) == (4_993_100_000, 0, 6_900_000)
        (told,) = world.heard.of(Refused)
        assert (told.reservation_id, told.cause, told.violations) == (refusal.reservation_id, "budget", (violation,))

    asyncio.run(main())


def test_a_refusal_because_it_is_held_counts_the_open_calls(world: World) -> None:
    async def main() -> None:
        one = bg.Usage(1, 1, cost_usd="0.40")
        guard = world.guard(budgets=[EACH_AGENT, bg.Budget("others", ["9 requests/day"])])
        async with guard:
            holds = [await guard.reserve(agent="crawler", estimate=one) for _ in range(3)]
            other = await guard.reserve(agent="ranker", estimate=one)
            refusal = await refused(guard, bg.Usage(1, 1, cost_usd="4"), agent="crawler")
            assert str(refusal).splitlines()[0] == (
                "each-agent refused this call: $1.20 is held by 3 open calls; try again in 1 s"
            )
            assert refusal.retry_after == HELD_RETRY_MS / 1000
            for hold in (*holds, other):
                await hold.release()

    asyncio.run(main())


def test_one_open_call_is_one_and_many_are_not_counted_out(world: World) -> None:
    async def main() -> None:
        guard, narrow = world.guard("400 concurrent", "400 requests/day"), world.guard("1 concurrent")
        async with guard, narrow:
            first = await guard.reserve()
            text = str(await refused(narrow, None))
            assert text.startswith("default refused this call: 1 concurrent is held by 1 open call; try again in 1 s")
            holds = await asyncio.gather(*(guard.reserve() for _ in range(399)))
            text = str(await refused(guard, None))
            assert text.startswith("default refused this call: 400 concurrent is held by 200+ open calls; try again")
            await asyncio.gather(*(hold.release() for hold in (first, *holds)))

    asyncio.run(main())


def test_a_storm_of_refusals_counts_the_open_calls_once(world: World) -> None:
    async def main() -> None:
        store = LossyStore(world.store())
        guard = world.guard("1 concurrent", store=store)
        async with guard, guard.reserve() as hold:
            storm = await asyncio.gather(*(guard.reserve() for _ in range(100)), return_exceptions=True)
            assert {str(refusal).splitlines()[0] for refusal in storm} == {
                "default refused this call: 1 concurrent is held by 1 open call; try again in 1 s"
            }
            assert store.asked.count("read_holds") == 1
            hold.record(USAGE)

    asyncio.run(main())


def test_a_storm_over_many_accounts_does_not_count_for_each(world: World) -> None:
    async def main() -> None:
        store = LossyStore(world.store())
        guard = world.guard(budgets=[bg.Budget("each-agent", ["1 concurrent"], per=["agent"])], store=store)
        agents = [f"a{number}" for number in range(100)]
        async with guard:
            holds = await asyncio.gather(*(guard.reserve(agent=agent) for agent in agents))
            storm = await asyncio.gather(*(guard.reserve(agent=agent) for agent in agents), return_exceptions=True)
            assert {str(refusal).splitlines()[0] for refusal in storm} == {
                "each-agent refused this call: 1 concurrent is held by 1 open call; try again in 1 s",
                "each-agent refused this call: 1 concurrent is held by open calls; try again in 1 s",
            }
            assert store.asked.count("read_holds") <= 8
            await asyncio.gather(*(hold.release() for hold in holds))

    asyncio.run(main())


def test_open_calls_that_cannot_be_counted_are_left_out(world: World) -> None:
    async def main() -> None:
        store = LossyStore(world.store())
        store.refused = {"read_holds"}
        guard = world.guard("1 concurrent", store=store)
        async with guard, guard.reserve() as hold:
            refusal = await refused(guard, None)
            assert str(refusal).startswith(
                "default refused this call: 1 concurrent is held by open calls; try again in 1 s\n"
            )
            hold.record(USAGE)

    asyncio.run(main())


def test_a_call_above_the_whole_limit_is_told_that_waiting_cannot_help(world: World) -> None:
    async def main() -> None:
        guard = world.guard("1k tokens/hour", "$2/total")
        async with guard:
            refusal = await refused(guard, bg.Usage(1_001, 0, cost_usd=3))
        lines = str(refusal).splitlines()
        assert lines[0] == "default refused this call: 1,001 tokens is more than all of 1k tokens/hour"
        assert lines[2] == "default refused this call: $3.00 is more than all of $2/total"
        assert lines[3].endswith("+ available $2.00 | never resets")
        assert refusal.retry_after is None
        assert [violation.reason for violation in refusal.violations] == ["impossible", "impossible"]

    asyncio.run(main())


def test_every_limit_that_refused_is_named_in_the_order_of_the_policy(world: World) -> None:
    async def main() -> None:
        budgets = [
            bg.Budget("all", ["1k tokens/day", "9 requests/day"]),
            bg.Budget("search", ["500 tokens/hour"], where={"team": "search"}),
            bg.Budget("ads", ["1 tokens/hour"], where={"team": "ads"}),
        ]
        guard = world.guard(budgets=budgets)
        async with guard:
            async with guard.reserve(team="search", estimate=bg.Usage(450, 0)) as hold:
                hold.record(bg.Usage(450, 0))
            refusal = await refused(guard, bg.Usage(600, 0), team="search")
        found = [(violation.account.budget, violation.reason) for violation in refusal.violations]
        assert found == [("all", "spent"), ("search", "impossible")]
        assert refusal.retry_after is None

    asyncio.run(main())


def test_a_refused_call_leaves_every_row_as_it_was(world: World) -> None:
    async def main() -> None:
        guard = world.guard(
            "1k tokens/day", "1 concurrent", budgets=[bg.Budget("agent", ["9 requests/hour"], per=["agent"])]
        )
        async with guard, guard.reserve(agent="a", estimate=ESTIMATE) as hold:
            before = world.dump()
            await refused(guard, ESTIMATE, agent="b")
            assert world.dump() == before
            hold.record(USAGE)

    asyncio.run(main())


def test_the_first_refusal_because_it_is_spent_is_told_once_to_the_fleet(world: World) -> None:
    async def main() -> None:
        guards = [world.guard("700 tokens/day") for _ in range(3)]
        async with guards[0], guards[1], guards[2]:
            async with guards[0].reserve(estimate=bg.Usage(600, 0)) as hold:
                hold.record(USAGE)
            for guard in guards * 2:
                await refused(guard, bg.Usage(101, 0))
        assert len(world.heard.of(Exhausted)) == 1
        assert len(world.heard.of(Refused)) == 6

    asyncio.run(main())


def test_a_refusal_pickles(world: World) -> None:
    async def main() -> None:
        guard = world.guard(budgets=[EACH_AGENT])
        async with guard:
            refusal = await refused(guard, bg.Usage(1, 1, cost_usd=6), agent="crawler")
        again = pickle.loads(pickle.dumps(refusal))  # noqa: S301 - made here
        assert (str(again), again.violations) == (str(refusal), refusal.violations)
        assert (again.retry_after, again.reservation_id, again.subject) == (
            refusal.retry_after, refusal.reservation_id, refusal.subject,
        )  # fmt: skip

    asyncio.run(main())


def test_control_characters_in_labels_reach_no_terminal(world: World) -> None:
    async def main() -> None:
        guard = world.guard("1 tokens/day")
        async with guard:
            refusal = await refused(guard, ESTIMATE, agent="a\x1b[31m\nteam=other\u202e")
        assert str(refusal).splitlines()[2].startswith(r"  agent=a\x1b[31m\nteam=other\u202e | r-")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("limits", "call", "error", "text"),
    [
        (["$5/day"], {"estimate": ESTIMATE, "model": "gpt-9"}, bg.PriceUnknown,
         "default counts dollars, and nobody knows what model 'gpt-9' costs: add a [[price]] for it, or pass cost_usd"),
        (["$5/day"], {"estimate": ESTIMATE}, bg.PriceUnknown, "nobody knows what model '(none)' costs"),
        (["9 requests/day", "1k tokens/day"], {"model": MODEL}, bg.EstimateRequired,
         "default counts tokens or dollars, and this call came without an estimate: pass estimate=bg.Usage(...)"),
        (["$5/day"], {"model": MODEL}, bg.EstimateRequired, "default counts tokens or dollars"),
        (["5 requests/day"], {"agent": "a"}, bg.LabelRequired,
         "this call lacks the required label 'team': pass team=... or wrap it in bg.acting_as()"),
        (["5 requests/day"], {"team": ""}, bg.InvalidLabel, "label 'team' must be text of 1 to 512 UTF-8 bytes"),
        (["5 requests/day"], {"team": 7}, bg.InvalidLabel, "label 'team' must be text, not 7"),
        (["5 requests/day"], {"team": ["a"]}, bg.InvalidLabel, "label 'team' must be text"),
        (["5 requests/day"], {"team": "s", "labels": {"taem": "s"}}, bg.InvalidLabel,
         'label "taem" is not a known label; did you mean "team"?'),
        (["5 requests/day"], {"team": "s", "labels": {7: "s"}}, bg.InvalidLabel, "a label's name must be text, not 7"),
        (["5 requests/day"], {"team": "s", "labels": "x=y"}, bg.InvalidLabel, "labels"),
        (["5 tokens/day"], {"team": "s", "estimate": {"prompt_tokens": 5}}, TypeError,
         "estimate must be a bg.Usage, not {'prompt_tokens': 5}"),
    ],
)  # fmt: skip
def test_a_call_that_cannot_be_judged_is_told_what_to_do_and_changes_nothing(
    world: World, limits: list[str], call: dict[str, object], error: type[Exception], text: str
) -> None:
    async def main() -> None:
        rules = bg.LabelRules(required=["team"] if limits == ["5 requests/day"] else [])
        guard = world.guard(*limits, labels=rules)
        async with guard:
            before = world.dump()
            with pytest.raises(error, match=re.escape(text)):
                await guard.reserve(**call)  # type: ignore[arg-type]
            assert world.dump() == before
        told = [event.cause for event in world.heard.of(Refused)]
        assert told == ([] if error is TypeError else [error.__name__])

    asyncio.run(main())


def test_a_call_that_no_budget_covers_is_refused_where_the_policy_says_so(world: World) -> None:
    async def main() -> None:
        budgets = [bg.Budget("search", ["9 requests/day"], where={"team": "search"})]
        guard = world.guard(budgets=budgets, settings=bg.GuardSettings(on_unmatched="refuse"))
        async with guard:
            with pytest.raises(bg.CallUnmatched, match=r"no budget covers a call of \{'team': 'ads'\}: add a"):
                await guard.reserve(team="ads")
        assert [event.cause for event in world.heard.of(Refused)] == ["CallUnmatched"]

    asyncio.run(main())


def test_a_free_model_passes_an_exhausted_dollar_budget(world: World) -> None:
    async def main() -> None:
        guard = world.guard("$1/day", prices=[bg.Price("free", {"input": 0, "output": 0})])
        async with guard:
            async with guard.reserve(estimate=bg.Usage(1, 1, cost_usd=1)) as hold:
                hold.record(bg.Usage(1, 1, cost_usd=1))
            await refused(guard, bg.Usage(1, 1, cost_usd="0.000000001"))
            async with guard.reserve(model="free", estimate=ESTIMATE) as free:
                free.record(USAGE)
        assert world.row(free.id)["cost_nanousd"] == 0

    asyncio.run(main())
