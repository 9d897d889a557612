"""A report as CSV. No cell is taken for a formula by a spreadsheet."""

from __future__ import annotations

import csv
import io

from budgetguard.ledger.exporting import text_cell
from budgetguard.refusal import escaped
from budgetguard.reports.asking import Report
from budgetguard.reports.lines import AMOUNTS, lines


def csv_text(report: Report) -> str:
    """A header, then `line` (group, others or total), the names and the amounts of each line.

    The column of a label that is called as another column is `label:...`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    titles = [f"label:{name}" if name in ("line", *AMOUNTS) else name for name in report.by]
    writer.writerow(["line", *map(_cell, titles), *AMOUNTS])
    for line in lines(report):
        writer.writerow([line.kind, *map(_cell, line.names), *(line.value(amount) for amount in AMOUNTS)])
    return text.getvalue()


def _cell(words: str) -> str:
    return text_cell(escaped(words))
