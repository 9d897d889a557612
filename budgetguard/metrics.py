"""What the calls of this process do, as Prometheus metrics: an observer that counts. Needs the extra `prometheus`.

    guard = bg.Guard.from_toml(observers=[Prometheus()])
    prometheus_client.start_http_server(9000)  # or whatever serves the process's metrics already

Counters, unless they say otherwise; `...` are the labels of calls that `Prometheus` was given:

- `budgetguard_calls_total{status, ...}`: calls that ended: `settled`, `assumed` (charged by guess), `cancelled`,
  `error`, `released` (nothing was charged).
- `budgetguard_tokens_total{type, ...}`: tokens of settled calls. The types do not overlap, and add up to all tokens:
  `input` (neither read from a cache nor written to one), `cache_read`, `cache_write`, `output` (without reasoning),
  `reasoning`.
- `budgetguard_cost_usd_total{...}`: what settled calls cost. A call whose cost nobody knows adds nothing.
- `budgetguard_refusals_total{budget, reason, mode}`: refused calls (`enforce`), and those let through that would have
  been (`shadow`). A call that several budgets refuse counts for each. `reason` is `spent`, `held` or `impossible`, of
  shadow budgets `exceeded` (the store does not say why); of a call that cannot be judged the error's name, and no
  `budget`.
- `budgetguard_reserve_seconds`, `budgetguard_settle_seconds` (histograms): how long the store took to admit a call,
  waiting for room apart, and to settle one.
- `budgetguard_estimate_error_ratio{estimate}` (histogram): |estimated - actual| / estimated tokens of calls whose usage
  is known; `estimate` is `low` (they took more than was reserved) or `high`.
- `budgetguard_waiting_calls` (gauge): calls that wait for room here.
- `budgetguard_store_errors_total{verb, let_through}`: the store did not answer, or must not be used.

What stands in the store (accounts, the outbox) is no business of a process: `metrics_accounts` tells it once for all.

They count what this process was told: a restart begins at zero, a settle that another process delivers is counted
there, and a hold that expires is counted nowhere. The ledger is the truth.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from budgetguard.call_events import Admitted, DelayBegan, DelayEnded, Released
from budgetguard.core.amounts import NANOUSD_PER_USD, shown
from budgetguard.errors import ConfigError
from budgetguard.events import Event, Refused, Settled, StoreProblem, WouldRefuse
from budgetguard.within import OF_A_RUN

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter

LABELS = ("team", "agent", "model", "provider")
OTHER = "other"
MOST_VALUES = 50
SETS_PER_VALUE = 10
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
RATIOS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_PLAIN = re.compile(r"(?!__|label_)[a-zA-Z_][a-zA-Z0-9_]*")
_OWN = frozenset(
    ("budget", "estimate", "instance", "job", "le", "let_through", "mode", "per", "period", "quantile", "reason",
     "status", "type", "unit", "verb", "zone")
)  # fmt: skip
"""The labels that the metrics have of their own, and those that Prometheus adds."""


def label_name(name: str) -> str:
    """A call's label as Prometheus can name one; no two names become the same.

    Its own where that is one (https://prometheus.io/docs/concepts/data_model/) and free, else `label_` and the name,
    of which all but ASCII letters and digits is `_<hex>_`.
    """
    if _PLAIN.fullmatch(name) and name not in _OWN:
        return name
    return "label_" + re.sub("[^a-zA-Z0-9]", lambda found: f"_{ord(found[0]):x}_", name)


def need_client() -> None:
    """Pass where prometheus-client is installed.

    Raises:
        ConfigError: it is not; says how to install it.
    """
    try:
        import prometheus_client  # noqa: F401 - whether it is there
    except ModuleNotFoundError as error:
        raise ConfigError("metrics", [f"they need {error.name}: pip install 'llm-budgetguard[prometheus]'"]) from None


class Bounded:
    """Remembers the first values of each label, and the first sets of them; all later ones are "other"."""

    def __init__(self, most_values: int) -> None:
        self._most = most_values
        self._values: dict[int, set[str]] = {}
        self._sets: set[tuple[str, ...]] = set()
        self._lock = Lock()

    def __call__(self, *values: str) -> tuple[str, ...]:
        """The values to show; "" stands for a label that is not there, and needs no place. From any thread."""
        with self._lock:
            told = tuple(value and self._one(place, value) for place, value in enumerate(values))
            if told in self._sets or len(self._sets) < self._most * SETS_PER_VALUE:
                self._sets.add(told)
                return told
        return (OTHER,) * len(values)

    def _one(self, place: int, value: str) -> str:
        known = self._values.setdefault(place, set())
        if value not in known:
            if len(known) >= self._most:
                return OTHER
            known.add(value)
        return value


class Prometheus:
    """Counts what happens to the calls of every guard that it observes, in a registry of prometheus_client.

    Args:
        labels: which labels of calls the metrics carry. Each has at most `most_values` values, and there are at most
            ten times as many sets of them: what comes later is counted under "other". A label such as `session` or
            `user`, of which there are ever more, does not belong here: ask the ledger.
        most_values: how many different values of one label (and how many budgets) are told apart.
        registry: default prometheus_client's own.

    Raises:
        ConfigError: prometheus-client is not installed, an argument is wrong, or the registry has these metrics
            already.
    """

    def __init__(
        self,
        labels: Sequence[str] = LABELS,
        *,
        most_values: int = MOST_VALUES,
        registry: CollectorRegistry | None = None,
    ) -> None:
        need_client()
        import prometheus_client

        if isinstance(labels, str) or len({*labels}) != len(labels):
            raise ConfigError("Prometheus()", [f"labels: expected names, each once, not {shown(labels)}"])
        if most_values < 1:
            raise ConfigError("Prometheus()", [f"most_values: expected 1 or more, not {most_values}"])
        self._labels = tuple(labels)
        self._sets, self._budgets = Bounded(most_values), Bounded(most_values)
        try:
            self._make(prometheus_client.REGISTRY if registry is None else registry)
        except ValueError as error:
            fault = f"{error}: make one Prometheus() for a registry, and give it to every guard"
            raise ConfigError("Prometheus()", [fault]) from None
        self._takes: dict[type[Event], Callable[[Any], None]] = {
            Admitted: self._admitted,
            DelayBegan: lambda _: self._waiting.inc(),
            DelayEnded: lambda _: self._waiting.dec(),
            Refused: self._refused,
            Released: self._released,
            Settled: self._settled,
            StoreProblem: self._store_problem,
            WouldRefuse: self._would_refuse,
        }

    def _make(self, registry: CollectorRegistry) -> None:
        from prometheus_client import Counter, Gauge, Histogram

        def counter(name: str, says: str, *labels: str) -> Callable[..., Counter]:
            """What finds the counter for values of the labels; there are not many, so it remembers all."""
            whole = Counter(f"budgetguard_{name}", says, labels, registry=registry)
            return cache(whole.labels) if labels else lambda: whole

        def histogram(name: str, says: str, steps: Sequence[float], *labels: str) -> Histogram:
            return Histogram(f"budgetguard_{name}", says, labels, registry=registry, buckets=steps)

        names = [label_name(name) for name in self._labels]
        self._calls = counter("calls", "Calls that ended, by how.", "status", *names)
        self._refusals = counter("refusals", "Refusals of calls by budgets.", "budget", "reason", "mode")
        self._tokens = counter("tokens", "Tokens of settled calls; the types do not overlap.", "type", *names)
        self._cost = counter("cost_usd", "Dollars that settled calls cost, as far as that is known.", *names)
        self._errors = counter("store_errors", "Times that the store did not do its part.", "verb", "let_through")
        for let_through in ("false", "true"):  # from zero on: else nobody would see the first as a rise
            self._errors("reserve", let_through)
        self._reserve = histogram("reserve_seconds", "How long the store took to admit a call.", SECONDS)
        self._settle = histogram("settle_seconds", "How long the store took to settle a call.", SECONDS)
        self._error_ratio = histogram(
            "estimate_error_ratio", "What an estimate was off by, over the estimate, in tokens.", RATIOS, "estimate"
        )
        self._waiting = Gauge(
            "budgetguard_waiting_calls", "Calls that wait for room.", registry=registry, multiprocess_mode="livesum"
        )

    def on_event(self, event: Event) -> None:
        if (take := self._takes.get(type(event))) is not None:
            take(event)

    def _of(self, subject: Mapping[str, str]) -> tuple[str, ...]:
        return self._sets(*[subject.get(name, "") for name in self._labels])

    def _admitted(self, event: Admitted) -> None:
        self._reserve.observe(event.reserve_s)

    def _ended(self, subject: Mapping[str, str], status: str) -> tuple[str, ...]:
        labels = self._of(subject)
        self._calls(status, *labels).inc()
        return labels

    def _released(self, event: Released) -> None:
        self._ended(event.subject, "released")

    def _settled(self, event: Settled) -> None:
        labels = self._ended(event.subject, event.status)
        cached = event.cache_read_tokens + event.cache_write_tokens
        for kind, tokens in (
            ("input", event.input_tokens - cached),
            ("cache_read", event.cache_read_tokens),
            ("cache_write", event.cache_write_tokens),
            ("output", event.output_tokens - event.reasoning_tokens),
            ("reasoning", event.reasoning_tokens),
        ):
            if tokens:
                self._tokens(kind, *labels).inc(tokens)
        self._cost(*labels).inc((event.cost_nanousd or 0) / NANOUSD_PER_USD)
        if event.settle_s is not None:
            self._settle.observe(event.settle_s)
        if event.estimated_tokens and event.usage_source in ("reported", "counted"):
            over = event.input_tokens + event.output_tokens - event.estimated_tokens
            estimate = "low" if over > 0 else "high"
            self._error_ratio.labels(estimate).observe(abs(over) / event.estimated_tokens)

    def _refused(self, event: Refused) -> None:
        for budget, reason in dict.fromkeys((v.account.budget, v.reason) for v in event.violations):
            self._refusal(budget, reason, "enforce")
        if not event.violations:
            self._refusal("", event.cause, "enforce")

    def _would_refuse(self, event: WouldRefuse) -> None:
        for budget in event.budgets:
            self._refusal(budget, "exceeded", "shadow")
        if not event.budgets:
            self._refusal("", event.cause, "shadow")

    def _refusal(self, budget: str, reason: str, mode: Literal["enforce", "shadow"]) -> None:
        (told,) = self._budgets(OF_A_RUN.sub("", budget))
        self._refusals(told, reason, mode).inc()

    def _store_problem(self, event: StoreProblem) -> None:
        self._errors(event.verb.strip("_"), str(event.let_through).lower()).inc()
