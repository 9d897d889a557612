"""The fake provider, asked by the real OpenAI client: its answers, its bill, its faults."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgetguard.errors import InvalidAmount
from budgetguard.testing import (
    BilledCall,
    FakeClock,
    FakeProvider,
    ProviderPrice,
    count_input_tokens,
    count_tokens,
    read_bill,
)

PRICES = {"mini": ProviderPrice(150_000_000, 600_000_000), "free": ProviderPrice(0, 0)}
MESSAGES: list[Any] = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Say hello, please."}]
INPUT_TOKENS = 3 + 5  # 9 and 18 bytes, a quarter of each, rounded up
CHAT = "/v1/chat/completions"


@contextlib.asynccontextmanager
async def provided(**options: Any) -> AsyncIterator[tuple[FakeProvider, openai.AsyncOpenAI]]:
    async with (
        FakeProvider(PRICES, **options) as provider,
        openai.AsyncOpenAI(base_url=provider.base_url, api_key="any", max_retries=0) as client,
    ):
        yield provider, client


async def ask(client: openai.AsyncOpenAI, **options: Any) -> Any:
    return await client.chat.completions.create(**{"model": "mini", "messages": MESSAGES, **options})


async def read_into(chunks: list[Any], stream: Any) -> None:
    async for chunk in stream:
        chunks.append(chunk)


def test_an_answer_is_billed_exactly_as_its_usage_says() -> None:
    async def scenario() -> None:
        async with provided() as (provider, client):
            response = await ask(client, max_tokens=7, extra_headers={"x-request-id": "r-1"})
            assert response.usage.prompt_tokens == INPUT_TOKENS == count_input_tokens(MESSAGES)
            assert response.usage.completion_tokens == 7 == count_tokens(response.choices[0].message.content)
            assert response.usage.total_tokens == INPUT_TOKENS + 7
            assert response.choices[0].finish_reason == "length"
            assert response._request_id == "r-1"
            cost_nanousd = INPUT_TOKENS * 150 + 7 * 600
            assert provider.bill == [BilledCall(response.id, "mini", INPUT_TOKENS, 7, cost_nanousd, "r-1", path=CHAT)]

    asyncio.run(scenario())


def test_a_stream_ends_with_its_usage_and_is_billed_the_same() -> None:
    async def scenario() -> None:
        async with provided() as (provider, client):
            stream = await ask(client, max_tokens=9, stream=True, stream_options={"include_usage": True})
            chunks = [chunk async for chunk in stream]
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
            assert count_tokens(text) == 9
            assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
            assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (INPUT_TOKENS, 9)
            assert [(call.input_tokens, call.output_tokens) for call in provider.bill] == [(INPUT_TOKENS, 9)]

    asyncio.run(scenario())


def test_a_stream_tells_no_usage_unless_asked() -> None:
    async def scenario() -> None:
        async with provided() as (provider, client):
            chunks = [chunk async for chunk in await ask(client, max_tokens=3, stream=True)]
            assert all(chunk.usage is None and chunk.choices for chunk in chunks)
            assert chunks[-1].choices[0].finish_reason == "length"
            assert provider.bill[0].output_tokens == 3

    asyncio.run(scenario())


def test_the_length_of_an_answer_follows_from_seed_and_messages_the_hint_and_the_bounds() -> None:
    async def lengths(seed: int) -> list[int]:
        async with provided(seed=seed) as (_, client):
            asked = [await ask(client, messages=[{"role": "user", "content": str(index)}]) for index in range(5)]
            return [response.usage.completion_tokens for response in asked]

    async def hinted() -> None:
        async with provided() as (_, client):
            hint = {"x-output-tokens": "300"}
            assert (await ask(client, extra_headers=hint)).usage.completion_tokens == 300
            assert (await ask(client, extra_headers=hint, max_completion_tokens=20)).usage.completion_tokens == 20
            assert (await ask(client, extra_headers=hint, n=2)).usage.completion_tokens == 600

    first = asyncio.run(lengths(1))
    assert first == asyncio.run(lengths(1))
    assert first != asyncio.run(lengths(2))
    assert len(set(first)) > 1
    assert all(16 <= length <= 128 for length in first)
    asyncio.run(hinted())


def test_the_bill_file_has_each_call_before_its_answer_is_sent(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "bill.jsonl"
        async with provided(bill_path=path) as (provider, client):
            await ask(client, extra_headers={"x-request-id": "answered"})
            provider.hang_next()
            call = asyncio.create_task(ask(client, extra_headers={"x-request-id": "given up"}))
            await provider.wait_received(2)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            assert [billed.request_id for billed in read_bill(path)] == ["answered", "given up"]
            assert read_bill(path) == provider.bill

    asyncio.run(scenario())


def test_a_failure_is_answered_with_its_status_and_not_billed() -> None:
    async def scenario() -> None:
        async with provided() as (provider, client):
            provider.fail_next(429)
            provider.fail_next(503)
            with pytest.raises(openai.RateLimitError, match="fail_next"):
                await ask(client)
            with pytest.raises(openai.InternalServerError):
                await ask(client)
            assert provider.bill == []
            await ask(client)
            assert (len(provider.bill), provider.received) == (1, 3)

    asyncio.run(scenario())


def test_the_clients_own_retries_are_billed_once_each_that_was_answered() -> None:
    async def scenario() -> None:
        async with provided() as (provider, client):
            provider.cut_next(0)
            retrying = client.with_options(max_retries=1)
            await ask(retrying, extra_headers={"x-request-id": "r-1"})
            assert [call.request_id for call in provider.bill] == ["r-1", "r-1"]

    asyncio.run(scenario())


def test_a_cut_stream_breaks_off_and_bills_what_was_sent() -> None:
    async def scenario() -> None:
        async with provided() as (provider, client):
            provider.cut_next(4)
            chunks: list[Any] = []
            stream = await ask(client, max_tokens=50, stream=True, stream_options={"include_usage": True})
            with pytest.raises(openai.APIConnectionError):
                await read_into(chunks, stream)
            assert [len(chunk.choices) for chunk in chunks] == [1] * 4
            assert [chunk.usage for chunk in chunks] == [None] * 4
            assert [(call.input_tokens, call.output_tokens) for call in provider.bill] == [(INPUT_TOKENS, 4)]

    asyncio.run(scenario())


def test_a_cut_call_that_does_not_stream_is_billed_and_gets_no_answer() -> None:
    async def scenario() -> None:
        async with provided() as (provider, client):
            provider.cut_next(0)
            with pytest.raises(openai.APIConnectionError):
                await ask(client, max_tokens=5)
            assert [call.output_tokens for call in provider.bill] == [5]

    asyncio.run(scenario())


def test_many_calls_at_once_are_each_billed_once() -> None:
    async def scenario() -> None:
        async with provided(latency_ms=1) as (provider, client):
            ids = [f"r-{index}" for index in range(50)]
            asked = [ask(client, max_tokens=2, extra_headers={"x-request-id": name}) for name in ids]
            responses = await asyncio.gather(*asked)
            assert sorted(call.id for call in provider.bill) == sorted(response.id for response in responses)
            assert sorted(call.request_id or "" for call in provider.bill) == sorted(ids)

    asyncio.run(scenario())


def test_the_models_are_those_that_have_a_price() -> None:
    async def scenario() -> None:
        async with provided() as (_, client):
            assert [model.id async for model in client.models.list()] == ["mini", "free"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"model": "large"}, "model"),
        ({"messages": []}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 1.5}, "n: "),
        ({"extra_headers": {"x-output-tokens": "many"}}, "x-output-tokens"),
    ],
)
def test_a_bad_request_gets_an_error_that_names_the_field_and_is_not_billed(options: Any, named: str) -> None:
    async def scenario() -> None:
        async with provided() as (provider, client):
            with pytest.raises((openai.BadRequestError, openai.NotFoundError), match=named):
                await ask(client, **options)
            assert provider.bill == []
            await ask(client)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400),
        (b"POST /v1/chat/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", 411),
        (b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 2\r\n\r\n[]", 400),
        (b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 2\r\n\r\n{[", 400),
        (b"GET /v1/chat/completions HTTP/1.1\r\n\r\n", 404),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 100_000 + b"\r\n\r\n", 431),
    ],
)
def test_what_is_no_request_gets_a_status_and_a_json_error(sent: bytes, status: int) -> None:
    async def scenario() -> None:
        async with FakeProvider(PRICES) as provider:
            reader, writer = await asyncio.open_connection("127.0.0.1", provider.port)
            writer.write(sent)
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            assert head.startswith(f"HTTP/1.1 {status} ")
            length = next(line for line in head.splitlines() if line.startswith("content-length"))
            assert json.loads(await reader.readexactly(int(length.split()[1])))["error"]["message"]
            writer.close()
            await writer.wait_closed()
            assert provider.bill == []

    asyncio.run(scenario())


def test_leaving_the_block_ends_open_calls() -> None:
    async def scenario() -> None:
        async with contextlib.AsyncExitStack() as stack:
            provider = await stack.enter_async_context(FakeProvider(PRICES))
            client = openai.AsyncOpenAI(base_url=provider.base_url, api_key="any", max_retries=0)
            provider.hang_next()
            call = asyncio.create_task(ask(client))
            await provider.wait_received(1)
            async with asyncio.timeout(30):
                await stack.aclose()
            with pytest.raises(openai.APIConnectionError):
                await call
            await client.close()

    asyncio.run(scenario())


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_price_is_the_exact_one_rounded_up_once(
    tokens_in: int, tokens_out: int, price_in: int, price_out: int
) -> None:
    cost_nanousd = ProviderPrice(price_in, price_out).cost_nanousd(tokens_in, tokens_out)
    exact_millionths = tokens_in * price_in + tokens_out * price_out
    assert 0 <= cost_nanousd * 10**6 - exact_millionths < 10**6


def test_a_price_that_is_no_whole_number_is_refused_by_name() -> None:
    with pytest.raises(InvalidAmount, match=r"prices\['m'\]\.output_nanousd_per_mtok"):
        FakeProvider({"m": ProviderPrice(1, 0.6)})  # type: ignore[arg-type]


def test_a_fake_clock_moves_only_when_told() -> None:
    clock = FakeClock(1_000)
    assert (clock.now_ms(), clock.now_ms()) == (1_000, 1_000)
    assert (clock.advance(5), clock.now_ms()) == (1_005, 1_005)
    assert (clock.set(7), clock.now_ms()) == (7, 7)
    with pytest.raises(InvalidAmount, match="step_ms"):
        clock.advance(-1)
    assert clock.now_ms() == 7
