"""Calls that are cancelled at any moment, and answers that nobody reads to their end, are settled once all the same."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from cancel_kit import StrikingLoop, run_struck
from guard_kit import World, until
from transport_kit import (
    ASKED,
    CHAT,
    HANG,
    HIDDEN,
    JSON,
    PLAIN,
    STREAMED,
    URL,
    Play,
    Player,
    guard_of,
    heard,
    heard_sync,
    ledger_rows,
    only_row,
    request,
    word,
)  # fmt: skip

from budgetguard.integrations.httpx import BudgetTransport
from budgetguard.policy_settings import WithoutUsage

INPUT = 100
"""More than the estimated input of these requests, and less than what they state."""


def check(row: dict[str, Any], chunks: int, status: str = "cancelled") -> None:
    """What the row says of a chat of which so many chunks came."""
    if chunks >= CHAT.index(CHAT[-2]) + 1:
        assert (row["prompt_tokens"], row["completion_tokens"], row["usage_source"]) == (500, 70, "reported")
        return
    assert 0 < row["prompt_tokens"] < INPUT and 0 <= row["completion_tokens"] < 30
    assert (row["usage_source"], row["status"]) == ("counted", status)
    assert (row["completion_tokens"] > 0) == (chunks > 0)


@pytest.mark.parametrize("asked", [STREAMED, HIDDEN])
@pytest.mark.parametrize("chunks", range(len(CHAT) + 1))
def test_a_stream_cancelled_after_any_chunk_is_charged_what_came(world: World, chunks: int, asked: Any) -> None:
    async def main() -> None:
        player = Player(Play(CHAT[:chunks], ending=HANG))
        async with guard_of(world) as guard:
            call = asyncio.create_task(heard(BudgetTransport(guard, player), request(asked)))
            await player.waits(call)
            call.cancel()
            assert isinstance((await call).error, asyncio.CancelledError)
            assert player.closed == 1

    asyncio.run(main())
    check(only_row(world), chunks)


@pytest.mark.parametrize("way", ["async", "sync"])
@pytest.mark.parametrize("chunks", range(1, len(CHAT) + 1))
def test_a_stream_closed_after_any_chunk_is_charged_what_came(world: World, chunks: int, way: str) -> None:
    player, guard = Player(Play(CHAT)), guard_of(world)
    transport = BudgetTransport(guard, player)

    async def main() -> None:
        async with guard:
            await heard(transport, request(STREAMED), chunks)

    if way == "async":
        asyncio.run(main())
    else:
        heard_sync(transport, request(STREAMED), chunks)
        guard.sync.close()
    assert player.closed == 1
    check(only_row(world), chunks)


@pytest.mark.parametrize("everybody", [False, True])
@pytest.mark.parametrize("kind", ["stream", "stream that grows", "body", "refused by the provider"])
def test_a_call_cancelled_in_any_round_of_the_loop_is_settled_once_or_was_never_sent(
    world: World, kind: str, everybody: bool
) -> None:
    grows = [word("x" * 2_000)] * 3
    play, asked = {
        "stream": (Play(CHAT), STREAMED),
        "stream that grows": (Play([*grows, *CHAT[-3:]]), {**STREAMED, "max_tokens": 5}),
        "body": (Play([PLAIN], JSON), ASKED),
        "refused by the provider": (Play([b"{", b"}"], JSON, 429), ASKED),
    }[kind]
    sent: list[int] = []

    async def one(point: int) -> bool:
        """Whether the call was cancelled, and not over before."""
        before, player = sum(sent), Player(play, rounds=1)
        async with guard_of(world) as guard:
            transport = BudgetTransport(guard, player)
            ran = await run_struck(heard(transport, request(asked)), frozenset([point]), everybody)
        found = ledger_rows(world)[before:]
        if kind == "refused by the provider":
            assert len(found) <= len(player.requests)
        else:
            assert len(found) == len(player.requests), f"cancelled in round {point}"
        assert [row["revision"] for row in found] == [1] * len(found)
        assert (world.held(), world.reserved()) == (0, 0)
        sent.append(len(found))
        return ran.struck

    with asyncio.Runner(loop_factory=StrikingLoop) as runner:
        point = 1
        while runner.run(one(point)):
            point += 1
    assert 0 in sent and 1 in sent


async def words(client: httpx2.AsyncClient) -> AsyncIterator[bytes]:
    """A user's own generator over a stream."""
    async with client.stream("POST", URL, json=STREAMED) as response:
        async for chunk in response.aiter_raw():
            yield chunk


@pytest.mark.parametrize("way", ["aclose", "dropped", "thrown"])
def test_a_generator_over_a_stream_that_is_left_is_charged_what_came(world: World, way: str) -> None:
    async def main() -> None:
        async with guard_of(world) as guard:
            client = httpx2.AsyncClient(transport=BudgetTransport(guard, Player(Play(CHAT))))
            found = words(client)
            assert [await anext(found), await anext(found)] == list(CHAT[:2])
            if way == "aclose":
                await found.aclose()  # type: ignore[attr-defined]
            elif way == "thrown":
                with pytest.raises(KeyError):
                    await found.athrow(KeyError("the caller's"))  # type: ignore[attr-defined]
            else:
                del found
                gc.collect()
            await until(lambda: world.held() == 0, "the stream is settled")

    asyncio.run(main())
    check(only_row(world), 2)


RULES: dict[WithoutUsage, tuple[int, bool]] = {
    "release": (0, False), "input": (1, False), "streamed": (1, True), "estimate": (1, True),
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_an_unread_stream_that_is_garbage_is_charged_as_one_that_was_left(world: World, rule: WithoutUsage) -> None:
    async def main() -> None:
        async with guard_of(world, on_cancel=rule) as guard:
            response = await BudgetTransport(guard, Player(Play(CHAT))).handle_async_request(request(STREAMED))
            chunks = aiter(response.stream)
            await anext(chunks)
            await chunks.aclose()
            assert world.held() == 1
            del response, chunks
            gc.collect()
            await until(lambda: world.held() == 0, "the hold is settled")

    asyncio.run(main())
    row = only_row(world)
    assert (min(row["prompt_tokens"], 1), row["completion_tokens"] > 0) == RULES[rule]


def test_a_stream_that_is_garbage_after_its_last_word_is_charged_what_it_said(world: World) -> None:
    async def main() -> None:
        async with guard_of(world, on_cancel="release") as guard:
            response = await BudgetTransport(guard, Player(Play(CHAT))).handle_async_request(request(STREAMED))
            chunks = aiter(response.stream)
            for _ in CHAT[:-1]:
                await anext(chunks)
            await chunks.aclose()
            del response, chunks
            gc.collect()
            await until(lambda: world.held() == 0, "the hold is settled")

    asyncio.run(main())
    check(only_row(world), len(CHAT) - 1)


async def fails(client: httpx2.AsyncClient) -> None:
    async with client.stream("POST", URL, json=STREAMED) as response:
        async for _ in response.aiter_raw():
            raise ZeroDivisionError


def test_a_wrong_ending_of_the_callers_own_is_not_hidden(world: World) -> None:
    async def main() -> None:
        async with guard_of(world) as guard:
            client = httpx2.AsyncClient(transport=BudgetTransport(guard, Player(Play(CHAT))))
            with pytest.raises(ZeroDivisionError):
                await fails(client)

    asyncio.run(main())
    check(only_row(world), 1)
