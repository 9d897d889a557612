"""Calls on OpenTelemetry's spans and metrics: an observer. Needs the extra `otel`.

    guard = bg.Guard.from_toml(observers=[OpenTelemetry()])

The names are those of the semantic conventions for generative AI, v1.41.0 (the last that were released; all of them are
"development": https://opentelemetry.io/docs/specs/semconv/gen-ai/).

On the span that is current where a call is admitted or refused: `gen_ai.provider.name`, `gen_ai.agent.name` (the label
`agent`), `gen_ai.conversation.id` (`session`), `gen_ai.usage.input_tokens`, `.output_tokens`, and where there are any
`.cache_read.input_tokens`, `.cache_creation.input_tokens` (also as `.cache_write.input_tokens`, its name since v1.41.0)
and `.reasoning.output_tokens`; and of our own:

- `budgetguard.label.<name>`: the other labels (a `user` is one). `budgetguard.reservation_id`.
- `budgetguard.status`, how it ended: `settled`, `assumed`, `cancelled`, `error`, `released`, `expired` or `refused`.
- `budgetguard.calls`, `budgetguard.cost_usd` (absent where nobody knows it), `budgetguard.estimated_tokens`,
  `budgetguard.usage_source` (`reported`, `counted` or `estimate`), `budgetguard.waited_ms`.
- `budgetguard.would_refuse`: shadow budgets that had no room. `budgetguard.refused_by`, `budgetguard.refusal_cause`,
  `budgetguard.retry_after_s` of a refusal; also of a stream's that may not grow, beside how its call ended.

Numbers of several calls on one span are added up, of the rest the last stands. What a call took is told where it is
known, not where it was estimated. A span that has ended before its call is left as it is. Where no span is recording
(there is none, it has ended, or it is another process's), the call has one of its own (`chat gpt-4o`, a client's), from
its admission to its end, with `error.type` if it failed. No text of a prompt or an answer is ever told.

Metrics: the histograms `gen_ai.client.token.usage` and `gen_ai.client.operation.duration` (of a call, from its
admission), with `gen_ai.operation.name`, `gen_ai.provider.name`, `gen_ai.request.model`, and `gen_ai.token.type` or
`error.type` (an answer's status, `429`, or an exception's name). A call that its caller released, or that was refused,
was none, and is in neither. What was reserved by hand, or refused, is taken for a chat.

Instrumentations of SDKs have metrics of the same names: keep one of the two. Without ours:
`OpenTelemetry(meter_provider=opentelemetry.metrics.NoOpMeterProvider())`.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import RLock
from time import time_ns
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from budgetguard.call_events import Admitted, Released
from budgetguard.core.amounts import NANOUSD_PER_USD
from budgetguard.errors import ConfigError
from budgetguard.events import Delayed, Event, Expired, Refused, Settled, WouldRefuse
from budgetguard.within import OF_A_RUN

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider

MOST_CALLS = 10_000
"""Of so many open calls the spans are kept: some end where nobody here hears of it."""
TOKEN_STEPS = tuple(4**power for power in range(14))
SECOND_STEPS = tuple(0.01 * 2**power for power in range(14))
_NAME = "budgetguard"
_OTHER = "_OTHER"
_PROVIDERS = {
    "azure_openai": "azure.ai.openai", "bedrock": "aws.bedrock", "gemini": "gcp.gemini", "mistral": "mistral_ai",
    "vertex": "gcp.vertex_ai", "xai": "x_ai",
}  # fmt: skip
"""Providers that the conventions call otherwise."""
_OPERATIONS = {
    "generateContent": "generate_content", "completions": "text_completion", "complete": "text_completion",
    "ollama_generate": "text_completion", "embeddings": "embeddings", "embedContent": "embeddings",
    "cohere_embed": "embeddings", "ollama_embed": "embeddings", "rerank": "rerank",
}  # fmt: skip
"""By kind of request; all others are chats."""
_LABELS = {"agent": "gen_ai.agent.name", "session": "gen_ai.conversation.id"}
_KNOWN = ("reported", "counted")
_COST = "budgetguard.cost_usd"
_NS_PER_S, _NS_PER_MS = 10**9, 10**6
_Attributes = dict[str, str | int | float | Sequence[str]]


@dataclass(frozen=True)
class _Call:
    """An open call, and the span that it is told on."""

    span: Span
    is_own: bool
    operation: str
    began_ns: int


class OpenTelemetry:
    """Tells what happens to the calls of every guard that it observes, on spans and as metrics.

    Args:
        tracer_provider, meter_provider: default those that are set for the process.

    Raises:
        ConfigError: opentelemetry-api is not installed.
    """

    def __init__(
        self, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        try:
            from opentelemetry import metrics, trace
        except ModuleNotFoundError as error:
            fault = f"it needs {error.name}: pip install 'llm-budgetguard[otel]'"
            raise ConfigError("OpenTelemetry()", [fault]) from None
        self._trace = trace
        self._tracer = trace.get_tracer(_NAME, tracer_provider=tracer_provider)
        meter = metrics.get_meter(_NAME, meter_provider=meter_provider)
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=TOKEN_STEPS,
        )  # fmt: skip
        self._seconds = meter.create_histogram(
            "gen_ai.client.operation.duration", "s", "GenAI operation duration.",
            explicit_bucket_boundaries_advisory=SECOND_STEPS,
        )  # fmt: skip
        self._open: OrderedDict[str, _Call] = OrderedDict()
        self._sums: WeakKeyDictionary[Span, Counter[str]] = WeakKeyDictionary()
        self._lock = RLock()  # garbage is collected anywhere, also here: what it ends may be told at once
        self._takes: dict[type[Event], Callable[[Any], None]] = {
            Admitted: self._admitted,
            Delayed: self._delayed,
            Expired: self._expired,
            Refused: self._refused,
            Released: self._released,
            Settled: self._settled,
            WouldRefuse: self._would_refuse,
        }

    def on_event(self, event: Event) -> None:
        if (take := self._takes.get(type(event))) is not None:
            take(event)

    def _begun(self, subject: Mapping[str, str], operation: str) -> _Call:
        """The span of a call that begins here: the current one, or one of its own."""
        span, now_ns = self._trace.get_current_span(), time_ns()
        is_own = not span.is_recording()
        if is_own:
            span = self._tracer.start_span(
                " ".join(filter(None, (operation, subject.get("model")))),
                kind=self._trace.SpanKind.CLIENT,
                attributes=_request(subject, operation),  # what a sampler goes by
                start_time=now_ns,
            )
        span.set_attributes(_caller(subject))
        return _Call(span, is_own, operation, now_ns)

    def _admitted(self, event: Admitted) -> None:
        call = self._begun(event.subject, _OPERATIONS.get(event.api, "chat"))
        call.span.set_attribute("budgetguard.reservation_id", event.reservation_id)
        with self._lock:
            self._open[event.reservation_id] = call
            forgotten = self._open.popitem(last=False)[1] if len(self._open) > MOST_CALLS else None
        if forgotten is not None:
            self._end(forgotten, "")

    def _delayed(self, event: Delayed) -> None:
        if (call := self._open.get(event.reservation_id)) is not None:
            self._add(call.span, {"budgetguard.waited_ms": event.waited_ms})

    def _would_refuse(self, event: WouldRefuse) -> None:
        if (call := self._open.get(event.reservation_id)) is not None:
            call.span.set_attribute("budgetguard.would_refuse", _names(event.budgets) or (event.cause,))

    def _refused(self, event: Refused) -> None:
        told: _Attributes = {"budgetguard.refusal_cause": event.cause}
        if event.violations:
            told["budgetguard.refused_by"] = _names(violation.account.budget for violation in event.violations)
        if event.retry_after_s is not None:
            told["budgetguard.retry_after_s"] = event.retry_after_s
        if (growing := self._open.get(event.reservation_id)) is not None:
            growing.span.set_attributes(told)
            return
        call = self._begun(event.subject, "chat")
        call.span.set_attributes({**told, "budgetguard.status": "refused"})
        self._end(call, "BudgetExceeded" if event.violations else event.cause)

    def _expired(self, event: Expired) -> None:
        self._ended(event.reservation_id, "expired")

    def _released(self, event: Released) -> None:
        error = _error_type(event.cause)
        call = self._ended(event.reservation_id, "released", error)
        if error and call is not None:
            seconds = max(time_ns() - call.began_ns, 0) / _NS_PER_S  # clocks are set back
            self._seconds.record(seconds, {**_request(event.subject, call.operation), "error.type": error})

    def _settled(self, event: Settled) -> None:
        error = _error_type(event.error_type) or (_OTHER if event.status in ("error", "cancelled") else "")
        call = self._forgotten(event.reservation_id)
        self._measure(event, "chat" if call is None else call.operation, error)
        if call is not None:
            self._add(call.span, _numbers(event), {
                "budgetguard.status": event.status, "budgetguard.usage_source": event.usage_source,
            })  # fmt: skip
            # A settle may be told long after, when the store is back.
            self._end(call, error, call.began_ns + event.latency_ms * _NS_PER_MS)

    def _measure(self, event: Settled, operation: str, error: str) -> None:
        attributes = _request(event.subject, operation)
        self._seconds.record(event.latency_ms / 1000, {**attributes, "error.type": error} if error else attributes)
        if event.usage_source in _KNOWN:
            for kind, tokens in (("input", event.input_tokens), ("output", event.output_tokens)):
                self._tokens.record(tokens, {**attributes, "gen_ai.token.type": kind})

    def _add(self, span: Span, numbers: Mapping[str, int], rest: Mapping[str, str] | None = None) -> None:
        """Tell the numbers of one call more, added to those of others on this span, and what else there is of it."""
        if not span.is_recording():
            return
        with self._lock:  # until they are told: else of two threads the first might tell its sum last
            sums = self._sums.setdefault(span, Counter())
            sums.update(numbers)
            told: _Attributes = {name: sums[name] for name in numbers}
            if _COST in numbers:
                told[_COST] = sums[_COST] / NANOUSD_PER_USD
            span.set_attributes({**(rest or {}), **told})

    def _ended(self, reservation_id: str, status: str, error: str = "") -> _Call | None:
        call = self._forgotten(reservation_id)
        if call is not None:
            if call.span.is_recording():
                call.span.set_attribute("budgetguard.status", status)
            self._end(call, error)
        return call

    def _forgotten(self, reservation_id: str) -> _Call | None:
        with self._lock:
            return self._open.pop(reservation_id, None)

    def _end(self, call: _Call, error: str, ended_ns: int | None = None) -> None:
        """End a span of our own; another's is ended, and judged, by whoever began it."""
        if call.is_own:
            if error:
                call.span.set_attribute("error.type", error)
                call.span.set_status(self._trace.StatusCode.ERROR)
            call.span.end(ended_ns)


