"""A report as Markdown: a table as GitHub and GitLab read it. Labels stay text."""

from __future__ import annotations

import re

from budgetguard.refusal import escaped
from budgetguard.reports.asking import Report
from budgetguard.reports.lines import lines, notes, share_shown, stretch_shown, usd_places, usd_shown

_MEANT = re.compile(r"[!#$&*<>@\[\\\]^_`{|}~]|:(?=//)|(?<=www)\.", re.IGNORECASE)
"""What Markdown, or what GitHub makes of it (mentions, links, formulas), might take for more than text."""
_TITLES = ("calls", "errors", "input tokens", "output tokens", "cost", "share")


def markdown_text(report: Report) -> str:
    """A heading, the table with its total in bold, and notes."""
    places, whole_nanousd = usd_places(report), report.total.cost_nanousd
    rows = [_row([*map(text, report.by), *_TITLES]), _row([*("---" for _ in report.by), *("---:" for _ in _TITLES)])]
    for line in lines(report):
        one = line.sum
        numbers = [f"{n:,}" for n in (one.calls, one.errors, one.prompt_tokens, one.completion_tokens)]
        cells = [*numbers, usd_shown(one.cost_nanousd, places), share_shown(one.cost_nanousd, whole_nanousd)]
        found = [*map(text, line.names), *map(text, cells)]
        rows.append(_row([f"**{cell}**" if cell and line.kind == "total" else cell for cell in found]))
    where = [f"{text(name)} = {text(glob)}" for name, glob in report.question.where.items()]
    about = ", ".join([text(report.question.stretch.namespace), text(stretch_shown(report.question)), *where])
    heading = f"## Cost by {', '.join(map(text, report.by))}\n\n{about}\n\n"
    return heading + "\n".join(rows) + "\n" + "".join(f"\n{text(note)}\n" for note in notes(report))


def text(words: str) -> str:
    """Words that are shown as they are: whatever might be markup is escaped by a backslash."""
    return _MEANT.sub(lambda found: f"\\{found[0]}", escaped(words))


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
