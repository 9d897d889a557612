"""A report as CSV. No cell is taken for a formula by a spreadsheet."""

from __future__ import annotations

import csv
import io

from budgetguard.ledger.exporting import text_cell
from budgetguard.refusal import escaped
from budgetguard.reports.asking import Report
from budgetguard.reports.lines import AMOUNTS, amount_of, lines


def csv_text(report: Report) -> str:
    """A header, then `line` (group, others or total), the names and the amounts of each line.

    The column of a label that is called as another column is `label:...`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    titles = [f"label:{name}" if name in ("line", *AMOUNTS) else name for name in report.by]
    writer.writerow(["line", *map(cell, titles), *AMOUNTS])
    for line in lines(report):
        writer.writerow([line.kind, *map(cell, line.names), *(amount_of(line.sum, amount) for amount in AMOUNTS)])
    return text.getvalue()


def cell(words: str) -> str:
    """Text that no spreadsheet takes for a formula, and no terminal obeys."""
    return text_cell(escaped(words))
