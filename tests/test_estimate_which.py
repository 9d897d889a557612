"""Which of two a request is estimated by: what was learned, or its ceiling. The strictest matching budget decides."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from guard_kit import MODEL, World
from test_forecasting import ASKED, BOUNDED, answer, held
from transport_kit import Player, heard, request

import budgetguard as bg
from budgetguard.errors import ConfigError
from budgetguard.integrations.httpx import BudgetTransport

BUDGET = """
[[budget]]
name = "{name}"
where = {where}
limits = ["100M tokens/day"]
{more}
"""
CEILING = 'estimate = "ceiling"'
LEARNED = 'estimate = "learned"'


def budget(name: str, more: str = "", where: str = "{}") -> str:
    return BUDGET.format(name=name, where=where, more=more)


def asked_after_60(world: World, folder: Path, policy: str, **labels: str) -> int:
    """What is held for a call whose like wrote 70 tokens 60 times, and which may write 4,000."""

    async def main() -> None:
        (folder / "budgets.toml").write_text(policy, encoding="utf-8")
        guard = bg.Guard.from_toml(folder / "budgets.toml", store=world.store(), observers=[world.heard])
        async with guard:
            for team in ["other"] * 60 + [labels.get("team", "other")]:
                with bg.acting_as(team=team):
                    await heard(BudgetTransport(guard, Player(answer(70))), request(BOUNDED))

    asyncio.run(main())
    return held(world)[-1]


@pytest.mark.parametrize(
    ("policy", "is_learned"),
    [
        ("", True),
        (budget("a"), True),
        ('[estimate]\noutput = "ceiling"\n', False),
        ('[estimate]\noutput = "ceiling"\n' + budget("a"), False),
        ('[estimate]\noutput = "ceiling"\n' + budget("a", LEARNED), True),
        ('[estimate]\noutput = "ceiling"\n' + budget("a", LEARNED) + budget("b"), False),
        (budget("a") + budget("b", CEILING), False),
        (budget("a") + budget("b", CEILING, '{ team = "search" }'), True),
        (budget("a", LEARNED) + budget("b", CEILING), False),
    ],
)
def test_the_strictest_matching_budget_decides(world: World, tmp_path: Path, policy: str, is_learned: bool) -> None:
    estimate = asked_after_60(world, tmp_path, policy)
    assert (50 <= estimate <= 100) if is_learned else (3_950 <= estimate <= 4_050)


def test_a_call_learns_for_others_though_its_own_budget_goes_by_the_ceiling(world: World, tmp_path: Path) -> None:
    policy = budget("a") + budget("b", CEILING, '{ team = "other" }')
    assert asked_after_60(world, tmp_path, policy, team="search") <= 100


def test_a_budget_that_says_something_else_is_refused_with_its_path() -> None:
    with pytest.raises(ConfigError, match=r'budget "a"\.estimate'):
        bg.Budget("a", ["$1/day"], estimate="best")  # type: ignore[arg-type]


@pytest.mark.parametrize(("limit", "most"), [("$1/day", 200_000), ("$0.01/day", 2_600)])
def test_a_model_whose_most_costs_more_than_the_limit_is_tried_all_the_same(
    world: World, tmp_path: Path, limit: str, most: int
) -> None:
    """Nobody knows what it writes: half of what the limit could pay is held, and its whole price is not."""
    policy = f'[[budget]]\nname = "a"\nlimits = ["{limit}"]\n[[price]]\nmodel = "{MODEL}"\n'
    policy += 'usd_per_mtok = { input = "1", output = "2" }\n[estimate]\ndefault_output_tokens = 900000\n'

    async def main() -> Any:
        (tmp_path / "budgets.toml").write_text(policy, encoding="utf-8")
        async with bg.Guard.from_toml(tmp_path / "budgets.toml", store=world.store()) as guard:
            return (await heard(BudgetTransport(guard, Player(answer(70))), request(ASKED))).error

    assert asyncio.run(main()) is None
    assert most * 0.9 < held(world)[0] <= most * 1.3


def test_a_guard_made_in_python_says_it_too(world: World) -> None:
    async def main() -> None:
        guard = world.guard("100M tokens/day", estimate=bg.EstimateSettings(output="ceiling"))
        async with guard:
            for _ in range(30):
                await heard(BudgetTransport(guard, Player(answer(70))), request(BOUNDED))

    asyncio.run(main())
    assert held(world)[-1] >= 3_950


def refusal(world: World, folder: Path, output: int, asked: dict[str, Any], **labels: str) -> list[str]:
    """The lines of the first that is refused: by a day of 9,000 tokens, of which each call takes some."""
    policy = '[[budget]]\nname = "a"\nlimits = ["9000 tokens/day"]\n'

    async def main() -> str:
        (folder / "budgets.toml").write_text(policy, encoding="utf-8")
        async with bg.Guard.from_toml(folder / "budgets.toml", store=world.store()) as guard:
            for _ in range(90):
                with bg.acting_as(**labels):
                    outcome = await heard(BudgetTransport(guard, Player(answer(output))), request(asked))
                if outcome.error is not None:
                    return str(outcome.error)
        return ""

    return asyncio.run(main()).splitlines()


@pytest.mark.parametrize(
    ("output", "asked", "labels", "why"),
    [
        (300, ASKED, {}, "output tokens are learned: p95 of 28 calls of model acme-1"),
        (300, BOUNDED, {"agent": "a"}, "output tokens are learned: p95 of 28 calls of agent a"),
        (300, ASKED, {"agent": "a", "task": "x\n y"},
         r"output tokens are learned: p95 of 28 calls of task x\n y"),
        (2_000, ASKED, {"task": "t"}, "output tokens are what [estimate] default_output_tokens says: "
         "set max_completion_tokens"),
        (900, {**BOUNDED, "max_tokens": 4_100}, {"task": "t"},
         "output tokens are learned: above the most of only 6 calls of task t"),
    ],
)  # fmt: skip
def test_a_refusal_says_from_what_its_estimate_was_learned(
    world: World, tmp_path: Path, output: int, asked: dict[str, Any], labels: dict[str, str], why: str
) -> None:
    assert refusal(world, tmp_path, output, asked, **labels)[-1].endswith(f" {why}")


def test_what_a_caller_estimates_itself_stays_as_it_is(world: World) -> None:
    async def main() -> None:
        async with world.guard("100M tokens/day") as guard:
            for _ in range(60):
                await heard(BudgetTransport(guard, Player(answer(70))), request(BOUNDED))
            async with guard.reserve(model=MODEL, estimate=bg.Usage(600, 2_000)) as hold:
                hold.record(bg.Usage(600, 70))

    asyncio.run(main())
    assert held(world)[-1] == 2_600 - 20
