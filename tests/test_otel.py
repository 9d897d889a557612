"""What calls say on OpenTelemetry's spans and as its metrics, as the SDK's exporters in memory have it."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from guard_kit import ESTIMATE, MODEL, USAGE, World, run_script
from opentelemetry import trace
from otel_kit import Telemetry, exporting

import budgetguard as bg
from budgetguard.integrations import otel

WHO: dict[str, Any] = {"team": "search", "agent": "crawler", "session": "s-17", "provider": "openai", "model": MODEL}


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    with exporting() as found:
        yield found


async def broken_off(guard: bg.Guard) -> None:
    async with guard.reserve(**WHO, estimate=ESTIMATE) as hold:
        hold.record(USAGE)
        raise TimeoutError


async def one_call(guard: bg.Guard, usage: bg.Usage | None = USAGE, **labels: Any) -> str:
    async with guard.reserve(**{**WHO, **labels}, estimate=ESTIMATE) as hold:
        if usage is not None:
            hold.record(usage)
    return hold.id


def test_the_current_span_says_whose_call_it_was_and_what_it_took(world: World, telemetry: Telemetry) -> None:
    rules = bg.LabelRules(known=["team", "agent", "session", "tenant"])

    async def main() -> str:
        async with telemetry.guard(world, "9k tokens/day", labels=rules) as guard:
            with telemetry.tracer.start_as_current_span("the user's own"):
                return await one_call(guard, bg.Usage(500, 100, 200, 100, 40, 30), labels={"tenant": "acme"})

    id = asyncio.run(main())
    assert telemetry.spans[0].name == "the user's own"
    assert telemetry.span == {
        "gen_ai.provider.name": "openai",
        "gen_ai.agent.name": "crawler",
        "gen_ai.conversation.id": "s-17",
        "gen_ai.usage.input_tokens": 500,
        "gen_ai.usage.output_tokens": 100,
        "gen_ai.usage.cache_read.input_tokens": 200,
        "gen_ai.usage.cache_creation.input_tokens": 100,
        "gen_ai.usage.cache_write.input_tokens": 100,
        "gen_ai.usage.reasoning.output_tokens": 30,
        "budgetguard.label.team": "search",
        "budgetguard.label.tenant": "acme",
        "budgetguard.reservation_id": id,
        "budgetguard.status": "settled",
        "budgetguard.calls": 1,
        "budgetguard.cost_usd": pytest.approx(700e-6),
        "budgetguard.usage_source": "reported",
        "budgetguard.estimated_tokens": 800,
    }


def test_without_a_current_span_the_call_has_one_of_its_own(world: World, telemetry: Telemetry) -> None:
    async def main() -> None:
        async with telemetry.guard(world, "9k tokens/day") as guard:
            await one_call(guard, provider="azure_openai")

    asyncio.run(main())
    (span,) = telemetry.spans
    assert (span.name, span.kind, span.parent) == (f"chat {MODEL}", trace.SpanKind.CLIENT, None)
    assert span.status.status_code == trace.StatusCode.UNSET
    told = telemetry.span
    assert (told["gen_ai.operation.name"], told["gen_ai.request.model"]) == ("chat", MODEL)
    assert told["gen_ai.provider.name"] == "azure.ai.openai"
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.agent.name"]) == (500, "crawler")
    assert "gen_ai.usage.cache_read.input_tokens" not in told


def test_a_span_that_is_not_sampled_is_a_span_too(world: World, telemetry: Telemetry) -> None:
    async def main() -> None:
        context = trace.SpanContext(1, 1, is_remote=False, trace_flags=trace.TraceFlags(0))
        async with telemetry.guard(world, "9k tokens/day") as guard:
            with trace.use_span(trace.NonRecordingSpan(context)):
                await one_call(guard)

    asyncio.run(main())
    assert telemetry.spans == []


def test_several_calls_on_one_span_are_added_up(world: World, telemetry: Telemetry) -> None:
    async def main() -> None:
        async with telemetry.guard(world, "9k tokens/day") as guard:
            with telemetry.tracer.start_as_current_span("invoke_agent"):
                await asyncio.gather(*(one_call(guard, agent=agent) for agent in ("a", "b", "c")))
            with telemetry.tracer.start_as_current_span("another"):
                await one_call(guard)

    asyncio.run(main())
    first, second = (dict(span.attributes or {}) for span in telemetry.spans)
    assert (first["gen_ai.usage.input_tokens"], first["gen_ai.usage.output_tokens"]) == (1_500, 300)
    assert (first["budgetguard.calls"], first["budgetguard.cost_usd"]) == (3, pytest.approx(2_100e-6))
    assert (second["gen_ai.usage.input_tokens"], second["budgetguard.calls"]) == (500, 1)


def test_a_call_is_told_on_the_span_of_its_admission_wherever_it_ends(world: World, telemetry: Telemetry) -> None:
    async def main() -> None:
        async with telemetry.guard(world, "9k tokens/day") as guard:
            with telemetry.tracer.start_as_current_span("outer"):
                hold = await guard.reserve(**WHO, estimate=ESTIMATE)
                with telemetry.tracer.start_as_current_span("inner"):
                    await hold.settle(USAGE)
            with telemetry.tracer.start_as_current_span("ended before its call"):
                late = await guard.reserve(**WHO, estimate=ESTIMATE)
            await late.settle(USAGE)

    asyncio.run(main())
    assert {span.name: (span.attributes or {}).get("budgetguard.calls") for span in telemetry.spans} == {
        "inner": None, "outer": 1, "ended before its call": None,
    }  # fmt: skip


def test_what_is_assumed_is_told_as_assumed_and_not_as_usage(world: World, telemetry: Telemetry) -> None:
    async def main() -> None:
        async with telemetry.guard(world, "9k tokens/day") as guard:
            await one_call(guard, None)

    asyncio.run(main())
    told = telemetry.span
    assert (told["budgetguard.status"], told["budgetguard.usage_source"]) == ("assumed", "estimate")
    assert not [name for name in told if name.startswith("gen_ai.usage")]
    assert telemetry.points("gen_ai.client.token.usage") == {}
    assert len(telemetry.points("gen_ai.client.operation.duration")) == 1


def test_a_refusal_is_told_on_the_current_span_or_on_one_of_its_own(world: World, telemetry: Telemetry) -> None:
    async def main() -> None:
        async with telemetry.guard(world, "700 tokens/hour", "1 requests/day") as guard:
            with pytest.raises(bg.BudgetExceeded), telemetry.tracer.start_as_current_span("own"):
                await one_call(guard)
            with pytest.raises(bg.BudgetExceeded):
                await one_call(guard)
            with pytest.raises(bg.BudgetExceeded):
                async with guard.within("10 tokens", name="run"):
                    await one_call(guard)

    asyncio.run(main())
    own, alone, run = telemetry.spans
    for span in (own, alone):
        told = span.attributes or {}
        assert (told["budgetguard.status"], told["budgetguard.refused_by"]) == ("refused", ("default",))
        assert (told["budgetguard.refusal_cause"], told["gen_ai.agent.name"]) == ("budget", "crawler")
        assert "budgetguard.retry_after_s" not in told, "it is impossible"
    assert alone.status.status_code == trace.StatusCode.ERROR
    assert (alone.attributes or {})["error.type"] == "BudgetExceeded"
    assert (run.attributes or {})["budgetguard.refused_by"] == ("default", "run")


def test_a_call_that_cannot_be_judged_is_told_with_its_cause(world: World, telemetry: Telemetry) -> None:
    async def main() -> None:
        async with telemetry.guard(world, "700 tokens/hour") as guard:
            with pytest.raises(bg.EstimateRequired):
                await guard.reserve(**WHO)

    asyncio.run(main())
    assert telemetry.span["budgetguard.refusal_cause"] == telemetry.span["error.type"] == "EstimateRequired"
    assert "budgetguard.refused_by" not in telemetry.span


def test_a_release_ends_the_calls_own_span_and_is_no_operation(world: World, telemetry: Telemetry) -> None:
    async def main() -> None:
        async with telemetry.guard(world, "9k tokens/day") as guard:
            hold = await guard.reserve(**WHO, estimate=ESTIMATE)
            await hold.release()

    asyncio.run(main())
    assert telemetry.span["budgetguard.status"] == "released"
    assert telemetry.points("gen_ai.client.operation.duration") == {}


def test_shadow_budgets_and_waits_are_told(world: World, telemetry: Telemetry) -> None:
    budgets = [bg.Budget("shadow", limits=["10 tokens/day"], on_exceed="shadow")]

    async def main() -> None:
        async with telemetry.guard(world, budgets=budgets) as guard:
            await one_call(guard)

    asyncio.run(main())
    assert telemetry.span["budgetguard.would_refuse"] == ("shadow",)


def test_metrics_are_those_of_the_conventions(world: World, telemetry: Telemetry) -> None:
    async def main() -> None:
        async with telemetry.guard(world, "9k tokens/day") as guard:
            await one_call(guard)
            with pytest.raises(TimeoutError):
                await broken_off(guard)

    asyncio.run(main())
    common = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": MODEL}
    tokens = telemetry.points("gen_ai.client.token.usage")
    for kind, total in (("input", 1_000), ("output", 200)):
        point = tokens[frozenset({**common, "gen_ai.token.type": kind}.items())]
        assert (point.sum, point.count) == (total, 2)
        assert point.explicit_bounds == (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304,
                                         16777216, 67108864)  # fmt: skip
    seconds = telemetry.points("gen_ai.client.operation.duration")
    assert set(seconds) == {frozenset(common.items()), frozenset({**common, "error.type": "TimeoutError"}.items())}
    bounds = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
    assert all(point.explicit_bounds == pytest.approx(bounds) for point in seconds.values())


def test_open_calls_are_kept_in_bounded_memory(
    world: World, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otel, "MOST_CALLS", 2)

    async def main() -> None:
        async with telemetry.guard(world, "9k tokens/day") as guard:
            holds = [await guard.reserve(**WHO, estimate=ESTIMATE) for _ in range(3)]
            assert len(telemetry.spans) == 1, "the oldest is ended: nobody may ever hear of it again"
            for hold in holds:
                await hold.settle(USAGE)

    asyncio.run(main())
    assert len(telemetry.spans) == 3
    assert len(telemetry.observer._open) == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # garbage of other tests
def test_no_span_is_kept_alive_for_its_sums(world: World, telemetry: Telemetry) -> None:
    async def main() -> None:
        async with telemetry.guard(world, "9k tokens/day") as guard:
            for span in spans:
                with trace.use_span(span):
                    await one_call(guard)

    spans = [telemetry.tracer.start_span("outer") for _ in range(3)]
    asyncio.run(main())
    assert len(telemetry.observer._sums) == 3
    spans.clear()
    gc.collect()
    assert len(telemetry.observer._sums) == 0


def test_without_opentelemetry_it_says_what_to_install(tmp_path: Path) -> None:
    source = """
import sys
sys.modules["opentelemetry"] = None
from budgetguard.integrations.otel import OpenTelemetry
OpenTelemetry()
"""
    done = run_script(source, tmp_path)
    assert "pip install 'llm-budgetguard[otel]'" in done.stderr, sys.executable
