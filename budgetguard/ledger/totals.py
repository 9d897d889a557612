"""Questions to the rollups: whole days, hours and quarters of an hour, and single rows at the two ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from budgetguard.errors import ConfigError
from budgetguard.ledger import rollups
from budgetguard.ledger.table import timestamp

Where = Mapping[str, str]
NOWHERE: Where = MappingProxyType({})
Calls = Iterable[tuple[int, int]]
"""How many are of which latency class."""
AT_ONCE = 50
"""Parts of a stretch in one question."""
Ask = Callable[[str, Sequence[Any]], Iterable[tuple[Any, ...]]]
"""Runs a question with its bindings (`?`)."""
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

    def add(self, sums: Sequence[int], latencies: Calls) -> None:
        """Count some more calls: what they add to each of `rollups.SUMS`, and their latencies."""
        for name, amount in zip(rollups.SUMS, sums, strict=True):
            setattr(self, name, getattr(self, name) + int(amount))
        for number, calls in latencies:
            if calls:
                self.latencies[number] += int(calls)

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
    for question in _questions(ask, between, names, exact):
        for values, sums, latencies in question.answers(ask, len(names)):
            group, matched = values[: len(group_by)], values[len(group_by) :]
            if all(value and fnmatchcase(value, glob) for value, glob in zip(matched, globs.values(), strict=True)):
                found.setdefault(group, Total(group)).add(sums, latencies)
    return sorted((total for total in found.values() if total.calls), key=lambda total: total.group)


class _Question(NamedTuple):
    """Answered by rows of a group's values, a latency class or band, `SUMS`, and of a band the calls of each class."""

    text: str
    bindings: Sequence[Any]

    def answers(self, ask: Ask, values: int) -> Iterator[tuple[tuple[str, ...], Sequence[int], Calls]]:
        """The values of each group, its sums, and its calls by latency class."""
        end = values + 1 + len(rollups.SUMS)
        for row in ask(self.text, self.bindings):
            number, sums, band = int(row[values]), row[values + 1 : end], row[end:]
            latencies = enumerate(band, rollups.BAND * number) if band else [(number, sums[0])]
            yield tuple(map(str, row[:values])), sums, latencies


def _questions(ask: Ask, between: Between, names: Sequence[str], where: Where) -> Iterator[_Question]:
    """What to ask, together all of the stretch, and no call twice."""
    parts, ends = _parts(between.since_ms, between.until_ms, _opened(ask, between))
    filters = "".join(f" AND coalesce({name}, '') = ?" for name in where)
    values, places = "".join(f"coalesce({name}, ''), " for name in names), _places(len(names) + 1)
    for first in range(0, len(parts), AT_ONCE):
        some = parts[first : first + AT_ONCE]
        yield _Question(
            f"SELECT {values}latency_band, {_ADDED_UP} FROM ({_by_group(len(some))}) AS summed "  # noqa: S608 - of constants
            f"JOIN usage_groups ON id = group_id WHERE true{filters} GROUP BY {places}",
            [*(one for part in some for one in (between.namespace, *part)), *where.values()],
        )
    single = ", ".join([rollups.latency_class_of(""), *(f"sum({term})" for term in rollups.sums_of(""))])
    for from_ms, to_ms in ends:
        yield _Question(
            f"SELECT {values}{single} FROM token_usage WHERE namespace = ? AND timestamp >= ? AND timestamp < ? "  # noqa: S608 - of constants
            f"AND status <> 'released'{filters} GROUP BY {places}",
            [between.namespace, timestamp(from_ms), timestamp(to_ms), *where.values()],
        )


def _by_group(parts: int) -> str:
    """The sums of so many parts by the numbers of groups: three times as fast as by their labels."""
    part = (
        f"SELECT group_id, latency_band, {', '.join(rollups.COUNTED)} FROM usage_sums "  # noqa: S608 - of constants
        "WHERE namespace = ? AND width_ms = ? AND start_ms >= ? AND start_ms < ?"
    )
    return (
        f"SELECT group_id, latency_band, {_ADDED_UP} FROM ({' UNION ALL '.join([part] * parts)}) AS standing "  # noqa: S608 - of constants
        "GROUP BY group_id, latency_band"
    )


def _places(count: int) -> str:
    return ", ".join(str(place) for place in range(1, count + 1))


def _opened(ask: Ask, between: Between) -> list[tuple[int, int]]:
    """The hours and days in which calls were admitted, and which are not summed yet: width and start."""
    opened = ask(
        "SELECT width_ms, start_ms FROM usage_stretches "
        "WHERE namespace = ? AND width_ms IN (?, ?) AND start_ms > ? AND start_ms < ? AND is_summed = 0 ORDER BY 1, 2",
        [between.namespace, *rollups.WIDTHS_MS[1:], between.since_ms - rollups.WIDTHS_MS[-1], between.until_ms],
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
