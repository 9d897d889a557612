"""The tables of a report and of a statement as people read them: the same on a page and in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from budgetguard.core.model import NO_LABEL
from budgetguard.ledger.sums import Sum
from budgetguard.reports.asking import Report
from budgetguard.reports.chargeback import Facts, Statement, TeamStatement
from budgetguard.reports.chargeback_lines import assumed, budget_shown, places_of, refused, signed, team_shown
from budgetguard.reports.lines import lines, share_shown, usd_places, usd_shown
from budgetguard.reports.names import OTHERS, TOTAL, UNALLOCATED, name_shown

MISSING = frozenset((NO_LABEL, OTHERS, UNALLOCATED))
"""Names that are nobody's."""


class Table(NamedTuple):
    """Titles and rows as texts. The first `names` columns are names, the others figures. A total is the last row."""

    titles: Sequence[str]
    names: int
    rows: Sequence[Sequence[str]]
    has_total: bool = False


class Figure(NamedTuple):
    """A column of figures, and what it shows of sums."""

    title: str
    shown: Callable[[Sum], str]


def report_table(report: Report) -> Table:
    """The groups, the others, and the total."""
    places, whole_nanousd = usd_places(report), report.total.cost_nanousd
    shown = [
        Figure("cost", lambda one: usd_shown(one.cost_nanousd, places)),
        Figure("share", lambda one: share_shown(one.cost_nanousd, whole_nanousd)),
        Figure("no price", lambda one: _count(one.unpriced_calls)),
        Figure("calls", lambda one: f"{one.calls:,}"),
        Figure("errors", lambda one: f"{one.errors:,}"),
        Figure("input tokens", lambda one: f"{one.prompt_tokens:,}"),
        Figure("cached", lambda one: f"{one.cache_read_tokens:,}"),
        Figure("output tokens", lambda one: f"{one.completion_tokens:,}"),
    ]
    rows = [[*line.names, *(figure.shown(line.sum) for figure in shown)] for line in lines(report)]
    return _table(report.by, [figure.title for figure in shown], rows, has_total=True)


def figures(statement: Statement) -> list[Figure]:
    """What a statement shows of a team, a line and the total."""
    places = places_of(statement)

    def dollars(amount: Callable[[Sum], int]) -> Callable[[Sum], str]:
        return lambda one: signed(amount(one), places) if amount(one) else ""

    return [
        Figure("Cost", lambda one: signed(one.cost_nanousd, places)),
        Figure("Calls", lambda one: f"{one.calls:,}"),
        Figure("Tokens", lambda one: f"{one.total_tokens:,}"),
        Figure("No price", lambda one: _count(one.unpriced_calls)),
        Figure("Assumed", dollars(assumed)),
        Figure("Late", dollars(lambda one: one.late_cost_nanousd)),
    ]


def teams_table(statement: Statement) -> Table:
    """The teams with their cost centers, budgets and refusals, and the total."""
    shown, places = figures(statement), places_of(statement)
    rows = [
        [
            team_shown(one.team), one.facts.cost_center or "", *(figure.shown(one.total) for figure in shown),
            budget_shown(one), refused_shown(one.facts, places),
        ]
        for one in statement.teams
    ]  # fmt: skip
    everything = [figure.shown(statement.total) for figure in shown]
    rows.append([TOTAL, "", *everything, "", refused_shown(refused(statement), places)])
    titles = [*(figure.title for figure in shown), "Budget", "Refused"]
    return _table(["Team", "Cost center"], titles, rows, has_total=True)


def lines_table(one: TeamStatement, statement: Statement) -> Table:
    """A team's lines; which month those of other months adjust."""
    shown = figures(statement)
    rows = [
        [
            *map(name_shown, line.group[1:]), "" if of_month == statement.month else of_month,
            *(figure.shown(line) for figure in shown),
        ]
        for of_month, line in one.lines
    ]  # fmt: skip
    return _table(["Agent", "Model", "Provider", "Adjusts"], [figure.title for figure in shown], rows)


def refused_shown(facts: Facts, places: int) -> str:
    """`7 ($0.0700)`: how many calls, and what they had asked."""
    return f"{facts.refused_calls:,} ({signed(facts.refused_nanousd, places)})" if facts.refused_calls else ""


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _table(
    names: Sequence[str], others: Sequence[str], rows: Sequence[Sequence[str]], has_total: bool = False
) -> Table:
    """A table of these names and figures, without the columns of which no row has anything."""
    titles = [*names, *others]
    places = [place for place in range(len(titles)) if any(row[place] for row in rows)]
    kept = [[row[place] for place in places] for row in rows]
    return Table([titles[place] for place in places], sum(place < len(names) for place in places), kept, has_total)
