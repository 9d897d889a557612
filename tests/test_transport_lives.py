"""Streams and answers that outlive their event loop, their guard, their thread, or the caller's wish to go on."""

from __future__ import annotations

import asyncio
import gc
import threading
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from guard_kit import World, until
from test_transport_left import check
from transport_kit import (
    ASKED,
    CHAT,
    JSON,
    PLAIN,
    SSE,
    STREAMED,
    URL,
    Play,
    Player,
    guard_of,
    heard_sync,
    ledger_rows,
    only_row,
    request,
)  # fmt: skip

from budgetguard.events import Spooled, SpoolReplayed
from budgetguard.integrations.httpx import BudgetTransport


@pytest.mark.parametrize("when", ["with the loop", "after the loop"])
def test_a_stream_that_outlives_its_event_loop_waits_in_the_spool_for_the_next_guard(world: World, when: str) -> None:
    kept: list[Any] = []

    async def main() -> None:
        guard = guard_of(world)
        response = await BudgetTransport(guard, Player(Play(CHAT))).handle_async_request(request(STREAMED))
        chunks = aiter(response.stream)
        await anext(chunks)
        kept.extend([guard, response, chunks])

    asyncio.run(main())
    guard = kept.pop(0)
    if when == "after the loop":
        kept.clear()
        gc.collect()
        assert [event.count for event in world.heard.of(Spooled)] == [1]

    async def later() -> None:
        async with guard_of(world):
            await until(lambda: world.held() == 0, "the settle is replayed")

    if when == "with the loop":
        asyncio.run(guard.aclose())
    else:
        asyncio.run(later())
        assert [event.count for event in world.heard.of(SpoolReplayed)] == [1]
    check(only_row(world), 1)


@pytest.mark.parametrize("place", ["before the answer", "in a stream", "in a body"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_what_interrupts_a_sync_call_is_raised_and_the_call_is_settled(
    world: World, place: str, error: BaseException
) -> None:
    plays = {
        "before the answer": Play(before=error),
        "in a stream": Play(CHAT[:2], ending=error),
        "in a body": Play([PLAIN[:20]], JSON, ending=error),
    }
    guard = guard_of(world)
    asked = STREAMED if place == "in a stream" else ASKED
    assert heard_sync(BudgetTransport(guard, Player(plays[place])), request(asked)).error is error
    guard.sync.close()
    row = only_row(world)
    if place == "in a stream":
        check(row, 2, "cancelled" if isinstance(error, KeyboardInterrupt) else "error")
    else:
        assert (row["usage_source"], row["status"]) == ("estimate", "assumed")
    assert row["error_type"] == type(error).__name__


def test_a_sync_stream_that_nobody_has_any_more_is_charged_what_came(world: World) -> None:
    guard = guard_of(world)
    response = BudgetTransport(guard, Player(Play(CHAT))).handle_request(request(STREAMED))
    chunks = iter(response.stream)
    next(chunks)
    chunks.close()
    del response, chunks
    gc.collect()
    guard.sync.close()
    check(only_row(world), 1)


def test_a_stream_begun_in_one_thread_and_closed_in_another_is_settled_once(world: World) -> None:
    guard = guard_of(world)
    client = httpx2.Client(transport=BudgetTransport(guard, Player(Play(CHAT))))
    with client.stream("POST", URL, json=STREAMED) as response:
        next(response.iter_raw())
        closing = threading.Thread(target=response.close)
        closing.start()
        closing.join()
    guard.sync.close()
    check(only_row(world), 1)


def test_a_stream_under_way_when_its_guard_is_closed_goes_on_and_is_charged_to_its_end(world: World) -> None:
    async def main() -> None:
        guard = guard_of(world)
        response = await BudgetTransport(guard, Player(Play(CHAT))).handle_async_request(request(STREAMED))
        chunks = aiter(response.stream)
        passed = await anext(chunks)
        await guard.aclose()
        passed += b"".join([chunk async for chunk in chunks])
        await response.stream.aclose()
        assert passed == b"".join(CHAT)

    asyncio.run(main())
    check(only_row(world), len(CHAT))


@pytest.mark.parametrize("play", [Play(CHAT), Play([PLAIN[:9], PLAIN[9:]], JSON), Play([b"{", b"}"], JSON, 429)])
def test_a_sync_answer_under_way_when_its_guard_is_closed_is_whole_and_told_to_the_next_guard(
    world: World, play: Play
) -> None:
    guard = guard_of(world)
    closing = replace(play, on_chunk=lambda number: guard.sync.close() if number == 1 else None)
    outcome = heard_sync(BudgetTransport(guard, Player(closing)), request(STREAMED if play.headers == SSE else ASKED))
    assert (outcome.error, outcome.passed) == (None, b"".join(play.chunks))
    assert [event.count for event in world.heard.of(Spooled)] == [1]

    async def later() -> None:
        async with guard_of(world):
            await until(lambda: world.held() == 0, "what was spooled is replayed")

    asyncio.run(later())
    if play.status == 429:
        assert world.states() == ["released"]
    else:
        check(only_row(world), len(CHAT))


def test_many_threads_side_by_side_are_each_settled_once(world: World) -> None:
    guard = guard_of(world)
    transport = BudgetTransport(guard, Player(Play(CHAT)))
    starts = threading.Barrier(12)

    def calls() -> None:
        starts.wait()
        for number in range(8):
            assert heard_sync(transport, request(STREAMED), number or None).error is None

    threads = [threading.Thread(target=calls) for _ in range(starts.parties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    guard.sync.close()
    found = ledger_rows(world)
    assert (len(found), world.held(), world.reserved()) == (12 * 8, 0, 0)
    assert {row["revision"] for row in found} == {1}
    assert world.spent() == sum(row["total_tokens"] for row in found)
    assert sum(row["usage_source"] == "reported" for row in found) == 12 * 4
