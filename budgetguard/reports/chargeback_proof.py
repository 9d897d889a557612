"""The proof of a statement: the single rows, added up again, against all that was ever billed of their month."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from operator import sub

from budgetguard.ledger.closing import Billing, Closing, adjusted_in, amounts_of
from budgetguard.ledger.closing_schema import GROUP
from budgetguard.ledger.reading import Book, Stretch
from budgetguard.ledger.sums import Sum
from budgetguard.reports.asking import Question, Report, together
from budgetguard.reports.verifying import Verified, verify

Sums = dict[tuple[str, ...], Sum]


def prove(book: Book, namespace: str, billing: Billing) -> Verified:
    """Compare a statement with the rows. To be asked of the ledger as it stood for the statement (`standing`).

    Of an open month its rows are what it bills itself. Of a closed one they are what it bills and what later months
    bill of it as adjustments; so are those of the months that this statement adjusts.

    Raises: as `Book.rows`.
    """
    billed = _billed(book, namespace, billing)
    rows, cost_nanousd, differences = 0, 0, []
    for month in sorted({billing.month, *(line.of_month for line in billing.lines)}):
        closing = billing.standing.get(month)
        since_ms, until_ms = (billing.since_ms, billing.until_ms) if closing is None else closing[2:4]
        found = _without_pruned(book, namespace, closing, billed[month])
        groups = [one for one in found.values() if any(amounts_of(one))]
        question = Question(Stretch(namespace, since_ms, until_ms), GROUP)
        proved = verify(book, Report(question, groups, together(groups)))
        rows, cost_nanousd = rows + proved.rows, cost_nanousd + proved.cost_nanousd
        differences += [f"{month}, {text}" for text in proved.differences]
    return Verified(rows, cost_nanousd, differences)


def _billed(book: Book, namespace: str, billing: Billing) -> Mapping[str, Sums]:
    """What all statements bill together, by the month that it is of and by group."""
    found: dict[str, Sums] = defaultdict(dict)
    adjusting = {adjusted_in(month, billing.standing) for month in billing.standing}
    for month in {billing.month, *billing.standing, *adjusting}:
        told = billing if month == billing.month else book.billing(namespace, month, billing.zone)
        for of_month, one in told.lines:
            found[of_month].setdefault(one.group, Sum(one.group)).add(one)
    return found


def _without_pruned(book: Book, namespace: str, closing: Closing | None, billed: Sums) -> Sums:
    """What was billed of rows that are still there."""
    if closing is None:
        return billed
    there = {one.group: one for one in book.sums(Stretch(namespace, closing.since_ms, closing.until_ms), GROUP)}
    left = dict(billed)
    for one in book.billed_rows(namespace, closing):
        pruned = map(sub, amounts_of(one), amounts_of(there.get(one.group, Sum(one.group))))
        standing = left.get(one.group, Sum(one.group))
        left[one.group] = Sum(one.group, *map(sub, amounts_of(standing), pruned))
    return left
