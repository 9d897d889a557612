"""The question that a report answers, and its answer, in the order in which it is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from budgetguard.errors import ConfigError
from budgetguard.ledger.reading import Book, Stretch
from budgetguard.ledger.sums import Sum
from budgetguard.reports.folding import TIMES, asked_of_book, folded, in_time


@dataclass(frozen=True)
class Question:
    """What to add up: the calls of a stretch whose labels match `where`, by labels and `TIMES` of a zone.

    With `top` only the most expensive groups are told, the others together.

    Raises:
        ConfigError: it is grouped by nothing, or twice by the same; `where` names a time; `top` is not above 0.
    """

    stretch: Stretch
    by: tuple[str, ...]
    where: Mapping[str, str] = field(default_factory=dict)
    zone: str = "UTC"
    top: int | None = None

    def __post_init__(self) -> None:
        twice = sorted({name for name in self.by if self.by.count(name) > 1})
        if not self.by or "" in self.by:
            raise ConfigError("--by", ["name labels, model, provider, hour, day, week or month, such as team,agent"])
        if twice:
            raise ConfigError("--by", [f"{twice[0]} is named twice"])
        times = [name for name in self.where if name in TIMES]
        if times:
            raise ConfigError("--where", [f"{times[0]} is no label: choose times with --since, --until or --last"])
        if self.top is not None and self.top < 1:
            raise ConfigError("--top", ["expected 1 or more groups"])


@dataclass(frozen=True)
class Report:
    """What was found: the groups that are told, the `hidden` others together, and everything together."""

    question: Question
    groups: Sequence[Sum]
    total: Sum
    others: Sum | None = None
    hidden: int = 0

    @property
    def by(self) -> tuple[str, ...]:
        return self.question.by


def answer(book: Book, question: Question) -> Report:
    """Ask a ledger. The groups come the most expensive first, times in their order; of `top` the most expensive first.

    Raises: as `Book.sums`.
    """
    found = folded(book.sums(question.stretch, asked_of_book(question.by), question.where), question.by, question.zone)
    total = together(found)
    if question.top is None or len(found) <= question.top:
        told = ordered(found, question.by) if question.top is None else sorted(found, key=rank)
        return Report(question, told, total)
    ranked = sorted(found, key=rank)
    told, hidden = ranked[: question.top], ranked[question.top :]
    return Report(question, told, total, together(hidden), len(hidden))


def together(found: Iterable[Sum]) -> Sum:
    """All of them as one, which has no name."""
    total = Sum(())
    for one in found:
        total.add(one)
    return total


def ordered(found: Iterable[Sum], by: Sequence[str]) -> list[Sum]:
    """The most expensive value of the first label first, then of its groups that of the second; times in order."""
    found = list(found)
    weights: dict[tuple[str, ...], Sum] = {}
    for one in found:
        for level in range(1, len(by) + 1):
            weights.setdefault(one.group[:level], Sum(one.group[:level])).add(one)

    def key(one: Sum) -> list[Any]:
        return [
            in_time(name, one.group[level]) if name in TIMES else rank(weights[one.group[: level + 1]])
            for level, name in enumerate(by)
        ]

    return sorted(found, key=key)


def rank(one: Sum) -> tuple[int, int, int, tuple[str, ...]]:
    """The most expensive first; where cost is the same, what took most tokens, or calls, or the first by name."""
    return -one.cost_nanousd, -one.total_tokens, -one.calls, one.group
