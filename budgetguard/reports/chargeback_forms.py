"""A statement as CSV, JSON and Markdown. Labels stay text in each."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from budgetguard.ledger.closing import instant_text
from budgetguard.ledger.exporting import text_cell
from budgetguard.ledger.sums import Sum
from budgetguard.refusal import escaped
from budgetguard.reports.as_markdown import text
from budgetguard.reports.chargeback import Facts, Statement, TeamStatement
from budgetguard.reports.chargeback_lines import (
    NONE,
    TOTAL,
    assumed,
    budget_shown,
    heading,
    notes,
    places_of,
    refused,
    rows,
    signed,
    team_shown,
)
from budgetguard.reports.lines import AMOUNTS, usd_exact

CSV_NAMES = ("line", "month", "team", "cost_center", "agent", "model", "provider", "adjusts")
CSV_FACTS = ("budget_usd", "refused_calls", "refused_usd")
_TITLES = ("Agent", "Model", "Calls", "Tokens", "Cost", "Assumed", "Late")


def csv_text(statement: Statement) -> str:
    """A header; then `line` says what each is. Those of `usage` and `adjustment` add up to those of `team`, and these
    to `total`. Budgets (the tightest that is the team's alone) and refusals stand in the lines of teams.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*CSV_NAMES, *AMOUNTS, *CSV_FACTS])
    budgets = {team_shown(one.team): one.budget_nanousd for one in statement.teams}
    for row in rows(statement):
        names = [row.team, row.facts.cost_center, row.agent, row.model, row.provider, row.adjusts]
        facts: list[Any] = ["", "", ""]
        if row.kind in ("team", "total"):
            budget = budgets.get(row.team) if row.kind == "team" else None
            facts = ["" if budget is None else usd_exact(budget), row.facts.refused_calls]
            facts.append(usd_exact(row.facts.refused_nanousd))
        cells = [text_cell(escaped(name or "")) for name in names]
        writer.writerow([row.kind, statement.month, *cells, *_amounts(row.sum).values(), *facts])
    return out.getvalue()


def json_text(statement: Statement) -> str:
    """One object: the month, its `teams` (`team` is null for calls without one) with their `lines`, and the `total`.

    A line whose `adjusts` is a month is an adjustment of it. What is frozen has `closed_at`.
    """
    since_ms, until_ms = statement.months[statement.month]
    calls, nanousd = refused(statement)
    closed_ms = statement.closed_ms
    whole = {
        "namespace": statement.namespace,
        "month": statement.month,
        "timezone": statement.zone,
        "since": instant_text(since_ms, statement.zone),
        "until": instant_text(until_ms, statement.zone),
        "closed_at": None if closed_ms is None else instant_text(closed_ms, statement.zone),
        "teams": [_team(one, statement.month) for one in statement.teams],
        "total": {**_amounts(statement.total), "refused_calls": calls, "refused_cost_nanousd": nanousd},
    }
    return json.dumps(whole, indent=2) + "\n"


def markdown_text(statement: Statement) -> str:
    """A heading, a table of the teams, then of each team that has lines a table of them, and notes."""
    places = places_of(statement)
    head = ["Team", "Cost center", "Calls", "Cost", "Assumed", "Late", "Budget", "Refused"]
    parts = [f"## {text(heading(statement))}", ""]
    parts += [_row(head), _row(["---", "---", *["---:"] * 6])]
    for one in statement.teams:
        name, center = text(team_shown(one.team)), text(one.facts.cost_center or "")
        figures = [f"{one.total.calls:,}", *_money(one.total, places)]
        parts.append(_row([name, center, *map(text, [*figures, budget_shown(one), _refused(one.facts, places)])]))
    everything = [f"{statement.total.calls:,}", *_money(statement.total, places)]
    parts.append(_row([f"**{text(TOTAL)}**", "", *(f"**{text(figure)}**" for figure in everything), "", ""]))
    for one in statement.teams:
        if one.lines:
            parts += ["", f"### {text(team_shown(one.team))}", "", *_lines(one, statement, places)]
    return "\n".join(parts) + "\n" + "".join(f"\n{text(note)}\n" for note in notes(statement))


def _lines(one: TeamStatement, statement: Statement, places: int) -> list[str]:
    adjusts = bool({line.of_month for line in one.lines} - {statement.month})
    found = [_row([*_TITLES, *(["Adjusts"] if adjusts else [])])]
    found.append(_row(["---", "---", *["---:"] * 5, *(["---"] if adjusts else [])]))
    for of_month, line in one.lines:
        _, agent, model, _ = line.group
        cells = [agent or NONE, model or NONE, f"{line.calls:,}", f"{line.total_tokens:,}", *_money(line, places)]
        if adjusts:
            cells.append("" if of_month == statement.month else of_month)
        found.append(_row([text(cell) for cell in cells]))
    return found


def _money(one: Sum, places: int) -> list[str]:
    late = one.late_cost_nanousd
    return [
        signed(one.cost_nanousd, places), *(signed(part, places) if part else "" for part in (assumed(one), late))
    ]  # fmt: skip


def _refused(facts: Facts, places: int) -> str:
    return f"{facts.refused_calls:,} ({signed(facts.refused_nanousd, places)})" if facts.refused_calls else ""


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
        "budget_nanousd": one.budget_nanousd, "budgets": budgets, "refused_calls": one.facts.refused_calls,
        "refused_cost_nanousd": one.facts.refused_nanousd, "lines": lines,
    }  # fmt: skip


def _amounts(one: Sum) -> dict[str, int | str]:
    found: dict[str, int | str] = {}
    for amount in AMOUNTS:
        found[amount] = usd_exact(one.cost_nanousd) if amount == "cost_usd" else int(getattr(one, amount))
    return found


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
