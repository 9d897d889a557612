"""Calls of guarded clients on OpenTelemetry's spans: on the one around each call, whichever thread it reserves in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from guard_kit import MODEL, World, until
from otel_kit import Telemetry, exporting
from sdk_kit import MESSAGES, closing, loop, openai

from budgetguard.testing import FakeProvider, ProviderPrice, Reply


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    with exporting() as found:
        yield found


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider.in_thread({MODEL: ProviderPrice(1_000_000, 2_000_000)}) as found:
        yield found


@pytest.mark.parametrize("stream", [False, True])
def test_clients_async_and_sync_are_told_on_the_span_around_their_call(
    stream: bool, world: World, telemetry: Telemetry, provider: FakeProvider
) -> None:
    """Sync ones reserve in another thread, streams are settled at their end."""
    asked: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, "max_tokens": 20, "stream": stream}
    with closing(telemetry.guard(world, "9k tokens/day")) as guard:
        client = guard.wrap(openai.OpenAI(api_key="k", base_url=provider.base_url))
        with client, telemetry.tracer.start_as_current_span("sync"):
            found = client.chat.completions.create(**asked)
            if stream:
                list(found)

        async def main() -> None:
            async with guard.wrap(openai.AsyncOpenAI(api_key="k", base_url=provider.base_url)) as client:
                with telemetry.tracer.start_as_current_span("async"):
                    found = await client.chat.completions.create(**asked)
                    if stream:
                        [event async for event in found]
                    # On a busy machine this SDK stops waiting for the stream's end: it is settled beside the caller.
                    await until(lambda: not telemetry.observer._open, "it is settled")

        loop().run(main())
    for span, call in zip(telemetry.spans, provider.bill, strict=True):
        told = span.attributes or {}
        assert told["gen_ai.usage.input_tokens"] == call.input_tokens
        assert told["gen_ai.usage.output_tokens"] == call.output_tokens
    assert [span.name for span in telemetry.spans] == ["sync", "async"]


def test_what_kind_of_request_it_is_names_the_operation(
    world: World, telemetry: Telemetry, provider: FakeProvider
) -> None:
    usage = {"prompt_tokens": 5, "total_tokens": 5}
    data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
    provider.reply_next(Reply.json({"object": "list", "data": data, "model": MODEL, "usage": usage}))
    with (
        closing(telemetry.guard(world, "9k tokens/day")) as guard,
        guard.wrap(openai.OpenAI(api_key="k", base_url=provider.base_url)) as client,
    ):
        client.embeddings.create(model=MODEL, input="hello", encoding_format="float")
    assert telemetry.spans[0].name == f"embeddings {MODEL}"
    (seconds,) = telemetry.points("gen_ai.client.operation.duration")
    assert ("gen_ai.operation.name", "embeddings") in seconds
