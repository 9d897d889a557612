"""Questions to `usage_rollups`: whole hours, whole stretches of five minutes, and single rows at the two ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from budgetguard.errors import ConfigError
from budgetguard.ledger import rollups
from budgetguard.ledger.table import timestamp

Where = Mapping[str, str]
NOWHERE: Where = MappingProxyType({})
Ask = Callable[[str, Sequence[Any]], Iterable[tuple[Any, ...]]]
"""Runs a question with its bindings (`?`)."""


class Between(Protocol):
    """A namespace, and instants: from the first on, and before the second."""

    @property
    def namespace(self) -> str: ...

    @property
    def since_ms(self) -> int: ...

    @property
    def until_ms(self) -> int: ...


@dataclass
class Total:
    """The sums of one group, named by the values it is grouped by. `latencies`: calls by latency class."""

    group: tuple[str, ...]
    calls: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_nanousd: int = 0
    unpriced_calls: int = 0
    latencies: Counter[int] = field(default_factory=Counter)

    def add(self, latency_class: int, sums: Sequence[int]) -> None:
        """Count some more calls of that class."""
        for name, amount in zip(rollups.SUMS, sums, strict=True):
            setattr(self, name, getattr(self, name) + int(amount))
        self.latencies[latency_class] += int(sums[0])

    def latency_ms(self, percent: int) -> int | None:
        """So many of the calls took no longer, within 10 %; None where no time is known of any."""
        known = sorted((number, calls) for number, calls in self.latencies.items() if number >= 0 and calls)
        left = sum(calls for _, calls in known) * percent / 100
        for number, calls in known:
            left -= calls
            if left <= 0:
                return round(2 ** ((number - 0.5) / 4))
        return None


def totals(ask: Ask, between: Between, group_by: Sequence[str] = (), where: Where = NOWHERE) -> list[Total]:
    """As `Book.totals`; the groups in their order.

    Raises:
        ConfigError: rollups are not kept by one of these columns.
    """
    unknown = [name for name in (*group_by, *where) if name not in rollups.LABELS]
    if unknown:
        raise ConfigError("totals", [f"{name}: sums are kept by {', '.join(rollups.LABELS)}" for name in unknown])
    found: dict[tuple[str, ...], Total] = {}
    for question, bindings in _questions(between, group_by, where):
        for row in ask(question, bindings):
            group, (slow, *sums) = tuple(map(str, row[: len(group_by)])), row[len(group_by) :]
            found.setdefault(group, Total(group)).add(int(slow), sums)
    return sorted((total for total in found.values() if total.calls), key=lambda total: total.group)


def _questions(between: Between, group_by: Sequence[str], where: Where) -> Iterable[tuple[str, list[Any]]]:
    """What to ask, together all of the stretch, and no call twice."""
    places = ", ".join(str(place) for place in range(1, len(group_by) + 2))
    filters = "".join(f" AND coalesce({name}, '') = ?" for name in where)
    kept = ", ".join([*group_by, "latency_class", *(f"sum({name})" for name in rollups.SUMS)])
    single = ", ".join([
        *(f"coalesce({name}, '')" for name in group_by), rollups.latency_class_of(""),
        *(f"sum({term})" for term in rollups.sums_of("")),
    ])  # fmt: skip
    wide = (
        f"SELECT {kept} FROM usage_rollups WHERE namespace = ? AND width_ms = ? AND start_ms >= ? AND start_ms < ?"  # noqa: S608 - of constants
        f"{filters} GROUP BY {places}"
    )
    rows = (
        f"SELECT {single} FROM token_usage WHERE namespace = ? AND timestamp >= ? AND timestamp < ? "  # noqa: S608 - of constants
        f"AND status <> 'released'{filters} GROUP BY {places}"
    )
    for width_ms, from_ms, to_ms in _parts(between.since_ms, between.until_ms):
        if width_ms is None:
            yield rows, [between.namespace, timestamp(from_ms), timestamp(to_ms), *where.values()]
        else:
            yield wide, [between.namespace, width_ms, from_ms, to_ms, *where.values()]


def _parts(since_ms: int, until_ms: int) -> list[tuple[int | None, int, int]]:
    """Where to read which part of a stretch: the widest rollups in its middle, narrower ones before and after them,
    and single rows (None) at its ends.
    """
    parts: list[tuple[int | None, int, int]] = []
    narrower: int | None = None
    for width_ms in rollups.WIDTHS_MS:
        first_ms, last_ms = -(-since_ms // width_ms) * width_ms, until_ms // width_ms * width_ms
        if first_ms >= last_ms:
            break
        parts += [(narrower, since_ms, first_ms), (narrower, last_ms, until_ms)]
        since_ms, until_ms, narrower = first_ms, last_ms, width_ms
    parts.append((narrower, since_ms, until_ms))
    return [part for part in parts if part[1] < part[2]]
