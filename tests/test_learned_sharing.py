"""What guards learn of calls, and tell each other through the store."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

from guard_kit import MODEL, LossyStore, World
from test_forecasting import BOUNDED, answer, guard_of, guard_on, held
from transport_kit import Player, heard, request
from virtual_time import Patiently, VirtualLoop, run

import budgetguard as bg
from budgetguard.estimate import load_tokenizers
from budgetguard.integrations.httpx import BudgetTransport
from budgetguard.learning.forecasting import READ_TURNS
from budgetguard.learning.sharing import BEGIN_S
from budgetguard.learning.sketch import EDGES


async def shared(world: World, words: str = MODEL) -> int:
    """How many calls the store knows of a set, whoever made them."""
    async with contextlib.aclosing(world.store()) as store:
        found = [row for row in await store.read_outputs() if json.loads(row.words) == ["out", 86_400_000, words]]
        return sum(calls for row in found for _, place, calls in row.counts if place < len(EDGES))


def test_a_new_worker_asks_at_once_like_those_that_were_there(world: World, tmp_path: Path) -> None:
    async def main() -> int:
        async with guard_of(world, tmp_path) as one, guard_of(world, tmp_path) as other:
            for guard in (one, other):
                for _ in range(30):
                    await heard(BudgetTransport(guard, Player(answer(70))), request(BOUNDED))
        async with guard_of(world, tmp_path) as new:
            await heard(BudgetTransport(new, Player(answer(70))), request(BOUNDED))
        return await shared(world)

    assert asyncio.run(main()) == 61, "every call once"
    assert 50 <= held(world)[-1] <= 90


def test_a_new_worker_knows_other_agents_than_that_of_its_first_call(world: World, tmp_path: Path) -> None:
    async def main() -> None:
        calls = [("b", 900)] * 60 + [("a", 70)] * 60
        for some in (calls, calls[59:61]):
            async with guard_of(world, tmp_path) as guard:
                for agent, output in some:
                    with bg.acting_as(agent=agent):
                        await heard(BudgetTransport(guard, Player(answer(output))), request(BOUNDED))

    asyncio.run(main())
    *_, of_b, of_a = held(world)
    assert of_a <= 300 and 850 <= of_b <= 1_000


def test_workers_learn_from_each_other_while_they_are_at_work(world: World, tmp_path: Path) -> None:
    async def main() -> None:
        async with guard_of(world, tmp_path) as one, guard_of(world, tmp_path) as other:
            await heard(BudgetTransport(other, Player(answer(70))), request(BOUNDED))
            for _ in range(60):
                await heard(BudgetTransport(one, Player(answer(70))), request(BOUNDED))
            await heard(BudgetTransport(other, Player(answer(70))), request(BOUNDED))  # which asks for the set
            for guard in (one, other):
                for _ in range(READ_TURNS):
                    await guard._engines.current().learning.share_outputs()
            await heard(BudgetTransport(other, Player(answer(70))), request(BOUNDED))

    asyncio.run(main())
    estimates = held(world)
    assert estimates[0] > 3_900
    assert estimates[-1] <= 90


def test_a_store_that_keeps_no_outputs_is_told_once_and_harms_no_call(world: World, tmp_path: Path) -> None:
    async def main() -> int:
        store = LossyStore(world.store())
        async with guard_on(world, tmp_path, store) as guard:
            store.refused.add("note_outputs")
            for _ in range(5):
                assert (await heard(BudgetTransport(guard, Player(answer(70))), request(BOUNDED))).error is None
                await guard._engines.current().learning.share_outputs()
            told = [event for event in world.heard.of(bg.events.StoreProblem) if event.verb == "share_outputs"]
            assert len(told) == 1
            store.refused.clear()
            store.lost.add("note_outputs")
            await guard._engines.current().learning.share_outputs()
            store.lost.clear()
        return await shared(world)

    assert asyncio.run(main()) == 5, "also what was kept although nobody said so counts once"


class Deaf(Patiently):
    """Of this store nobody hears what others have learned."""

    async def read_outputs(self, *_: Any) -> Any:
        await asyncio.sleep(30)
        return []


def test_no_call_but_the_first_waits_for_a_store_that_does_not_tell_what_others_have_learned(
    world: World,
) -> None:
    loop, ended_s = VirtualLoop(), list[float]()
    load_tokenizers()  # not in a thread of which the loop knows nothing

    async def main() -> None:
        async with world.guard("100M tokens/day", store=Deaf(world.store(), loop)) as guard:
            for _ in range(3):
                assert (await heard(BudgetTransport(guard, Player(answer(70))), request(BOUNDED))).error is None
                ended_s.append(loop.time())

    run(loop, main())
    assert ended_s == [BEGIN_S] * 3
    assert held(world)[0] > 3_900
