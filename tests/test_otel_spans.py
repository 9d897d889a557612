"""Which span a call is told on, and what stands there in the end: threads, other processes, growth, failures."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from guard_kit import ESTIMATE, MODEL, USAGE, LossyStore, World, run_script, until
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler, SamplingResult
from otel_kit import Telemetry, exporting

import budgetguard as bg
from budgetguard.call_events import Admitted, DelayBegan
from budgetguard.events import Delayed, Settled
from budgetguard.integrations.otel import OpenTelemetry

WHO: dict[str, Any] = {"agent": "crawler", "provider": "openai", "model": MODEL}
REMOTE = trace.SpanContext(1, 2, is_remote=True, trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED))


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    with exporting() as found:
        yield found


async def one_call(guard: bg.Guard, **labels: Any) -> None:
    async with guard.reserve(**WHO, **labels, estimate=ESTIMATE) as hold:
        hold.record(USAGE)


def test_under_another_processs_span_the_call_has_one_of_its_own(world: World, telemetry: Telemetry) -> None:
    """As in a worker that takes the trace from a message, and starts no span."""

    async def main() -> None:
        async with telemetry.guard(world, "9k tokens/day") as guard:
            with trace.use_span(trace.NonRecordingSpan(REMOTE)):
                await one_call(guard)

    asyncio.run(main())
    (span,) = telemetry.spans
    assert span.parent == REMOTE
    assert telemetry.span["gen_ai.usage.input_tokens"] == 500


def test_after_the_current_span_has_ended_the_call_has_one_of_its_own(world: World, telemetry: Telemetry) -> None:
    async def main() -> None:
        async with telemetry.guard(world, "9k tokens/day") as guard:
            with telemetry.tracer.start_as_current_span("ended") as ended:
                ended.end()
                await one_call(guard)

    asyncio.run(main())
    ended, own = telemetry.spans
    assert (ended.name, own.name, own.parent) == ("ended", f"chat {MODEL}", ended.context)


def test_a_sampler_is_told_what_kind_of_span_it_is(world: World) -> None:
    seen: list[Any] = []

    class Seeing(Sampler):
        def should_sample(
            self, parent_context: Any, trace_id: int, name: str, *args: Any, **more: Any
        ) -> SamplingResult:
            seen.append((name, dict(args[1] if len(args) > 1 else more["attributes"])))
            return ALWAYS_ON.should_sample(parent_context, trace_id, name)

        def get_description(self) -> str:
            return "Seeing"

    async def main() -> None:
        observer = OpenTelemetry(tracer_provider=TracerProvider(sampler=ParentBased(Seeing())))
        async with world.guard("9k tokens/day", observers=[observer]) as guard:
            await one_call(guard)

    asyncio.run(main())
    wanted = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": MODEL}
    assert seen == [(f"chat {MODEL}", wanted)]


def test_growth_that_is_refused_is_told_on_the_span_of_its_call_which_goes_on(
    world: World, telemetry: Telemetry
) -> None:
    async def main() -> None:
        async with telemetry.guard(world, "1k tokens/hour") as guard:
            hold = await guard.reserve(**WHO, estimate=ESTIMATE)
            with pytest.raises(bg.BudgetExceeded), telemetry.tracer.start_as_current_span("another"):
                await hold.grow(bg.Usage(600, 900))
            await hold.settle(USAGE)

    asyncio.run(main())
    another, own = telemetry.spans
    assert (another.name, dict(another.attributes or {})) == ("another", {})
    told = own.attributes or {}
    assert (told["budgetguard.refused_by"], told["budgetguard.status"]) == (("default",), "settled")
    assert own.status.status_code == trace.StatusCode.UNSET
    assert "error.type" not in told


@pytest.mark.parametrize(
    ("error", "status"),
    [(TimeoutError, "assumed"), (ConnectionRefusedError, "released"), (asyncio.CancelledError, "assumed")],
)
def test_a_call_that_failed_says_with_what(
    error: type[BaseException], status: str, world: World, telemetry: Telemetry
) -> None:
    """Whether or not it is charged."""

    async def main() -> None:
        async with telemetry.guard(world, "9k tokens/day") as guard:
            with pytest.raises(error):
                async with guard.reserve(**WHO, estimate=ESTIMATE):
                    raise error

    asyncio.run(main())
    told, (span,) = telemetry.span, telemetry.spans
    assert (told["budgetguard.status"], told["error.type"]) == (status, error.__name__)
    assert span.status.status_code == trace.StatusCode.ERROR
    ((attributes, point),) = telemetry.points("gen_ai.client.operation.duration").items()
    assert ("error.type", error.__name__) in attributes
    assert (point.count, 0 <= point.sum < 60) == (1, True)


def test_waits_and_estimates_are_added_up(world: World, telemetry: Telemetry) -> None:
    budgets = [bg.Budget("slow", limits=["1 concurrent"], on_exceed="delay", max_delay="60s")]

    async def reserved(guard: bg.Guard) -> bg.Hold:
        return await guard.reserve(**WHO, estimate=ESTIMATE)

    async def main() -> None:
        async with telemetry.guard(world, budgets=budgets, observers=[telemetry.observer, world.heard]) as guard:
            with telemetry.tracer.start_as_current_span("outer"):
                first = asyncio.create_task(reserved(guard))  # else the others were calls inside it
                hold = await first
                waiting = [asyncio.create_task(one_call(guard, team=team)) for team in ("a", "b")]
                await until(lambda: len(world.heard.of(DelayBegan)) == 2, "they wait")
                began = time.monotonic()
                await until(lambda: time.monotonic() > began + 0.01, "some milliseconds")
                await hold.settle(USAGE)
                await asyncio.gather(*waiting)

    asyncio.run(main())
    waits = [event.waited_ms for event in world.heard.of(Delayed)]
    assert len(waits) == 2 and min(waits) > 0
    assert telemetry.span["budgetguard.estimated_tokens"] == 2_400
    assert telemetry.span["budgetguard.calls"] == 3
    assert telemetry.span["budgetguard.waited_ms"] == sum(waits)


def test_of_threads_that_tell_at_once_none_tells_a_smaller_sum_last(telemetry: Telemetry) -> None:
    settled = [Settled(f"r-{n}", {}, "settled", 5, 1, None, 7, usage_source="reported") for n in range(2)]
    second = threading.Thread(target=lambda: telemetry.observer.on_event(settled[1]))

    everything: dict[str, Any] = {}

    class Slow(trace.NonRecordingSpan):
        """A span: while it takes what the first call tells, the second one ends."""

        def set_attributes(self, told: Any) -> None:
            if told.get("budgetguard.calls") == 1:
                second.start()
                second.join(0.2)  # it must wait for this one
            everything.update(told)

        def is_recording(self) -> bool:
            return True

    span = Slow(REMOTE)
    for event in settled:
        with trace.use_span(span):
            telemetry.observer.on_event(Admitted(event.reservation_id, {}, 0.0))
    telemetry.observer.on_event(settled[0])
    second.join()
    assert (everything["budgetguard.calls"], everything["gen_ai.usage.input_tokens"]) == (2, 10)


def test_threads_share_the_span_that_is_carried_to_them(world: World, telemetry: Telemetry) -> None:
    guard = telemetry.guard(world, "90k tokens/day")

    def call(_: int) -> None:
        with guard.sync.reserve(**WHO, estimate=ESTIMATE) as hold:
            hold.record(USAGE)

    with ThreadPoolExecutor(8) as threads:
        with telemetry.tracer.start_as_current_span("outer"):
            list(threads.map(bg.carry(call), range(24)))
        list(threads.map(call, range(3)))  # carried nowhere: spans of their own
    guard.sync.close()
    outer, *own = sorted(telemetry.spans, key=lambda span: span.name, reverse=True)
    assert ((outer.attributes or {})["budgetguard.calls"], (outer.attributes or {})["gen_ai.usage.input_tokens"]) == (
        24,
        12_000,
    )
    assert [span.parent for span in own] == [None] * 3


def test_a_call_inside_an_open_hold_is_told_once_with_it(world: World, telemetry: Telemetry) -> None:
    async def main() -> None:
        async with telemetry.guard(world, "9k tokens/day") as guard:
            with telemetry.tracer.start_as_current_span("outer"):
                async with guard.reserve(**WHO, estimate=ESTIMATE) as hold:
                    hold.record(USAGE)
                    with telemetry.tracer.start_as_current_span("inner"):
                        await one_call(guard, team="other")  # explicit: its own call

    asyncio.run(main())
    calls = {span.name: (span.attributes or {})["budgetguard.calls"] for span in telemetry.spans}
    assert calls == {"inner": 1, "outer": 1}


def test_a_settle_that_is_told_late_ends_its_span_where_the_call_ended(world: World, telemetry: Telemetry) -> None:
    async def main() -> None:
        store = LossyStore(world.store())
        async with telemetry.guard(world, "9k tokens/day", store=store) as guard:
            hold = await guard.reserve(**WHO, estimate=ESTIMATE)
            store.refused.add("settle")
            await hold.settle(USAGE)
            assert telemetry.spans == []
            store.refused.clear()
            await until(lambda: telemetry.spans, "it is delivered from the spool")

    asyncio.run(main())
    ((_, point),) = telemetry.points("gen_ai.client.operation.duration").items()
    (span,) = telemetry.spans
    assert ((span.end_time or 0) - (span.start_time or 0)) / 1e9 == pytest.approx(point.sum)


def test_in_shadow_a_run_is_named_without_its_id(world: World, telemetry: Telemetry) -> None:
    async def main() -> None:
        guard = telemetry.guard(world, "9k tokens/day", mode="shadow")
        async with guard, guard.within("10 tokens", name="run"):
            await one_call(guard)

    asyncio.run(main())
    assert telemetry.span["budgetguard.would_refuse"] == ("run",)


def test_labels_that_are_none_do_not_disturb_what_is_told(world: World, telemetry: Telemetry) -> None:
    async def main() -> None:
        async with telemetry.guard(world, "9k tokens/day") as guard:
            for model in (5, ["x"], "m" * 513, "\udc00"):
                with pytest.raises(bg.InvalidLabel):
                    await guard.reserve(model=model, estimate=ESTIMATE)  # type: ignore[arg-type]
            with pytest.raises(bg.InvalidLabel):
                await guard.reserve(labels={"provider": ["x"]}, estimate=ESTIMATE)  # type: ignore[dict-item]

    asyncio.run(main())
    assert [(span.attributes or {})["error.type"] for span in telemetry.spans] == ["InvalidLabel"] * 5


def test_without_an_sdk_nothing_is_told_and_one_that_is_set_later_hears_it(tmp_path: Path) -> None:
    source = """
import asyncio, budgetguard as bg
from budgetguard.integrations.otel import OpenTelemetry
from opentelemetry import metrics, trace

async def main():
    observer = OpenTelemetry()
    async with bg.Guard("5 requests/day", store="sqlite:///:memory:", observers=[observer]) as guard:
        async with guard.reserve(model="m", estimate=bg.Usage(1, 1)) as hold:
            hold.record(bg.Usage(1, 1))
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
        trace.set_tracer_provider(TracerProvider())
        trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(spans))
        metrics.set_meter_provider(MeterProvider([reader]))
        async with guard.reserve(model="m", estimate=bg.Usage(1, 1)) as hold:
            hold.record(bg.Usage(1, 1))
        assert not observer._open
    print([span.name for span in spans.get_finished_spans()], reader.get_metrics_data() is not None)
asyncio.run(main())
"""
    done = run_script(source, tmp_path)
    assert done.stdout.strip() == "['chat m'] True", done.stderr
    assert "Traceback" not in done.stderr
