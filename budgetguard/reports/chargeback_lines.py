"""What the forms of a statement share: its lines as they are shown, and its notes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal, NamedTuple

from budgetguard.core.amounts import NANOUSD_PER_USD
from budgetguard.core.periods import zone_of
from budgetguard.ledger.sums import Sum
from budgetguard.reports.chargeback import Facts, MonthBudget, Statement, TeamStatement
from budgetguard.reports.lines import counted, share_shown, usd_shown
from budgetguard.reports.names import TOTAL, UNALLOCATED, name_shown


class Row(NamedTuple):
    """A team's sums, one of its lines (of another month: an adjustment), or the total.

    Agent, model and provider are None but in the lines, and "" where calls lack them; `adjusts` is the other month.
    """

    kind: Literal["team", "usage", "adjustment", "total"]
    team: str
    facts: Facts
    agent: str | None
    model: str | None
    provider: str | None
    adjusts: str | None
    sum: Sum


def rows(statement: Statement) -> Iterator[Row]:
    """Each team and then its lines, which add up to it; at last the total of all teams."""
    for one in statement.teams:
        yield Row("team", team_shown(one.team), one.facts, None, None, None, None, one.total)
        for of_month, line in one.lines:
            _, agent, model, provider = line.group
            kind: Literal["usage", "adjustment"] = "usage" if of_month == statement.month else "adjustment"
            adjusts = None if kind == "usage" else of_month
            yield Row(kind, team_shown(one.team), one.facts, agent, model, provider, adjusts, line)
    yield Row("total", TOTAL, refused(statement), None, None, None, None, statement.total)


def team_shown(team: str) -> str:
    """A team's name, or what stands for the calls without one."""
    return name_shown(team, UNALLOCATED)


def refused(statement: Statement) -> Facts:
    """What was refused of all teams."""
    facts = [one.facts for one in statement.teams]
    return Facts(None, (), sum(one.refused_calls for one in facts), sum(one.refused_nanousd for one in facts))


def places_of(statement: Statement) -> int:
    """How many places of dollars people are shown."""
    return 2 if statement.total.cost_nanousd >= 100 * NANOUSD_PER_USD else 4


def signed(amount_nanousd: int, places: int) -> str:
    """Rounded dollars, which adjustments may have below zero: `-$0.50`, and `>-$0.01`."""
    text = usd_shown(abs(amount_nanousd), places)
    if amount_nanousd >= 0:
        return text
    return f">-{text[1:]}" if text.startswith("<") else f"-{text}"


def assumed(one: Sum) -> int:
    """Nano-dollars that are a guess: settled by one, or charged by an expiry."""
    return one.assumed_cost_nanousd + one.expired_cost_nanousd


def budget_shown(one: TeamStatement) -> str:
    """The budget that is the team's alone, and the share of it that the month's own calls cost: `$900.00 (43.0 %)`."""
    whole = one.facts.budget_nanousd
    if whole is None:
        return ""
    return f"{usd_shown(whole, 2)} ({share_shown(one.own.cost_nanousd, whole)})" if whole else usd_shown(whole, 2)


def _limit(budget: MonthBudget) -> str:
    others = [name for name in budget.per if name != "team"]
    some = [f"{name}={glob}" for name, glob in budget.where.items() if name != "team"]
    shared = f" shared by {budget.where['team']}" if not {"team"} & set(budget.per) and "team" in budget.where else ""
    parts = "".join([f" per {', '.join(others)}" if others else "", f" for {', '.join(some)}" if some else ""])
    return f"{budget.name}, {usd_shown(budget.limit_nanousd, 2)}{parts or shared}"


def heading(statement: Statement) -> str:
    """`Chargeback 2026-11: prod (Europe/Berlin), closed on 2026-12-01`."""
    state = "open" if statement.closed_ms is None else f"closed on {_day(statement.closed_ms, statement.zone)}"
    return f"Chargeback {statement.month}: {statement.namespace} ({statement.zone}), {state}"


def notes(statement: Statement) -> list[str]:
    """What a reader of the figures has to know, in sentences."""
    total, places = statement.total, places_of(statement)
    found = []
    if others := list(dict.fromkeys(_limit(b) for one in statement.teams for b in one.facts.budgets if not b.whole)):
        found.append(f"Month budgets of some calls, or of several teams: {'; '.join(others)}.")
    for month in statement.adjusted:
        some = sum(
            line.sum.cost_nanousd for one in statement.teams for line in one.lines if line.of_month == month
        )  # fmt: skip
        found.append(f"Of it {signed(some, places)} adjusts {month}, which was closed before these calls were settled.")
    if assumed(total):
        said = "Of it {} is assumed: nobody told what was really used, or the reservation expired."
        found.append(said.format(signed(assumed(total), places)))
    if total.late_cost_nanousd:
        found.append(f"Of it {signed(total.late_cost_nanousd, places)} came late: its reservation had ended already.")
    if total.unpriced_calls > 0:
        found.append(f"{counted(total.unpriced_calls, 'call')} without a known price, counted as $0.")
    if (asked := refused(statement)).refused_calls:
        calls, cost = counted(asked.refused_calls, "call"), usd_shown(asked.refused_nanousd, places)
        found.append(f"{calls} refused, which had asked {cost}.")
    return found


def _day(at_ms: int, zone: str) -> str:
    return datetime.fromtimestamp(at_ms / 1000, zone_of(zone)).date().isoformat()
