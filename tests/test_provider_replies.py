"""The fake provider plays what it is given, recorded or scripted, of any API: slow, cut, hanging, and billed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from guard_kit import until

from budgetguard.errors import InvalidAmount
from budgetguard.testing import (
    NO_ANSWER,
    FakeProvider,
    ProviderPrice,
    Recorded,
    Reply,
    aws_event,
    json_line,
    sse_event,
)
from budgetguard.usage import Usage
from budgetguard.wire.aws_events import AwsEvents

CHAT = {"model": "mini", "messages": [{"role": "user", "content": "Say hello."}]}
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "Hello."}],
    "usage": {"input_tokens": 11, "output_tokens": 3, "cache_read_input_tokens": 5},
}  # fmt: skip
ANSWERED = {"id": "c-1", "object": "chat.completion", "created": 1, "model": "mini-2", "choices": [],
            "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}}  # fmt: skip


@contextlib.asynccontextmanager
async def provided(**options: Any) -> AsyncIterator[tuple[FakeProvider, httpx2.AsyncClient]]:
    async with FakeProvider(**options) as provider, httpx2.AsyncClient(base_url=provider.url, timeout=30) as client:
        yield provider, client


async def arrived(client: httpx2.AsyncClient, path: str = "/v1/chat/completions") -> tuple[bytes, bool]:
    """The bytes of an answer's body that came, and whether it ended as it should; no bytes for no answer."""
    came = b""
    try:
        async with client.stream("POST", path, json=CHAT) as response:
            async for chunk in response.aiter_raw():
                came += chunk
    except httpx2.RemoteProtocolError:
        return came, False
    return came, True


@pytest.mark.parametrize(
    "events",
    [
        [sse_event({"a": 1}), sse_event("two\nlines", "said"), sse_event("[DONE]")],
        [json_line({"response": "a"}), json_line({"done": True})],
        [aws_event("messageStart", {"role": "assistant"}), aws_event("throttlingException", {}, "exception")],
        b'{"whole": true}',
    ],
)
def test_an_answer_is_cut_at_any_byte(events: Any) -> None:
    reply = Reply(body=events)

    async def scenario() -> None:
        async with provided() as (provider, client):
            for place in range(len(reply.content) + 1):
                provider.reply_next(replace(reply, cut_at=place))
                came, whole = await arrived(client)
                assert came == reply.content[:place]
                assert not whole or (isinstance(events, bytes) and place == len(events))
            provider.reply_next(replace(reply, cut_at=NO_ANSWER), reply)
            assert await arrived(client) == (b"", False)
            assert await arrived(client) == (reply.content, True)

    asyncio.run(scenario())


@pytest.mark.parametrize(("cut_at", "head"), [(None, False), (0, True), (5, True), (10_000, True)])
def test_a_hanging_answer_falls_silent_where_it_would_break_off(cut_at: int | None, head: bool) -> None:
    async def scenario() -> None:
        async with provided() as (provider, client):
            provider.reply_next(Reply(200, {}, [b"0123", b"456789"], cut_at=cut_at, hang=True))
            came = bytearray()
            begun = asyncio.Event()

            async def ask() -> None:
                async with client.stream("POST", "/v1/chat/completions", json=CHAT) as response:
                    begun.set()
                    async for chunk in response.aiter_raw():
                        came.extend(chunk)

            asking = asyncio.create_task(ask())
            async with asyncio.timeout(30):
                await provider.wait_received(1)
                if head:
                    await begun.wait()
                    await until(lambda: len(came) == min(cut_at or 0, 10), "the bytes before the silence")
            done, _ = await asyncio.wait([asking], timeout=0.02)
            assert not done and begun.is_set() == head and came == b"0123456789"[: cut_at or 0]
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    asyncio.run(scenario())


def test_an_answer_waits_before_it_begins_and_before_each_event() -> None:
    async def scenario() -> None:
        async with provided(latency_ms=15, chunk_interval_ms=15) as (provider, client):
            for reply, least_s in [
                (Reply(body=[b"1", b"2", b"3"]), 0.060),
                (Reply(body=[b"1", b"2", b"3"], latency_ms=0, interval_ms=0), 0.0),
                (Reply(body=[b"1", b"2"], latency_ms=40, interval_ms=30), 0.100),
                (Reply(body=b"123", interval_ms=1_000_000), 0.015),
            ]:
                provider.reply_next(reply)
                began = time.monotonic()
                await arrived(client)
                assert time.monotonic() - began >= least_s

    asyncio.run(scenario())


