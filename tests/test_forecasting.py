"""A guard that learns what calls write: what it holds for the next ones, and that their own bounds still hold."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from guard_kit import MODEL, World
from transport_kit import CHAT, DONE, HANG, JSON, STOP, URLS, Play, Player, event, heard, ledger_rows, request, word

import budgetguard as bg
from budgetguard.errors import LabelRequired
from budgetguard.integrations.httpx import BudgetTransport

POLICY = """
[guard]
inject_max_tokens = {inject}
[labels]
required = {required}
[estimate]
output = "learned"
[[budget]]
name = "all"
limits = ["{limit}"]
[[budget]]
name = "each"
per = ["agent"]
limits = ["100M tokens/day"]
"""
ASKED: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}]}
BOUNDED = {**ASKED, "max_tokens": 4_000}
INPUT = 12
LONG = [word("x" * 350)] * 40


def guard_of(
    world: World, folder: Path, *, inject: bool = False, required: str = "[]", limit: str = "100M tokens/day"
) -> bg.Guard:
    return guard_on(world, folder, world.store(), inject=inject, required=required, limit=limit)


def guard_on(
    world: World, folder: Path, store: Any, *, inject: bool = False, required: str = "[]",
    limit: str = "100M tokens/day",
) -> bg.Guard:  # fmt: skip
    text = POLICY.format(inject=str(inject).lower(), required=required, limit=limit)
    (folder / "budgets.toml").write_text(text, encoding="utf-8")
    return bg.Guard.from_toml(folder / "budgets.toml", store=store, observers=[world.heard])


def answer(output: int) -> Play:
    usage = {"prompt_tokens": INPUT, "completion_tokens": output}
    body = {"model": MODEL, "choices": [{"message": {"content": "Hello"}}], "usage": usage}
    return Play([json.dumps(body).encode()], JSON)


def held(world: World) -> list[int]:
    """What was held for the output of each call in turn, about."""
    return [row["estimated_tokens"] - 20 for row in ledger_rows(world)]


def test_the_next_call_holds_what_those_before_it_wrote_and_never_more_than_its_bound(
    world: World, tmp_path: Path
) -> None:
    async def main() -> None:
        async with guard_of(world, tmp_path) as guard:
            transport = BudgetTransport(guard, Player(answer(70)))
            for _ in range(60):
                await heard(transport, request(BOUNDED))
            await heard(transport, request({**ASKED, "max_tokens": 30}))

    asyncio.run(main())
    first, *_, before_last, last = held(world)
    assert 3_950 <= first <= 4_050
    assert 50 <= before_last <= 90
    assert last <= 40
    assert (world.reserved(), world.spent()) == (0, 2 * 61 * (INPUT + 70))


def test_another_agent_is_told_by_its_model_until_it_has_calls_of_its_own(world: World, tmp_path: Path) -> None:
    async def main() -> None:
        async with guard_of(world, tmp_path) as guard:
            for agent, output in [("a", 70)] * 60 + [("b", 900)] * 60:
                with bg.acting_as(agent=agent):
                    await heard(BudgetTransport(guard, Player(answer(output))), request(BOUNDED))
            with bg.acting_as(agent="a"):
                await heard(BudgetTransport(guard, Player(answer(70))), request(BOUNDED))

    asyncio.run(main())
    estimates = held(world)
    assert 50 <= estimates[60] <= 300, "b's first call"
    assert 850 <= estimates[119] <= 1_000, "b's last"
    assert estimates[120] <= 300, "a is not what b is"


def test_a_stream_that_passes_what_was_learned_takes_more_up_to_its_bound(world: World, tmp_path: Path) -> None:
    usage = {"prompt_tokens": INPUT, "completion_tokens": 3_900}
    stream = Play([*LONG, STOP, event({"choices": [], "usage": usage}), DONE])

    async def main() -> Any:
        async with guard_of(world, tmp_path) as guard:
            for _ in range(60):
                await heard(BudgetTransport(guard, Player(answer(70))), request(BOUNDED))
            return await heard(BudgetTransport(guard, Player(stream)), request({**BOUNDED, "stream": True}))

    assert asyncio.run(main()).error is None
    last = ledger_rows(world)[-1]
    assert last["completion_tokens"] == 3_900
    assert 3_500 <= last["estimated_tokens"] <= 4_040, "grown with the stream, and not beyond what it may write"


@pytest.mark.parametrize(("most", "stops"), [(4_000, False), (400, True)])
def test_on_a_full_account_a_stream_passes_what_was_learned_and_stops_at_its_own_most(
    world: World, tmp_path: Path, most: int, stops: bool
) -> None:
    """What was learned is passed by one call in twenty: that is no reason to break an answer off."""

    async def main() -> bool:
        async with guard_of(world, tmp_path, limit="5100 tokens/day") as guard:
            for _ in range(60):
                await heard(BudgetTransport(guard, Player(answer(70))), request(BOUNDED))
            end = event({"choices": [], "usage": {"prompt_tokens": INPUT, "completion_tokens": 4_000}})
            player = Player(Play([*LONG, STOP, end, DONE]))
            asked = {**ASKED, "max_tokens": most, "stream": True}
            outcome = await heard(BudgetTransport(guard, player), request(asked))
            return isinstance(outcome.error, bg.BudgetExceeded)

    assert asyncio.run(main()) is stops
    assert (ledger_rows(world)[-1]["completion_tokens"] == 4_000) is not stops


def test_an_injected_bound_leaves_room_for_longer_answers_and_is_sent(world: World, tmp_path: Path) -> None:
    async def main() -> int:
        async with guard_of(world, tmp_path, inject=True) as guard:
            player = Player(answer(70))
            for number in range(150):
                await heard(BudgetTransport(guard, player), request(ASKED))
                player.plays = [answer(200 if number % 40 == 39 else 70)]
            return int(player.sent["max_completion_tokens"])

    assert 200 <= asyncio.run(main()) <= 420, "what ends at its bound may have been cut, and is learned as twice that"


def test_a_model_whose_most_is_above_the_limit_is_tried_all_the_same(world: World, tmp_path: Path) -> None:
    async def main() -> list[Any]:
        async with guard_of(world, tmp_path, limit="3000 tokens/day") as guard:
            player = Player(answer(70))
            return [(await heard(BudgetTransport(guard, player), request(ASKED))).error for _ in range(20)]

    assert asyncio.run(main()) == [None] * 20
    assert max(held(world)) <= 1_500


def test_open_calls_lower_the_estimate_until_they_end_however_they_do(world: World, tmp_path: Path) -> None:
    async def main() -> None:
        async with guard_of(world, tmp_path) as guard:
            for number in range(200):
                await heard(BudgetTransport(guard, Player(answer(900 if number % 10 == 0 else 70))), request(BOUNDED))
            opened = [await _hanging(guard) for _ in range(50)]
            for call in opened:
                call.cancel()
            await asyncio.wait(opened)
            await heard(BudgetTransport(guard, Player(Play(CHAT))), request({**BOUNDED, "stream": True}), 1)
            await heard(BudgetTransport(guard, Player(Play(status=400))), request(BOUNDED))
            await heard(BudgetTransport(guard, Player(Play(before=OSError("gone")))), request(BOUNDED))
            await heard(BudgetTransport(guard, Player(answer(70))), request(BOUNDED))

    asyncio.run(main())
    estimates = held(world)
    alone, last = estimates[199], estimates[-1]
    assert min(estimates[200:250]) < alone - 50
    assert last == pytest.approx(alone, abs=20)


async def _hanging(guard: bg.Guard) -> asyncio.Task[Any]:
    player = Player(Play(before=HANG))
    call = asyncio.create_task(heard(BudgetTransport(guard, player), request(BOUNDED)))
    await player.waits(call)
    return call


def test_a_call_that_cannot_be_judged_is_refused_as_ever(world: World, tmp_path: Path) -> None:
    async def main() -> Any:
        async with guard_of(world, tmp_path, required='["team"]') as guard:
            return await heard(BudgetTransport(guard, Player(answer(70))), request(ASKED))

    assert isinstance(asyncio.run(main()).error, LabelRequired)
    assert ledger_rows(world) == []


@pytest.mark.parametrize(
    ("asked", "most"),
    [
        ({"max_tokens": 50}, 50),
        ({"max_tokens": 50, "n": 3}, 150),
        ({"model": "o3", "max_completion_tokens": 40, "reasoning_effort": "high"}, 40),
        ({"model": "gpt-4o-2024-05-13"}, 4_096),
    ],
)
def test_what_was_learned_is_never_more_than_a_request_or_its_model_allows(
    world: World, tmp_path: Path, asked: dict[str, Any], most: int
) -> None:
    """Reasoning is in the output, as in its bound."""

    async def main() -> None:
        async with guard_of(world, tmp_path) as guard:
            usage = {"prompt_tokens": INPUT, "completion_tokens": 9_000}
            usage |= {"completion_tokens_details": {"reasoning_tokens": 8_900}}
            long = Play([json.dumps({"model": MODEL, "choices": [], "usage": usage}).encode()], JSON)
            for _ in range(60):
                await heard(BudgetTransport(guard, Player(long)), request({**ASKED, **asked}))

    asyncio.run(main())
    assert most <= ledger_rows(world)[-1]["estimated_tokens"] <= most + 60


def test_embeddings_write_nothing_and_teach_nothing(world: World, tmp_path: Path) -> None:
    asked = {"model": "text-embedding-3-small", "input": "Some words."}
    told = {"model": "text-embedding-3-small", "data": [], "usage": {"prompt_tokens": 3, "total_tokens": 3}}

    async def main() -> int:
        async with guard_of(world, tmp_path) as guard:
            player = Player(Play([json.dumps(told).encode()], JSON))
            for _ in range(30):
                assert (await heard(BudgetTransport(guard, player), request(asked, URLS["embeddings"]))).error is None
        async with contextlib.aclosing(world.store()) as store:
            return len(await store.read_outputs())

    assert asyncio.run(main()) == 0
    assert ledger_rows(world)[-1]["estimated_tokens"] <= 10


def test_several_answers_that_share_an_injected_bound_have_room_each(world: World, tmp_path: Path) -> None:
    asked = {**ASKED, "n": 3}

    async def main() -> list[int]:
        async with guard_of(world, tmp_path, inject=True) as guard:
            player, bounds = Player(answer(200)), list[int]()
            for _ in range(150):
                await heard(BudgetTransport(guard, player), request(asked))
                bounds.append(player.sent["max_completion_tokens"])
            player.plays = [answer(3 * bounds[-1])]  # each of them is cut
            for _ in range(60):
                await heard(BudgetTransport(guard, player), request(asked))
            bounds.append(player.sent["max_completion_tokens"])
        return bounds

    *_, before, after = asyncio.run(main())
    assert 200 <= before <= 220, "of three answers with 200 tokens one may have had them all"
    assert after >= 2 * before, "what was cut was no answer"
    assert world.spent() == sum(row["total_tokens"] for row in ledger_rows(world)) * 2
