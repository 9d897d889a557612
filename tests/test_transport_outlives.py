"""A call that is still under way when the hold around it ends: assumed at first, and the truth once it is known."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from guard_kit import World, until
from transport_kit import (
    ASKED,
    CHAT,
    HANG,
    JSON,
    PLAIN,
    STREAMED,
    Play,
    Player,
    guard_of,
    heard,
    ledger_rows,
    request,
)

import budgetguard as bg
from budgetguard.events import Assumed, Settled
from budgetguard.hold import UNDER_WAY
from budgetguard.integrations.httpx import BudgetTransport

ESTIMATE = bg.Usage(600, 200)
DEAR = Play(
    [
        json.dumps(
            {"model": "m-1", "choices": [], "usage": {"prompt_tokens": 5_000, "completion_tokens": 4_000}}
        ).encode()
    ],
    JSON,
)
Inside = Callable[[bg.Guard, BudgetTransport], Awaitable[Any]]


class Gated(Player):
    """Answers once `gate` is set."""

    def __init__(self, *plays: Play) -> None:
        super().__init__(*plays)
        self.gate = asyncio.Event()

    async def handle_async_request(self, request: Any) -> Any:
        self.requests.append(request)
        await self.gate.wait()
        self.requests.pop()
        return await super().handle_async_request(request)


def row_of(world: World) -> tuple[str, int, str]:
    """Status, tokens and source of the one row; what is spent equals it, and nothing is held."""
    (row,) = ledger_rows(world)
    assert (world.reserved(), world.held(), world.spent()) == (0, 0, row["total_tokens"])
    return row["status"], row["total_tokens"], row["usage_source"]


async def outliving(guard: bg.Guard, player: Gated, count: int = 1) -> list[asyncio.Task[Any]]:
    """So many calls, begun inside a hold that has ended by now."""
    transport = BudgetTransport(guard, player)
    async with guard.reserve(estimate=ESTIMATE):
        calls = [asyncio.create_task(heard(transport, request(ASKED))) for _ in range(count)]
        await until(lambda: len(player.requests) == count, "the calls are sent")
    return calls


@pytest.mark.parametrize(("play", "tokens"), [(DEAR, 9_000), (Play([PLAIN], JSON), 570)])
def test_a_call_that_ends_after_its_hold_is_charged_what_it_used(world: World, play: Play, tokens: int) -> None:
    async def main() -> None:
        async with guard_of(world) as guard:
            (call,) = await outliving(guard, player := Gated(play))
            assert row_of(world) == ("assumed", 800, "estimate")
            assert [event.cause for event in world.heard.of(Assumed)] == [UNDER_WAY]
            player.gate.set()
            assert (await call).error is None

    asyncio.run(main())
    assert row_of(world) == ("settled", tokens, "reported")
    told = world.heard.of(Settled)  # once, so that who counts counts each call and its tokens once
    assert [(event.status, event.input_tokens + event.output_tokens) for event in told] == [("settled", tokens)]


def test_the_truth_comes_with_the_last_of_several_calls(world: World) -> None:
    async def main() -> None:
        async with guard_of(world) as guard:
            first, *others = await outliving(guard, player := Gated(DEAR), count=3)
            first.cancel()
            await first
            assert row_of(world)[0] == "assumed"
            player.gate.set()
            await asyncio.gather(*others)

    asyncio.run(main())
    status, tokens, _ = row_of(world)
    assert status == "settled" and tokens > 18_000  # and what is assumed of the first


def test_one_for_which_nothing_is_billed_takes_back_what_was_assumed(world: World) -> None:
    async def main() -> None:
        async with guard_of(world) as guard:
            (call,) = await outliving(guard, player := Gated(Play([b"{}"], JSON, 429)))
            player.gate.set()
            await call

    asyncio.run(main())
    assert row_of(world)[:2] == ("settled", 0)


def test_a_hold_released_by_hand_is_charged_late_for_a_call_that_was_under_way(world: World) -> None:
    async def main() -> None:
        async with guard_of(world) as guard:
            player = Gated(DEAR)
            transport = BudgetTransport(guard, player)
            async with guard.reserve(estimate=ESTIMATE) as hold:
                call = asyncio.create_task(heard(transport, request(ASKED)))
                await until(lambda: player.requests != [], "the call is sent")
                await hold.release()
            player.gate.set()
            await call

    asyncio.run(main())
    assert row_of(world) == ("late", 9_000, "reported")


async def streaming(guard: bg.Guard, play: Play) -> Any:
    """A stream of which one chunk was read inside a hold, which has ended by now."""
    transport = BudgetTransport(guard, Player(play))
    async with guard.reserve(estimate=ESTIMATE):
        response = await transport.handle_async_request(request(STREAMED))
        chunks = aiter(response.stream)
        await anext(chunks)
    return response, chunks


def test_a_stream_read_to_its_end_after_its_hold_is_charged_what_it_states(world: World) -> None:
    async def main() -> None:
        async with guard_of(world) as guard:
            response, chunks = await streaming(guard, Play(CHAT))
            status, tokens, _ = row_of(world)
            assert status == "assumed" and tokens > 100  # it may go on to its bound
            assert b"".join([chunk async for chunk in chunks]) == b"".join(CHAT[1:])
            await response.stream.aclose()

    asyncio.run(main())
    assert row_of(world) == ("settled", 570, "reported")


@pytest.mark.parametrize("way", ["closed", "garbage"])
def test_a_stream_that_is_left_after_its_hold_is_charged_what_had_come(world: World, way: str) -> None:
    async def main() -> None:
        async with guard_of(world) as guard:
            response, chunks = await streaming(guard, Play(CHAT[:2], ending=HANG))
            assert row_of(world)[0] == "assumed"
            if way == "closed":
                await response.stream.aclose()
            else:
                await chunks.aclose()
                del response, chunks
                gc.collect()
                await until(lambda: world.statuses() == ["settled"], "the truth is delivered")

    asyncio.run(main())
    status, tokens, source = row_of(world)
    assert (status, source) == ("settled", "counted") and 0 < tokens < 100


def test_a_block_that_fails_charges_what_had_come_of_a_stream(world: World) -> None:
    """Nobody will read on: what the rest might have used is not charged, even for a while."""

    async def main() -> None:
        async with guard_of(world) as guard:
            transport = BudgetTransport(guard, Player(Play(CHAT[:2], ending=HANG)))

            async def failing() -> Any:
                async with guard.reserve(estimate=ESTIMATE):
                    response = await transport.handle_async_request(request(STREAMED))
                    await anext(aiter(response.stream))
                    begun.append(response)
                    raise ZeroDivisionError

            begun: list[Any] = []
            with pytest.raises(ZeroDivisionError):
                await failing()
            status, tokens, _ = row_of(world)
            assert status == "assumed" and 0 < tokens < 100
            await begun[0].stream.aclose()

    asyncio.run(main())
    assert row_of(world)[0] == "settled"
