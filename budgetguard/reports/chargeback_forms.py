"""A statement as CSV, JSON and Markdown. Labels stay text in each."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from budgetguard.ledger.closing import instant_text
from budgetguard.ledger.sums import Sum
from budgetguard.reports.as_csv import cell
from budgetguard.reports.as_markdown import table_text, text
from budgetguard.reports.chargeback import Statement, TeamStatement
from budgetguard.reports.chargeback_lines import heading, notes, refused, rows, team_shown
from budgetguard.reports.lines import AMOUNTS, amount_of, usd_exact
from budgetguard.reports.tables import lines_table, teams_table

CSV_NAMES = ("line", "month", "team", "cost_center", "agent", "model", "provider", "adjusts")
CSV_FACTS = ("budget_usd", "refused_calls", "refused_usd")


def csv_text(statement: Statement) -> str:
    """A header; then `line` says what each is. Those of `usage` and `adjustment` add up to those of `team`, and these
    to `total`. Budgets (the tightest that is the team's alone) and refusals stand in the lines of teams.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*CSV_NAMES, *AMOUNTS, *CSV_FACTS])
    for row in rows(statement):
        names = [row.team, row.facts.cost_center, row.agent, row.model, row.provider, row.adjusts]
        facts: list[Any] = ["", "", ""]
        if row.kind in ("team", "total"):
            budget = row.facts.budget_nanousd
            facts = ["" if budget is None else usd_exact(budget), row.facts.refused_calls]
            facts.append(usd_exact(row.facts.refused_nanousd))
        writer.writerow(
            [row.kind, statement.month, *(cell(name or "") for name in names), *_amounts(row.sum).values(), *facts]
        )
    return out.getvalue()


def json_text(statement: Statement) -> str:
    """One object: the month, its `teams` (`team` is null for calls without one) with their `lines`, and the `total`.

    A line whose `adjusts` is a month is an adjustment of it. What is frozen has `closed_at`.
    """
    since_ms, until_ms = statement.months[statement.month]
    asked, closed_ms = refused(statement), statement.closed_ms
    whole = {
        "namespace": statement.namespace,
        "month": statement.month,
        "timezone": statement.zone,
        "since": instant_text(since_ms, statement.zone),
        "until": instant_text(until_ms, statement.zone),
        "closed_at": None if closed_ms is None else instant_text(closed_ms, statement.zone),
        "teams": [_team(one, statement.month) for one in statement.teams],
        "total": {
            **_amounts(statement.total),
            "refused_calls": asked.refused_calls,
            "refused_cost_nanousd": asked.refused_nanousd,
        },
    }
    return json.dumps(whole, indent=2) + "\n"


def markdown_text(statement: Statement) -> str:
    """A heading, a table of the teams, then of each team that has lines a table of them, and notes."""
    parts = [f"## {text(heading(statement))}", "", table_text(teams_table(statement))]
    for one in statement.teams:
        if one.lines:
            parts += ["", f"### {text(team_shown(one.team))}", "", table_text(lines_table(one, statement))]
    return "\n".join(parts) + "\n" + "".join(f"\n{text(note)}\n" for note in notes(statement))


def _team(one: TeamStatement, month: str) -> dict[str, Any]:
    lines = []
    for of_month, line in one.lines:
        _, agent, model, provider = line.group
        adjusts = None if of_month == month else of_month
        names = {"agent": agent or None, "model": model or None, "provider": provider or None, "adjusts": adjusts}
        lines.append({**names, **_amounts(line)})
    budgets = [
        {"budget": b.name, "limit_nanousd": b.limit_nanousd, "where": dict(b.where), "per": list(b.per)}
        for b in one.facts.budgets
    ]
    return {
        "team": one.team or None, "cost_center": one.facts.cost_center, **_amounts(one.total),
        "budget_nanousd": one.facts.budget_nanousd, "budgets": budgets, "refused_calls": one.facts.refused_calls,
        "refused_cost_nanousd": one.facts.refused_nanousd, "lines": lines,
    }  # fmt: skip


def _amounts(one: Sum) -> dict[str, int | str]:
    return {amount: amount_of(one, amount) for amount in AMOUNTS}
