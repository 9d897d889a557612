"""Questions to `refusals`: how many calls were refused, by whatever they are asked by."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from budgetguard.core.amounts import UNITS
from budgetguard.ledger.refusals import ASKED
from budgetguard.ledger.sums import Dialect, value_of
from budgetguard.ledger.table import timestamp
from budgetguard.ledger.totals import Ask, Between

OF_A_LIMIT = ("budget", "unit", "period", "reason")
"""What tells the limits that refused a call apart. What no budget refused has only its cause, as the reason."""
_BITS = 32
# In halves: amounts are up to 2^53, and the sum of some thousand of them would leave 64 bits.
_ASKED = ", ".join(f"sum({name} >> {_BITS}), sum({name} & {(1 << _BITS) - 1})" for name in ASKED)
_NOT_HERE = ("status", "prompt_hash")
"""Columns of `token_usage`: here they can only be labels of calls."""


@dataclass(slots=True)
class RefusalSum:
    """The refused calls of one group, named by the values that it is grouped by; '' where a call lacks a label.

    `asked` is by unit (dollars in nano-dollars), of the units whose limits refused. `last_ms`: the minute of the last.
    """

    group: tuple[str, ...]
    calls: int = 0
    asked: dict[str, int] = field(default_factory=dict)
    last_ms: int = 0

    def add(self, calls: int, asked: Iterable[tuple[str, int]], last_ms: int) -> None:
        """Count some more."""
        self.calls += calls
        self.last_ms = max(self.last_ms, last_ms)
        for unit, amount in asked:
            self.asked[unit] = self.asked.get(unit, 0) + amount


def refusal_sums(
    ask: Ask, dialect: Dialect, between: Between, by: Sequence[str], where: Mapping[str, str], shadow: bool | None
) -> list[RefusalSum]:
    """As `Book.refusals`."""
    found: dict[tuple[str, ...], RefusalSum] = {}
    for values, limits, calls, last_ms, asked in _rows(ask, dialect, between, [*by, *where], shadow):
        if not all(_matches(values[name], glob) for name, glob in where.items() if name in values):
            continue
        refused = [limit for limit in limits if all(_matches(limit[n], where[n]) for n in OF_A_LIMIT if n in where)]
        units: dict[tuple[str, ...], set[str]] = {}
        for limit in refused:
            units.setdefault(tuple((values | limit)[name] for name in by), set()).add(limit["unit"])
        for group, some in units.items():
            of_them = [(u, a) for u, a in zip(UNITS, asked, strict=True) if a and (u in some or "" in some)]
            found.setdefault(group, RefusalSum(group)).add(calls, of_them, last_ms)
    return sorted(found.values(), key=lambda one: one.group)


def _rows(
    ask: Ask, dialect: Dialect, between: Between, names: Sequence[str], shadow: bool | None
) -> Iterator[tuple[dict[str, str], list[dict[str, str]], int, int, list[int]]]:
    """Rows that are alike, together: what they are named by, what refused them, calls, the last, what they asked."""
    named = [name for name in dict.fromkeys(names) if name not in OF_A_LIMIT]
    values = [_value_of(name, dialect) for name in named]
    keys = ", ".join([*(value for value, _ in values), "cause", "limits"])
    question = (
        f"SELECT {keys}, sum(calls), max({dialect.at_s}), {_ASKED} FROM refusals "  # noqa: S608 - of constants
        "WHERE namespace = ? AND timestamp >= ? AND timestamp < ?"
    )
    bindings = [one for _, bound in values for one in bound]
    bindings += [between.namespace, timestamp(between.since_ms), timestamp(between.until_ms)]
    if shadow is not None:
        question, bindings = f"{question} AND mode = ?", [*bindings, "shadow" if shadow else "enforce"]
    places = ", ".join(str(place) for place in range(1, len(named) + 3))
    for row in ask(f"{question} GROUP BY {places}", bindings):
        *of_labels, cause, limits, calls, last_s = row[: len(named) + 4]
        halves = [int(half) for half in row[len(named) + 4 :]]
        asked = [(high << _BITS) + low for high, low in zip(halves[::2], halves[1::2], strict=True)]
        by_limit = _limits(json.loads(limits) if isinstance(limits, str) else limits, cause)
        yield dict(zip(named, map(str, of_labels), strict=True)), by_limit, int(calls), int(last_s) * 1000, asked


def _value_of(name: str, dialect: Dialect) -> tuple[str, list[str]]:
    if name == "mode":
        return name, []
    return (f"coalesce({dialect.label}, '')", [name]) if name in _NOT_HERE else value_of(name, dialect)


def _limits(limits: Sequence[Sequence[str]], cause: str) -> list[dict[str, str]]:
    return [dict(zip(OF_A_LIMIT, limit, strict=True)) for limit in limits or [("", "", "", cause)]]


def _matches(value: str, glob: str) -> bool:
    return value != "" and fnmatchcase(value, glob)
