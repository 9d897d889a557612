"""Calls of guarded clients on OpenTelemetry's spans: on the one around each call, whichever thread it reserves in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from guard_kit import MODEL, World, until
from opentelemetry.metrics import NoOpMeterProvider
from otel_kit import Telemetry, exporting
from sdk_kit import MESSAGES, closing, loop, openai

import budgetguard as bg
from budgetguard.integrations.otel import OpenTelemetry
from budgetguard.testing import FakeProvider, Reply


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    with exporting() as found:
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


ASKED: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, "max_tokens": 20}


def asked(guard: bg.Guard, provider: FakeProvider, *, times: int = 1, **options: Any) -> None:
    """Calls of a guarded client, whose errors are caught."""
    with guard.wrap(openai.OpenAI(api_key="k", base_url=provider.base_url, **options)) as client:
        for _ in range(times):
            with suppress(openai.OpenAIError):
                client.chat.completions.create(**ASKED)


@pytest.mark.parametrize(("status", "ends"), [(429, "released"), (404, "released"), (500, "assumed")])
def test_an_answer_without_success_is_an_error_by_its_number(
    status: int, ends: str, world: World, telemetry: Telemetry, provider: FakeProvider
) -> None:
    provider.fail_next(status)
    with closing(telemetry.guard(world, "9k tokens/day")) as guard:
        asked(guard, provider, max_retries=0)
    told = telemetry.span
    assert (told["budgetguard.status"], told["error.type"]) == (ends, str(status))
    (attributes,) = telemetry.points("gen_ai.client.operation.duration")
    assert ("error.type", str(status)) in attributes


def test_of_attempts_at_one_request_those_that_are_billed_count(
    world: World, telemetry: Telemetry, provider: FakeProvider
) -> None:
    """On one span around them all."""
    provider.reply_next(Reply(429, {"retry-after-ms": "1"}), Reply(429, {"retry-after-ms": "1"}))
    with closing(telemetry.guard(world, "9k tokens/day")) as guard, telemetry.tracer.start_as_current_span("outer"):
        asked(guard, provider)
    (billed,), told = provider.bill, telemetry.span
    assert (told["budgetguard.calls"], told["gen_ai.usage.input_tokens"]) == (1, billed.input_tokens)
    assert (told["budgetguard.status"], len(provider.requests)) == ("settled", 3)
    counts = {
        dict(names).get("error.type"): point.count
        for names, point in telemetry.points("gen_ai.client.operation.duration").items()
    }
    assert counts == {"429": 2, None: 1}


def test_no_text_of_prompts_answers_keys_or_errors_is_told(
    world: World, telemetry: Telemetry, provider: FakeProvider
) -> None:
    provider.reply_next(Reply.json({"error": {"message": "hello: it is not well"}}, status=400))
    with closing(telemetry.guard(world, "1 requests/day")) as guard:
        asked(guard, provider, times=3, max_retries=0)
    assert [dict(span.attributes or {})["budgetguard.status"] for span in telemetry.spans] == [
        "released", "settled", "refused",
    ]  # fmt: skip
    told = "".join(span.to_json() for span in telemetry.spans) + str(telemetry.metrics)
    assert not any(text in told.lower() for text in ("hello", "not well", "bearer", MESSAGES[0]["content"].lower()))


def test_beside_an_instrumentation_its_span_is_told_the_same_and_metrics_can_be_its_own(
    world: World, telemetry: Telemetry, provider: FakeProvider
) -> None:
    """Which begins a span around each call, and adds its usage in the end, as those of OpenAI's SDK do."""
    observer = OpenTelemetry(tracer_provider=telemetry.tracers, meter_provider=NoOpMeterProvider())
    with (
        closing(telemetry.guard(world, "9k tokens/day", observers=[observer])) as guard,
        guard.wrap(openai.OpenAI(api_key="k", base_url=provider.base_url)) as client,
        telemetry.tracer.start_as_current_span("chat") as span,
    ):
        usage = client.chat.completions.create(**ASKED).usage
        found = dict(span.attributes)
        span.set_attribute("gen_ai.usage.input_tokens", usage.prompt_tokens)
        span.set_attribute("gen_ai.usage.output_tokens", usage.completion_tokens)
    assert telemetry.span == found
    assert telemetry.metrics == []
