"""Sums over the rows of `token_usage` themselves, by any label: what a report adds up, to the nano-dollar."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from budgetguard.core.model import NO_LABEL
from budgetguard.ledger.rollups import sums_of
from budgetguard.ledger.table import LABEL_COLUMNS, timestamp
from budgetguard.ledger.totals import Ask, Between

SLOT_MS = 900_000
"""A quarter of an hour: every time zone's hours and days are made of whole ones."""
SLOT = ""
"""Names the number of a row's quarter of an hour since 1970. No label is called so."""
COUNTED = "namespace = ? AND timestamp >= ? AND timestamp < ? AND status <> 'released'"
"""The calls of a stretch; what was released is no call."""
_COLUMN_OF = {name: f"coalesce(\"{column}\", '')" for name, column in LABEL_COLUMNS.items()} | {
    name: f"coalesce({name}, '')" for name in ("model", "provider", "status", "prompt_hash")
}


class Dialect(NamedTuple):
    """What two databases say differently: a row's time in whole seconds, the label whose name is bound, and the
    values of a JSON list that is bound.
    """

    at_s: str
    label: str
    members: str


SQLITE = Dialect(
    "unixepoch(timestamp)", "(SELECT value FROM json_each(labels) WHERE key = ?)", "SELECT value FROM json_each(?)"
)
POSTGRES = Dialect(
    "CAST(floor(extract(epoch FROM timestamp)) AS BIGINT)",
    "labels ->> CAST(? AS TEXT)",
    "SELECT jsonb_array_elements_text(CAST(? AS JSONB))",
)


@dataclass(slots=True)
class Sum:
    """The sums of one group, named by the values that it is grouped by; '' where a call lacks a label.

    `operations` are the calls that were their operation's first attempt; `errors` those that failed, apart from those
    that their caller cancelled; `unpriced_calls` those whose cost nobody knows, which counts 0. Of all of it:
    `expired` is what an expiry charged and nobody has corrected; `assumed` was settled by a guess; `late` was settled
    when its reservation had ended already (some of it by a guess, which counts there too).
    """

    group: tuple[str, ...]
    calls: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_nanousd: int = 0
    unpriced_calls: int = 0
    operations: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    assumed_calls: int = 0
    assumed_cost_nanousd: int = 0
    expired_calls: int = 0
    expired_cost_nanousd: int = 0
    late_calls: int = 0
    late_cost_nanousd: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def add(self, other: Sum) -> None:
        """Count the calls of another group here too."""
        for name in AMOUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


AMOUNTS = tuple(field.name for field in fields(Sum))[1:]
EXPIRED = "status = 'expired'"
ASSUMED = "status <> 'expired' AND (status = 'assumed' OR usage_source = 'estimate')"
# A guess that is a row's second revision came after an expiry or a release: a hold has no row.
LATE = "status IN ('late', 'uncounted') OR (status = 'assumed' AND revision > 1)"
_PARTS = [
    f"CASE WHEN {part} THEN {amount} ELSE 0 END"
    for part in (ASSUMED, EXPIRED, LATE)
    for amount in ("1", "coalesce(cost_nanousd, 0)")
]
TERMS = [
    *sums_of(""), "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", *_PARTS,
]  # fmt: skip
"""What a row adds to each of `AMOUNTS`, in SQL."""


def value_of(name: str, dialect: Dialect) -> tuple[str, list[str]]:
    """The value of a label of a row (or its model, provider, status, prompt_hash, or `SLOT`), in SQL, '' where it
    lacks it; and what is bound there.
    """
    if name == SLOT:
        return f"({dialect.at_s} / {SLOT_MS // 1000})", []
    column = _COLUMN_OF.get(name)
    return (column, []) if column else (f"coalesce({dialect.label}, '')", [name])


def condition(ask: Ask, dialect: Dialect, between: Between, where: Mapping[str, str]) -> tuple[str, list[Any]]:
    """What holds of the calls of a stretch whose labels match these globs (as `fnmatchcase`; a call without the label
    matches only "(none)"), in SQL, and what is bound there. Globs are matched here, against the values that there are.
    """
    text, bindings = COUNTED, [between.namespace, timestamp(between.since_ms), timestamp(between.until_ms)]
    for name, glob in where.items():
        value, bound = value_of(name, dialect)
        if glob == NO_LABEL:
            text, bindings = f"{text} AND {value} IN ('', ?)", [*bindings, *bound, glob]
            continue
        if not set("*?[").intersection(glob):
            text, bindings = f"{text} AND {value} = ?", [*bindings, *bound, glob]
            continue
        question = f"SELECT DISTINCT {value} FROM token_usage WHERE {text}"  # noqa: S608 - of constants
        found = [str(one) for (one,) in ask(question, [*bound, *bindings]) if one != ""]
        matching = json.dumps([one for one in found if fnmatchcase(one, glob)])
        text, bindings = f"{text} AND {value} IN ({dialect.members})", [*bindings, *bound, matching]
    return text, bindings


def sums(ask: Ask, dialect: Dialect, between: Between, by: Sequence[str], where: Mapping[str, str]) -> list[Sum]:
    """As `Book.sums`."""
    values = [value_of(name, dialect) for name in by]
    keys = [value for value, _ in values]
    holds, bindings = condition(ask, dialect, between, where)
    question = f"SELECT {', '.join([*keys, *(f'sum({term})' for term in TERMS)])} FROM token_usage WHERE {holds}"  # noqa: S608 - of constants
    if by:
        question += f" GROUP BY {', '.join(str(place) for place in range(1, len(by) + 1))}"
    bound = [one for _, some in values for one in some]
    found = [
        Sum(tuple(map(str, row[: len(by)])), *map(int, row[len(by) :]))
        for row in ask(question, [*bound, *bindings])
        if row[len(by)]
    ]
    return sorted(found, key=lambda one: one.group)
