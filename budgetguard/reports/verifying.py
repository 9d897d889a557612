"""The proof of a report: everything added up again in Python, from single rows, and compared.

Nothing of the way that the report came is used: no sum of the database, no quarter of an hour, no glob of its.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from budgetguard.core.model import NO_LABEL
from budgetguard.ledger.reading import Book
from budgetguard.ledger.sums import AMOUNTS, Sum
from budgetguard.ledger.table import LABEL_COLUMNS
from budgetguard.reports.asking import Report
from budgetguard.reports.folding import TIMES, LocalTimes
from budgetguard.reports.lines import counted, usd_exact
from budgetguard.reports.names import name_shown

MOST_SHOWN = 20
_OWN = {**LABEL_COLUMNS, "model": "model", "provider": "provider", "status": "status", "prompt_hash": "prompt_hash"}
_GROUP_OF_ALL: tuple[str, ...] = ()
Group = tuple[str, ...]


class Verified(NamedTuple):
    """How many rows were added up, what they cost, and where the report says something else (nowhere: it is proved).

    Of `pruned_calls` the rows are gone: nothing proves what is kept of them.
    """

    rows: int
    cost_nanousd: int
    differences: list[str]
    pruned_calls: int = 0
    pruned_nanousd: int = 0

    @property
    def text(self) -> str:
        rows = f"{counted(self.rows, 'row')}, ${usd_exact(self.cost_nanousd)}"
        if self.pruned_calls:
            pruned = counted(self.pruned_calls, "call")
            rows += f", and beside them {pruned} for ${usd_exact(self.pruned_nanousd)} whose rows were pruned"
        return f"NOT verified: the report differs from {rows}" if self.differences else f"verified: {rows}"


def verify(book: Book, report: Report) -> Verified:
    """Compare a report with the rows themselves. To be asked of the ledger as it stood for the report (`standing`).

    Raises: as `Book.rows`.
    """
    sums = _from_rows(book, report)
    everything = sums.get(_GROUP_OF_ALL, [0] * len(AMOUNTS))
    expected = {group: amounts for group, amounts in sums.items() if group != _GROUP_OF_ALL}
    told = {one.group: one for one in report.groups}
    hidden = [amounts for group, amounts in expected.items() if group not in told]
    lines = [(_name(one.group), one, expected.get(one.group)) for one in report.groups]
    if report.others is not None or hidden:
        rest = [sum(some) for some in zip(*hidden, strict=True)] or None
        lines.append(("the other groups", report.others or Sum(()), rest))
    lines.append(("the total", report.total, everything))
    differences = [text for name, said, found in lines for text in _compared(name, said, found)]
    if report.hidden != len(hidden):
        differences.append(f"the other groups: the report hides {report.hidden}, by the rows there are {len(hidden)}")
    return Verified(
        everything[AMOUNTS.index("calls")], everything[AMOUNTS.index("cost_nanousd")], differences
    )  # fmt: skip


def _compared(name: str, said: Sum, found: list[int] | None) -> list[str]:
    return [
        f"{name}: {amount} is {getattr(said, amount)} in the report and {by_rows} by the rows"
        for amount, by_rows in zip(AMOUNTS, found or [0] * len(AMOUNTS), strict=True)
        if getattr(said, amount) != by_rows
    ]


def _name(group: Group) -> str:
    return ", ".join(map(name_shown, group))


def _from_rows(book: Book, report: Report) -> dict[Group, list[int]]:
    """The amounts of each group, and of all calls together."""
    question = report.question
    times = {name: LocalTimes(name, question.zone) for name in question.by if name in TIMES}
    sums: dict[Group, list[int]] = {_GROUP_OF_ALL: [0] * len(AMOUNTS)}
    for row in book.rows(question.stretch):
        if row["status"] == "released" or not _matches(row, question.where):
            continue
        at_ms = _instant_ms(row["timestamp"]) if times else 0
        group = tuple(times[name].text(at_ms) if name in times else _value(row, name) for name in question.by)
        more = _amounts(row)
        for some in (sums.setdefault(group, [0] * len(AMOUNTS)), sums[_GROUP_OF_ALL]):
            for place, amount in enumerate(more):
                some[place] += amount
    return sums


def _matches(row: Mapping[str, Any], where: Mapping[str, str]) -> bool:
    return all(
        fnmatchcase(value, glob) if (value := _value(row, name)) else glob == NO_LABEL for name, glob in where.items()
    )


def _value(row: Mapping[str, Any], name: str) -> str:
    return (row[_OWN[name]] if name in _OWN else row["labels"].get(name)) or ""


def _instant_ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def _amounts(row: Mapping[str, Any]) -> list[int]:
    """What a row adds to each of `AMOUNTS`."""
    status, cost_nanousd = row["status"], row["cost_nanousd"]
    expired = status == "expired"
    guessed = not expired and "estimate" in (row["usage_source"], "estimate" if status == "assumed" else "")
    late = status in ("late", "uncounted") or (status == "assumed" and row["revision"] > 1)
    known = cost_nanousd or 0
    return [
        1, int(row["error_type"] is not None and status != "cancelled"), row["prompt_tokens"],
        row["completion_tokens"], known, int(cost_nanousd is None), int(row["attempt"] == 1),
        row["cache_read_tokens"], row["cache_write_tokens"], row["reasoning_tokens"],
        int(guessed), known if guessed else 0, int(expired), known if expired else 0, int(late), known if late else 0,
    ]  # fmt: skip
