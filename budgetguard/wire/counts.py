"""What a body says that a call took, before anybody has checked that it makes sense: counts, and how they are read.

Readers take dicts and the objects of SDKs alike. None and an absent field are the same; any other value that is no
whole number in [0, 2**53 - 1] is an error that names the field, because half a usage would be a wrong one.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from budgetguard.core.amounts import check_amount


class Counts(NamedTuple):
    """The fields of a `Usage`, in its order: the parts lie in their whole, `input` and `output` are the wholes."""

    input: int
    output: int
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0
    cost_usd: Decimal | None = None


def consistent(
    entire: int,
    output: int,
    read: int = 0,
    write: int = 0,
    hour: int = 0,
    reasoning: int = 0,
    cost: Decimal | None = None,
) -> Counts:
    """The counts with every part inside its whole: the wholes stand, for they are billed."""
    read = min(read, entire)
    write = min(write, entire - read)
    return Counts(entire, output, read, write, min(hour, write), min(reasoning, output), cost)


def plus(one: Counts, other: Counts) -> Counts:
    """Every count of both, without a cost."""
    return Counts(
        one.input + other.input,
        one.output + other.output,
        one.cache_read + other.cache_read,
        one.cache_write + other.cache_write,
        one.cache_write_1h + other.cache_write_1h,
        one.reasoning + other.reasoning,
    )


def get(source: Any, *names: str) -> Any:
    """The first of these fields of a dict or an object that is there and not None."""
    if source is None:
        return None
    keyed = isinstance(source, (dict, Mapping))  # dict first: it is far quicker, and asked of every event
    for name in names:
        value = source.get(name) if keyed else getattr(source, name, None)
        if value is not None:
            return value
    return None


def count(source: Any, name: str, path: str = "") -> int:
    """A count of tokens in a usage; 0 where it is absent.

    Raises:
        InvalidAmount: names the field, with the path to it.
    """
    value = get(source, name)
    return 0 if value is None else check_amount(value, f"usage.{path}{name}")


def whole(source: Any, *names: str) -> int:
    """A count under the first of its names that is there, of makers who write whole numbers as 6.0 too.

    Raises:
        InvalidAmount: names the field by its first name.
    """
    value = get(source, *names)
    if type(value) is float and value.is_integer():
        value = int(value)
    return 0 if value is None else check_amount(value, f"usage.{names[0]}")
