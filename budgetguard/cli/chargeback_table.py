"""A statement as a table for a terminal, or for a file of text."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from budgetguard.cli.output import Column, Record
from budgetguard.cli.report_output import table_told
from budgetguard.refusal import escaped
from budgetguard.reports.chargeback import Statement
from budgetguard.reports.chargeback_lines import Row, budget_shown, heading, notes, rows, team_shown
from budgetguard.reports.names import name_shown
from budgetguard.reports.tables import Figure, figures


def table_text(statement: Statement, in_file: bool = False) -> str:
    """A heading, the table with its total apart, and notes. In a terminal as wide as it is, elsewhere plain."""
    records = [{"row": row} for row in rows(statement)]
    columns = [column for column in _columns(statement) if any(map(column.cell, records))]
    return table_told(heading(statement), notes(statement), records, columns, in_file)


def _columns(statement: Statement) -> list[Column]:
    budgets = {team_shown(one.team): budget_shown(one) for one in statement.teams}
    cost, *others = (
        Column(one.title, partial(_figure, one), right=True, extra=one.title != "Cost") for one in figures(statement)
    )
    return [
        Column("Team", lambda record: _team(record["row"])),
        Column("Agent", lambda record: _label(record["row"].agent)),
        Column("Model", lambda record: _label(record["row"].model)),
        Column("Provider", lambda record: _label(record["row"].provider), extra=True),
        cost,
        Column("Budget", lambda record: _of_team(record["row"], budgets.get), right=True),
        Column("Adjusts", lambda record: record["row"].adjusts or "", right=True),
        *others,
        Column("Refused", lambda record: _refused(record["row"]), right=True),
    ]


def _figure(figure: Figure, record: Record) -> str:
    return figure.shown(record["row"].sum)


def _team(row: Row) -> str:
    if row.kind in ("usage", "adjustment"):
        return ""
    return escaped(row.team if row.facts.cost_center is None else f"{row.team} [{row.facts.cost_center}]")


def _label(value: str | None) -> str:
    return "" if value is None else escaped(name_shown(value))


def _of_team(row: Row, told: Callable[[str], str | None]) -> str:
    return (told(row.team) or "") if row.kind == "team" else ""


def _refused(row: Row) -> str:
    if row.kind not in ("team", "total") or not row.facts.refused_calls:
        return ""
    return f"{row.facts.refused_calls:,}"