def test_replies_and_faults_come_in_the_order_in_which_they_were_asked_for() -> None:
    async def scenario() -> None:
        async with provided() as (provider, client):
            provider.fail_next(503)
            provider.reply_next(Reply.json({"type": "overloaded_error"}, 529, headers={"Retry-After": "7"}))
            provider.cut_next(1)
            provider.replay([Recorded("POST", "/a", None, Reply.stream([b"one", b"two"]))])
            answers = [await client.post("/a", json={}) for _ in range(2)]
            assert [(answer.status_code, answer.headers.get("retry-after")) for answer in answers] == [
                (503, None), (529, "7"),
            ]  # fmt: skip
            assert await arrived(client, "/a") == (b"one", False)
            assert await arrived(client, "/a") == (b"onetwo", True)
            assert [request.path for request in provider.requests] == ["/a"] * 4

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("path", "reply", "line"),
    [
        ("/v1/chat/completions", Reply.json(ANSWERED), ("mini", 9, 4, 9 * 150 + 4 * 600)),
        ("/v1/chat/completions", Reply.json(ANSWERED, model="other"), ("other", 9, 4, None)),
        ("/v1/chat/completions", Reply.json(ANSWERED, 500), None),
        ("/v1/chat/completions", Reply.json({}), None),
        ("/v1/chat/completions", Reply(body=b"{["), None),
        ("/v1/chat/completions", Reply.json(ANSWERED, billed=None), None),
        ("/v1/chat/completions", Reply.json({}, 500, billed=Usage(9, 0)), ("mini", 9, 0, 9 * 150)),
        ("/v1/chat/completions", Reply.json(ANSWERED, billed=Usage(1, 1, cost_usd="0.5")), ("mini", 1, 1, 500_000_000)),
        ("/v1/chat/completions", Reply.json(ANSWERED, cut_at=3), ("mini", 9, 4, 9 * 150 + 4 * 600)),
        ("/v1/chat/completions", Reply.stream([sse_event(ANSWERED | {"choices": []}), sse_event("[DONE]")]),
         ("mini", 9, 4, 9 * 150 + 4 * 600)),
        ("/v1/messages", Reply.json(MESSAGE), ("mini", 16, 3, 16 * 150 + 3 * 600)),
        ("/model/nova/converse", Reply.json({"usage": {"inputTokens": 4, "outputTokens": 2}}), ("mini", 4, 2, 1_800)),
        ("/who/knows", Reply.json(ANSWERED), None),
    ],
)  # fmt: skip
def test_a_reply_bills_what_it_states_or_what_the_script_says(path: str, reply: Reply, line: Any) -> None:
    async def scenario() -> None:
        async with provided(prices={"mini": ProviderPrice(150_000_000, 600_000_000)}) as (provider, client):
            provider.reply_next(reply)
            await arrived(client, path)
            told = [(call.model, call.input_tokens, call.output_tokens, call.cost_nanousd) for call in provider.bill]
            assert told == ([] if line is None else [line])

    asyncio.run(scenario())


@pytest.fixture
def threaded() -> Iterator[FakeProvider]:
    with FakeProvider.in_thread({"mini": ProviderPrice(1, 1)}) as provider:
        yield provider


def test_synchronous_clients_are_served_from_a_thread(threaded: FakeProvider) -> None:
    with openai.OpenAI(base_url=threaded.base_url, api_key="any", max_retries=0) as client:
        response = client.chat.completions.create(model="mini", messages=CHAT["messages"], max_tokens=5)  # type: ignore[call-overload]
        assert response.usage.completion_tokens == 5
    threaded.reply_next(Reply.json(MESSAGE))
    with anthropic.Anthropic(base_url=threaded.url, api_key="any", max_retries=0) as claude:
        message = claude.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi."}])
        assert message.content[0].text == "Hello."  # type: ignore[union-attr]
    assert [(call.model, call.input_tokens) for call in threaded.bill] == [("mini", 3), ("m", 16)]


def test_an_error_inside_a_stream_reaches_the_client_that_reads_it(threaded: FakeProvider) -> None:
    started = {"type": "message_start", "message": {**MESSAGE, "content": []}}
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    threaded.reply_next(
        Reply.stream([sse_event(started, "message_start"), sse_event(error, "error")], billed=Usage(16, 0))
    )
    with anthropic.Anthropic(base_url=threaded.url, api_key="any", max_retries=0) as claude:
        asked = claude.messages.create(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi."}], stream=True
        )
        with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
            list(asked)
    assert [(call.input_tokens, call.output_tokens) for call in threaded.bill] == [(16, 0)]


def test_messages_of_an_aws_event_stream_are_whole() -> None:
    sent = aws_event("contentBlockDelta", {"delta": {"text": "a"}}) + aws_event("throttlingException", {}, "exception")
    events = AwsEvents().feed(sent)
    assert [(event.name, event.data) for event in events] == [
        ("contentBlockDelta", b'{"delta": {"text": "a"}}'), ("throttlingException", b"{}"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "named"),
    [({"status": -1}, "status"), ({"latency_ms": 0.5}, "latency_ms"), ({"interval_ms": -1}, "interval_ms"),
     ({"cut_at": -2}, "cut_at")],
)  # fmt: skip
def test_a_reply_that_cannot_be_played_is_refused_by_the_name_of_its_field(options: Any, named: str) -> None:
    with pytest.raises(InvalidAmount, match=named):
        Reply(**options)
