"""What alerts read of the ledger: sums of stretches, by the labels that its rollups keep. Blocking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from budgetguard.alerts.spending import LABELS, SUMMED_BY, Spent
from budgetguard.core.amounts import Amounts

Stretches = Iterable[tuple[int, int]]
"""From when on, and before when."""


def read_sums(url: str, namespace: str, stretches: Stretches) -> Mapping[tuple[int, int], Sequence[Spent]]:
    """The sums of each stretch, of the ledger as it stands at one instant.

    Raises:
        StoreAway, StoreUnusable: it cannot be read.
    """
    from budgetguard.ledger.books import open_book
    from budgetguard.ledger.reading import Stretch

    book = open_book(url)
    try:
        found = {}
        with book.standing():
            for since_ms, until_ms in stretches:
                totals = book.totals(Stretch(namespace, since_ms, until_ms), SUMMED_BY)
                found[since_ms, until_ms] = [
                    Spent(
                        dict(zip(LABELS, total.group, strict=True)), total.calls,
                        _amounts(total.prompt_tokens, total.completion_tokens, total.cost_nanousd, total.calls),
                    )
                    for total in totals
                ]  # fmt: skip
        return found
    finally:
        book.close()


def read_forgotten_ms(url: str, namespace: str) -> int | None:
    """The last admission among the rows that were deleted; None if none ever was. It counts all rows.

    Raises:
        StoreAway, StoreUnusable: it cannot be read.
    """
    from budgetguard.ledger.books import open_book

    book = open_book(url)
    try:
        return book.extent(namespace).forgotten_ms
    finally:
        book.close()


def _amounts(input_tokens: int, output_tokens: int, cost_nanousd: int, calls: int) -> Amounts:
    return Amounts(input_tokens + output_tokens, input_tokens, output_tokens, cost_nanousd, calls)
