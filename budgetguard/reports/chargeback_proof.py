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
    rows, cost_nanousd, differences, forgotten = 0, 0, list[str](), Sum(())
    for month in sorted({billing.month, *(line.of_month for line in billing.lines)}):
        closing = billing.standing.get(month)
        since_ms, until_ms = (billing.since_ms, billing.until_ms) if closing is None else closing[2:4]
        pruned = {} if closing is None else _pruned(book, namespace, closing)
        groups = [one for one in _less(billed[month], pruned).values() if any(amounts_of(one))]
        question = Question(Stretch(namespace, since_ms, until_ms), GROUP)
        proved = verify(book, Report(question, groups, together(groups)))
        rows, cost_nanousd = rows + proved.rows, cost_nanousd + proved.cost_nanousd
        differences += [f"{month}, {text}" for text in proved.differences]
        forgotten.add(together(pruned.values()))
    return Verified(rows, cost_nanousd, differences, forgotten.calls, forgotten.cost_nanousd)


def _billed(book: Book, namespace: str, billing: Billing) -> Mapping[str, Sums]:
    """What all statements bill together, by the month that it is of and by group."""
    found: dict[str, Sums] = defaultdict(dict)
    adjusting = {adjusted_in(month, billing.standing) for month in billing.standing}
    for month in {billing.month, *billing.standing, *adjusting}:
        told = billing if month == billing.month else book.billing(namespace, month, billing.zone)
        for of_month, one in told.lines:
            found[of_month].setdefault(one.group, Sum(one.group)).add(one)
    return found


def _pruned(book: Book, namespace: str, closing: Closing) -> Sums:
    """What is kept of rows of a closed month that are no longer there."""
    there = {one.group: one for one in book.sums(Stretch(namespace, closing.since_ms, closing.until_ms), GROUP)}
    return _less({one.group: one for one in book.billed_rows(namespace, closing)}, there)


def _less(some: Sums, others: Sums) -> Sums:
    """The sums of each group without the others'."""
    left = dict(some)
    for group, one in others.items():
        left[group] = Sum(group, *map(sub, amounts_of(left.get(group, Sum(group))), amounts_of(one)))
    return left
