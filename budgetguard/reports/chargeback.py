"""What each team is charged for a month: its cost by agent and model, its budgets beside it, and what was refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple

from budgetguard.budget import Budget
from budgetguard.ledger.closing import Billing, Line
from budgetguard.ledger.reading import Book, Stretch
from budgetguard.ledger.sums import Sum
from budgetguard.policy import Policy
from budgetguard.reports.asking import together

_GLOB = frozenset("*?[")


class MonthBudget(NamedTuple):
    """A limit in dollars of each month that calls of a team count against.

    `whole`: all calls of the team count, and no other's. Else it is of some of its calls (`where`), of each value of
    other labels (`per`), or shared with other teams.
    """

    name: str
    limit_nanousd: int
    where: Mapping[str, str]
    per: Sequence[str]
    whole: bool


@dataclass(frozen=True)
class Facts:
    """What a statement says of a team besides what its calls cost. What was refused is what budgets enforced."""

    cost_center: str | None = None
    budgets: Sequence[MonthBudget] = ()
    refused_calls: int = 0
    refused_nanousd: int = 0

    @property
    def budget_nanousd(self) -> int | None:
        """The tightest of the budgets that are the team's alone."""
        return min((budget.limit_nanousd for budget in self.budgets if budget.whole), default=None)


NOTHING = Facts()


@dataclass(frozen=True)
class TeamStatement:
    """One team's; `team` is "" for calls without one. `total` is of all lines, `own` without the adjustments."""

    team: str
    facts: Facts
    lines: Sequence[Line]
    own: Sum
    total: Sum


@dataclass(frozen=True)
class Statement:
    """A month's, of all teams: the most expensive first, what has no team last. `closed_ms` is None while it is open.

    `months` has the bounds of the months that are adjusted, and of this one.
    """

    namespace: str
    month: str
    zone: str
    closed_ms: int | None
    teams: Sequence[TeamStatement]
    total: Sum
    months: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def adjusted(self) -> list[str]:
        """The earlier months that it has adjustments of."""
        return sorted({line.of_month for team in self.teams for line in team.lines} - {self.month})


def statement(book: Book, namespace: str, month: str, zone: str, policy: Policy | None) -> tuple[Statement, Billing]:
    """The statement of a month as the ledger stands: what was frozen if it is closed, else what is known now.

    Raises:
        ConfigError: it is no month.
        StoreAway, StoreUnusable: the ledger cannot be read.
    """
    with book.standing():
        billing = book.billing(namespace, month, zone)
        return stated(namespace, billing, facts_of(book, namespace, billing, policy)), billing


def facts_of(book: Book, namespace: str, billing: Billing, policy: Policy | None) -> dict[str, Facts]:
    """What a month's statement says besides amounts: of a closed one as it was told then."""
    if billing.closing is not None:
        return _read(billing.closing.facts)
    stretch = Stretch(namespace, billing.since_ms, billing.until_ms)
    refused = {one.group[0]: one for one in book.refusals(stretch, ("team",), shadow=False)}
    owners = {owner.team: owner.cost_center for owner in policy.owners} if policy is not None else {}
    found = {}
    for team in sorted({"", *owners, *refused, *(line.sum.group[0] for line in billing.lines)}):
        one = refused.get(team)
        calls, nanousd = (0, 0) if one is None else (one.calls, one.asked.get("usd", 0))
        found[team] = Facts(owners.get(team), month_budgets(policy, team) if policy else (), calls, nanousd)
    return found


def facts_text(found: Mapping[str, Facts]) -> str:
    """Facts as they are kept with a closed month."""
    return json.dumps({
        team: {
            "cost_center": facts.cost_center,
            "budgets": [[b.name, b.limit_nanousd, dict(b.where), list(b.per), b.whole] for b in facts.budgets],
            "refused": [facts.refused_calls, facts.refused_nanousd],
        }
        for team, facts in found.items()
    })  # fmt: skip


def stated(namespace: str, billing: Billing, found: Mapping[str, Facts]) -> Statement:
    """The statement of what a month bills, with what is to be said of the teams."""
    by_team: dict[str, list[Line]] = {team: [] for team in ("", *found)}
    for line in billing.lines:
        by_team.setdefault(line.sum.group[0], []).append(line)
    teams = [_team(team, found.get(team, NOTHING), lines, billing.month) for team, lines in by_team.items()]
    teams.sort(key=lambda one: (not one.team, -one.total.cost_nanousd, one.team))
    months = {closing.month: (closing.since_ms, closing.until_ms) for closing in billing.standing.values()}
    months[billing.month] = (billing.since_ms, billing.until_ms)
    closed_ms = None if billing.closing is None else billing.closing.closed_ms
    total = together(line.sum for line in billing.lines)
    return Statement(namespace, billing.month, billing.zone, closed_ms, teams, total, months)


def month_budgets(policy: Policy, team: str) -> list[MonthBudget]:
    """The limits in dollars a calendar month of budgets that speak of teams, and may count calls of this one."""
    found = []
    for budget in policy.budgets:
        if not _counts(budget, team):
            continue
        others = {name: glob for name, glob in budget.where.items() if name != "team"}
        alone = "team" in budget.per or not _GLOB.intersection(budget.where.get("team", "*"))
        whole = alone and not others and set(budget.per) <= {"team"}
        found += [
            MonthBudget(budget.name, limit.amount, dict(budget.where), tuple(budget.per), whole)
            for limit in budget.parsed_limits(policy.timezone)
            if limit.unit == "usd" and (limit.period.kind, limit.period.name) == ("calendar", "month")
        ]
    return found


def _counts(budget: Budget, team: str) -> bool:
    glob = budget.where.get("team")
    if glob is None:
        return "team" in budget.per
    return bool(team) and fnmatchcase(team, glob)


def _team(team: str, facts: Facts, lines: Sequence[Line], month: str) -> TeamStatement:
    ordered = sorted(lines, key=lambda one: (one.of_month != month, one.of_month, -one.sum.cost_nanousd, one.sum.group))
    own = together(line.sum for line in lines if line.of_month == month)
    return TeamStatement(team, facts, tuple(ordered), own, together(line.sum for line in lines))


def _read(text: str) -> dict[str, Facts]:
    return {
        team: Facts(said["cost_center"], [MonthBudget(*budget) for budget in said["budgets"]], *said["refused"])
        for team, said in json.loads(text).items()
    }
