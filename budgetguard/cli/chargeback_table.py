"""A statement as a table for a terminal, or for a file of text."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial

from budgetguard.cli.output import Column, Record, plain_table, table, terminal
from budgetguard.refusal import escaped
from budgetguard.reports.chargeback import Statement
from budgetguard.reports.chargeback_lines import (
    NONE,
    Row,
    assumed,
    budget_shown,
    heading,
    notes,
    places_of,
    rows,
    signed,
    team_shown,
)


def table_text(statement: Statement, in_file: bool = False) -> str:
    """A heading, the table with its total apart, and notes. In a terminal as wide as it is, elsewhere plain."""
    records = [{"row": row} for row in rows(statement)]
    columns = _columns(statement)
    if in_file or not (sys.stdout.isatty() or os.environ.get("COLUMNS", "").lstrip("0").isdigit()):
        body = plain_table(records, columns)
    else:
        console = terminal()
        with console.capture() as capture:
            console.print(table(console.width, records, columns, last_apart=True))
        body = capture.get().rstrip("\n")
    said = notes(statement)
    return "\n".join([escaped(heading(statement)), "", body, *(["", *map(escaped, said)] if said else []), ""])


def _columns(statement: Statement) -> list[Column]:
    """What nobody has is left out."""
    places, found = places_of(statement), list(rows(statement))
    budgets = {team_shown(one.team): budget_shown(one) for one in statement.teams}

    def dollars(amount: Callable[[Row], int], record: Record) -> str:
        return signed(amount(record["row"]), places) if amount(record["row"]) else ""

    columns = [
        Column("Team", lambda record: _team(record["row"])),
        Column("Agent", lambda record: _label(record["row"].agent)),
        Column("Model", lambda record: _label(record["row"].model)),
        Column("Provider", lambda record: _label(record["row"].provider), extra=True),
        Column("Calls", lambda record: f"{record['row'].sum.calls:,}", right=True, extra=True),
        Column("Tokens", lambda record: f"{record['row'].sum.total_tokens:,}", right=True, extra=True),
        Column("Cost", lambda record: signed(record["row"].sum.cost_nanousd, places), right=True),
    ]
    if any(budgets.values()):
        columns.append(Column("Budget", lambda record: _of_team(record["row"], budgets.get), right=True))
    if statement.adjusted:
        columns.append(Column("Adjusts", lambda record: record["row"].adjusts or "", right=True))
    if any(assumed(row.sum) for row in found):
        columns.append(Column("Assumed", partial(dollars, lambda row: assumed(row.sum)), right=True, extra=True))
    if any(row.sum.late_cost_nanousd for row in found):
        columns.append(Column("Late", partial(dollars, lambda row: row.sum.late_cost_nanousd), right=True, extra=True))
    if any(row.facts.refused_calls for row in found):
        columns.append(Column("Refused", lambda record: _refused(record["row"]), right=True))
    return columns


def _team(row: Row) -> str:
    if row.kind in ("usage", "adjustment"):
        return ""
    return escaped(row.team if row.facts.cost_center is None else f"{row.team} [{row.facts.cost_center}]")


def _label(value: str | None) -> str:
    return "" if value is None else escaped(value or NONE)


def _of_team(row: Row, told: Callable[[str], str | None]) -> str:
    return (told(row.team) or "") if row.kind == "team" else ""


def _refused(row: Row) -> str:
    if row.kind not in ("team", "total") or not row.facts.refused_calls:
        return ""
    return f"{row.facts.refused_calls:,}"
