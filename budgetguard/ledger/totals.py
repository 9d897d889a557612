"""Questions to the rollups: whole days, hours and quarters of an hour, and single rows at the two ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Protocol

from budgetguard.errors import ConfigError
from budgetguard.ledger import rollups
from budgetguard.ledger.table import timestamp

Where = Mapping[str, str]
NOWHERE: Where = MappingProxyType({})
AT_ONCE = 50
"""Parts of a stretch in one question."""
Ask = Callable[[str, Sequence[Any]], Iterable[tuple[Any, ...]]]
"""Runs a question with its bindings (`?`)."""
_NO_LIMIT = 2**63 - 1
"""Keeps a database from reckoning an inner expression again for each of its uses."""
_TIMED = f"SELECT *, {rollups.latency_class_of('')} AS latency_class FROM token_usage"  # noqa: S608 - of constants
_ADDED_UP = ", ".join(f"CAST(sum({name}) AS BIGINT) AS {name}" for name in rollups.COUNTED)


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
    """The sums of one group, named by the values it is grouped by. `latencies`: calls by latency class.

    `operations` are the calls that were their operation's first attempt: however often it was tried again, a task's
    run is one of them. What is a share or a mean is None where there is nothing to divide by.
    """

    group: tuple[str, ...]
    calls: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_nanousd: int = 0
    unpriced_calls: int = 0
    operations: int = 0
    latencies: Counter[int] = field(default_factory=Counter)

    def add(self, latency_band: int, *counted: int) -> None:
        """Count some more calls: what a row of rollups says of them."""
        for name, amount in zip(rollups.SUMS, counted, strict=False):
            setattr(self, name, getattr(self, name) + int(amount))
        calls = [
            calls for pair in counted[len(rollups.SUMS) :] for calls in (pair % rollups.PAIR, pair // rollups.PAIR)
        ]
        for number, more in enumerate(calls, rollups.BAND * latency_band):
            if more:
                self.latencies[number] += more

    def latency_ms(self, percent: int) -> int | None:
        """So many of the calls took no longer, within 10 %; None where no time is known of any."""
        known = sorted((number, calls) for number, calls in self.latencies.items() if number >= 0 and calls)
        left = sum(calls for _, calls in known) * percent / 100
        for number, calls in known:
            left -= calls
            if left <= 0:
                return round(2 ** ((number - 0.5) / 4))
        return None

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def error_share(self) -> float | None:
        """Of the calls."""
        return self.errors / self.calls if self.calls else None

    @property
    def tokens_per_completion(self) -> float | None:
        """All tokens of a call, on average."""
        return self.total_tokens / self.calls if self.calls else None

    @property
    def cost_per_task_nanousd(self) -> int | None:
        """Of an operation with its retries, to the nearest nano-dollar."""
        return (2 * self.cost_nanousd + self.operations) // (2 * self.operations) if self.operations else None

    @property
    def token_efficiency(self) -> float | None:
        """Completion tokens for each prompt token."""
        return self.completion_tokens / self.prompt_tokens if self.prompt_tokens else None


def totals(ask: Ask, between: Between, group_by: Sequence[str] = (), where: Where = NOWHERE) -> list[Total]:
    """As `Book.totals`; the groups in their order.

    Raises:
        ConfigError: rollups are not kept by one of these columns.
    """
    unknown = [name for name in (*group_by, *where) if name not in rollups.LABELS]
    if unknown:
        raise ConfigError("totals", [f"{name}: sums are kept by {', '.join(rollups.LABELS)}" for name in unknown])
    globs = {name: glob for name, glob in where.items() if set("*?[").intersection(glob)}
    exact = {name: value for name, value in where.items() if name not in globs}
    found: dict[tuple[str, ...], Total] = {}
    names = (*group_by, *globs)
    for question, bindings in _questions(ask, between, names, exact):
        for row in ask(question, bindings):
            group, matched = tuple(map(str, row[: len(group_by)])), map(str, row[len(group_by) : len(names)])
            if all(value and fnmatchcase(value, glob) for value, glob in zip(matched, globs.values(), strict=True)):
                found.setdefault(group, Total(group)).add(*row[len(names) :])
    return sorted((total for total in found.values() if total.calls), key=lambda total: total.group)


def _questions(ask: Ask, between: Between, names: Sequence[str], where: Where) -> Iterator[tuple[str, Sequence[Any]]]:
    """What to ask, together all of the stretch, and no call twice. Answers are rows of the values of these columns, a
    latency band, and `rollups.COUNTED`.
    """
    parts, ends = _parts(between.since_ms, between.until_ms, _opened(ask, between))
    values = "".join(f"coalesce({name}, ''), " for name in names)
    filters = "".join(f" AND coalesce({name}, '') = ?" for name in where)
    by = f"{filters} GROUP BY {', '.join(str(place + 1) for place in range(len(names) + 1))}"
    for first in range(0, len(parts), AT_ONCE):
        some = parts[first : first + AT_ONCE]
        yield (
            f"SELECT {values}place % 32 - 1, {_ADDED_UP} FROM ({_by_place(len(some))}) AS summed "  # noqa: S608 - of constants
            f"CROSS JOIN usage_groups WHERE id = place / 32{by}",  # so SQLite keeps to this order
            [*(one for part in some for one in (between.namespace, *part)), *where.values()],
        )
    counted = rollups.counted("latency_class", rollups.sums_of(""))
    for from_ms, to_ms in ends:
        yield (
            f"SELECT {values}latency_band, {_ADDED_UP} FROM (SELECT {', '.join(rollups.LABELS)}, {counted} "  # noqa: S608 - of constants
            f"FROM ({_TIMED} WHERE namespace = ? AND timestamp >= ? AND timestamp < ? AND status <> 'released' "
            f"LIMIT {_NO_LIMIT}) AS timed) AS counted WHERE true{by}",
            [between.namespace, timestamp(from_ms), timestamp(to_ms), *where.values()],
        )


def _by_place(parts: int) -> str:
    """The sums of so many parts by one number for group and band: several times as fast as by labels."""
    part = (
        f"SELECT group_id * 32 + latency_band + 1 AS place, {', '.join(rollups.COUNTED)} FROM usage_sums "  # noqa: S608 - of constants
        "WHERE namespace = ? AND width_ms = ? AND start_ms >= ? AND start_ms < ?"
    )
    return f"SELECT place, {_ADDED_UP} FROM ({' UNION ALL '.join([part] * parts)}) AS standing GROUP BY place"  # noqa: S608 - of constants


def _opened(ask: Ask, between: Between) -> list[tuple[int, int]]:
    """The hours and days in which calls were admitted, and which are not summed yet: width and start."""
    widths = ", ".join(map(str, rollups.WIDER_MS))
    opened = ask(
        f"SELECT width_ms, start_ms FROM usage_stretches WHERE namespace = ? AND width_ms IN ({widths}) "  # noqa: S608 - of constants
        "AND start_ms > ? AND start_ms < ? AND is_summed = 0 ORDER BY 1, 2",
        [between.namespace, between.since_ms - rollups.WIDER_MS[-1], between.until_ms],
    )
    return [(int(width_ms), int(start_ms)) for width_ms, start_ms in opened]


def _parts(
    since_ms: int, until_ms: int, opened: Sequence[tuple[int, int]]
) -> tuple[list[tuple[int, int, int]], list[tuple[int, int]]]:
    """Where to read which part of a stretch: the widest sums that there are of it (width, from, to), and of the rest
    single rows (from, to). What was never begun has no calls, so that its sums are there.
    """
    parts: list[tuple[int, int, int]] = []
    rest = [(since_ms, until_ms)]
    for width_ms in reversed(rollups.WIDTHS_MS):
        opened_ms = [start_ms for width, start_ms in opened if width == width_ms]
        rest, gaps = [], rest
        for from_ms, to_ms in gaps:
            summed = _summed(from_ms, to_ms, width_ms, opened_ms)
            parts += [(width_ms, *one) for one in summed]
            edges_ms = [from_ms, *(edge_ms for one in summed for edge_ms in one), to_ms]
            rest += [gap for gap in zip(edges_ms[::2], edges_ms[1::2], strict=True) if gap[0] < gap[1]]
    return parts, rest


def _summed(from_ms: int, to_ms: int, width_ms: int, opened_ms: Sequence[int]) -> list[tuple[int, int]]:
    """The whole stretches of a width, those apart that are open: from, to, as long as they go."""
    begin_ms, end_ms = -(-from_ms // width_ms) * width_ms, to_ms // width_ms * width_ms
    summed = []
    for start_ms in [*(one for one in opened_ms if begin_ms <= one < end_ms), end_ms]:
        if begin_ms < start_ms:
            summed.append((begin_ms, start_ms))
        begin_ms = start_ms + width_ms
    return summed
