"""A report as Markdown: a table as GitHub and GitLab read it. Labels stay text."""

from __future__ import annotations

import re

from budgetguard.refusal import escaped
from budgetguard.reports.asking import Report
from budgetguard.reports.lines import notes, stretch_shown
from budgetguard.reports.tables import Table, report_table

_MEANT = re.compile(r"[!#$&*<>@\[\\\]^_`{|}~]|:(?=//)|(?<=www)\.", re.IGNORECASE)
"""What Markdown, or what GitHub makes of it (mentions, links, formulas), might take for more than text."""


def markdown_text(report: Report) -> str:
    """A heading, the table with its total in bold, and notes."""
    where = [f"{text(name)} = {text(glob)}" for name, glob in report.question.where.items()]
    about = ", ".join([text(report.question.stretch.namespace), text(stretch_shown(report.question)), *where])
    heading = f"## Cost by {', '.join(map(text, report.by))}\n\n{about}\n\n"
    return f"{heading}{table_text(report_table(report))}\n" + "".join(f"\n{text(note)}\n" for note in notes(report))


def table_text(table: Table) -> str:
    """A table, its total in bold."""
    figures = len(table.titles) - table.names
    rows = [[text(cell) for cell in row] for row in table.rows]
    if table.has_total:
        rows[-1] = [f"**{cell}**" if cell else "" for cell in rows[-1]]
    return "\n".join(map(_row, [[*map(text, table.titles)], ["---"] * table.names + ["---:"] * figures, *rows]))


def text(words: str) -> str:
    """Words that are shown as they are: whatever might be markup is escaped by a backslash."""
    return _MEANT.sub(lambda found: f"\\{found[0]}", escaped(words))


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
