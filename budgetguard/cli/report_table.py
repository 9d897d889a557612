"""A report as a table for a terminal, or for a file of text."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from budgetguard.cli.output import Column, Record
from budgetguard.cli.report_output import table_told
from budgetguard.refusal import escaped
from budgetguard.reports.lines import lines, notes, share_shown, stretch_shown, usd_places, usd_shown

if TYPE_CHECKING:
    from rich.text import Text

    from budgetguard.reports.asking import Report

BAR_CELLS = 10


def table_text(report: Report, in_file: bool = False) -> str:
    """A heading, the table with its total apart, and notes. In a terminal as wide as it is, elsewhere plain."""
    where = [f"{name}={glob}" for name, glob in report.question.where.items()]
    about = ", ".join([report.question.stretch.namespace, stretch_shown(report.question), *where])
    heading = f"Cost by {', '.join(report.by)}: {about}"
    records = [{"line": line, "names": line.names} for line in lines(report)]
    return table_told(heading, notes(report), records, _columns(report), in_file)


def _columns(report: Report) -> list[Column]:
    places, whole_nanousd = usd_places(report), report.total.cost_nanousd
    most_nanousd = max((line.sum.cost_nanousd for line in lines(report) if line.kind != "total"), default=0)
    names = [Column(escaped(name), partial(_name, place)) for place, name in enumerate(report.by)]
    unpriced = Column("no price", lambda record: f"{record['line'].sum.unpriced_calls or ''}", right=True)
    return [
        *names,
        Column("calls", lambda record: f"{record['line'].sum.calls:,}", right=True),
        Column("errors", lambda record: f"{record['line'].sum.errors:,}", right=True, extra=True),
        Column("input tokens", lambda record: f"{record['line'].sum.prompt_tokens:,}", right=True, extra=True),
        Column("output tokens", lambda record: f"{record['line'].sum.completion_tokens:,}", right=True, extra=True),
        Column("cost", lambda record: usd_shown(record["line"].sum.cost_nanousd, places), right=True),
        Column("share", lambda record: share_shown(record["line"].sum.cost_nanousd, whole_nanousd), right=True),
        *([unpriced] if report.total.unpriced_calls else []),
        Column("", lambda record: "", extra=True, styled=lambda record: _bar(record, most_nanousd)),
    ]


def _name(place: int, record: Record) -> str:
    return escaped(record["names"][place])


def _bar(record: Record, most_nanousd: int) -> Text:
    """The cost beside the highest one, drawn to an eighth of a cell."""
    from rich.text import Text

    line = record["line"]
    if line.kind == "total" or not most_nanousd:
        return Text("")
    eighths = round(8 * BAR_CELLS * line.sum.cost_nanousd / most_nanousd)
    if "utf" not in sys.stdout.encoding.lower():
        return Text("#" * round(eighths / 8), "cyan")
    part = " ▏▎▍▌▋▊▉"[eighths % 8].strip()
    return Text("█" * (eighths // 8) + part, "cyan" if line.kind == "group" else "dim")