def _error_type(cause: str) -> str:
    """As the conventions have it: the status of an answer is a number."""
    return cause.removeprefix("http_")


def _names(budgets: Iterable[str]) -> tuple[str, ...]:
    """Each once; of a run without its id."""
    return tuple(dict.fromkeys(OF_A_RUN.sub("", name) for name in budgets))


def _numbers(event: Settled) -> dict[str, int]:
    """What is added up over the calls on one span; dollars in nano-dollars."""
    told = {"budgetguard.calls": 1, "budgetguard.estimated_tokens": event.estimated_tokens}
    if event.cost_nanousd is not None:
        told[_COST] = event.cost_nanousd
    if event.usage_source in _KNOWN:
        told["gen_ai.usage.input_tokens"] = event.input_tokens
        told["gen_ai.usage.output_tokens"] = event.output_tokens
        for name, count in (
            ("cache_read.input_tokens", event.cache_read_tokens),
            ("cache_creation.input_tokens", event.cache_write_tokens),
            ("cache_write.input_tokens", event.cache_write_tokens),
            ("reasoning.output_tokens", event.reasoning_tokens),
        ):
            if count:
                told[f"gen_ai.usage.{name}"] = count
    return told


def _request(subject: Mapping[str, str], operation: str) -> dict[str, str]:
    """What the conventions require of a call, on spans of ours and metrics."""
    provider = subject.get("provider", _OTHER)
    told = {"gen_ai.operation.name": operation, "gen_ai.provider.name": _PROVIDERS.get(provider, provider)}
    if model := subject.get("model"):
        told["gen_ai.request.model"] = model
    return told


def _caller(subject: Mapping[str, str]) -> dict[str, str]:
    """Whose call it is, and who answers it."""
    told = {
        _LABELS.get(name, f"budgetguard.label.{name}"): value
        for name, value in subject.items()
        if name not in ("model", "provider")
    }
    if provider := subject.get("provider"):
        told["gen_ai.provider.name"] = _PROVIDERS.get(provider, provider)
    return told
