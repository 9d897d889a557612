"""What a store keeps of calls' outputs, as all stores read and check it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard

from budgetguard.core.amounts import MAX_AMOUNT, check_amount, shown
from budgetguard.errors import InvalidAmount
from budgetguard.store import OUTPUT_PLACES, OutputCount

Sums = dict[str, dict[int, int]]
"""By set, then by place."""


def summed(slice_ms: int, rows: Sequence[OutputCount]) -> Sums:
    """The rows, of each set and place one.

    Raises:
        InvalidAmount: a number is none, or its place is none, or a slice has no length.
    """
    if not check_amount(slice_ms, "slice_ms"):
        raise InvalidAmount("slice_ms must be 1 or more")
    sums: Sums = {}
    for words, place, calls in rows:
        if check_amount(place, "place") >= OUTPUT_PLACES:
            raise InvalidAmount(f"place must be below {OUTPUT_PLACES}, not {shown(place)}")
        of_set = sums.setdefault(words, {})
        of_set[place] = min(of_set.get(place, 0) + check_amount(calls, "calls"), MAX_AMOUNT)
    return sums


def is_slice(number: object) -> TypeGuard[int]:
    """Whether it can be when calls were."""
    return type(number) is int and 0 <= number <= MAX_AMOUNT


def checked(flat: Sequence[Any]) -> Iterable[tuple[int, int]]:
    """Pairs of a place and a number, of a list that has one after the other.

    Raises:
        ValueError: it is no such list.
    """
    for number in flat:
        if type(number) is not int or not 0 <= number <= MAX_AMOUNT:
            raise ValueError(f"number {number!r}")
    if any(place >= OUTPUT_PLACES for place in flat[::2]):
        raise ValueError("place")
    return zip(flat[::2], flat[1::2], strict=True)
