"""Amounts: integers with a unit. Dollars are nano-dollars; nothing is above 2**53 - 1.

The bound is what a double holds exactly, because Redis' Lua computes in doubles.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from fractions import Fraction
from math import ceil
from typing import Any, Literal, NamedTuple

from budgetguard.errors import InvalidAmount

MAX_AMOUNT = 2**53 - 1
NANOUSD_PER_USD = 10**9

Unit = Literal["tokens", "input_tokens", "output_tokens", "usd", "requests", "concurrent"]
UNITS: tuple[Unit, ...] = ("tokens", "input_tokens", "output_tokens", "usd", "requests", "concurrent")


class Amounts(NamedTuple):
    """What one call asks or used, in every unit; `usd` is in nano-dollars. The field names are the units."""

    tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: int = 0
    requests: int = 0
    concurrent: int = 0


def check_amount(value: Any, field: str) -> int:
    """Return `value` if it is an int in [0, 2**53 - 1]; bools, floats and texts are not.

    Raises:
        InvalidAmount: names `field`.
    """
    if type(value) is not int:
        raise InvalidAmount(f"{field} must be a whole number, not {shown(value)}")
    if not 0 <= value <= MAX_AMOUNT:
        raise InvalidAmount(f"{field} must be from 0 to 2**53 - 1, not {shown(value)}")
    return value


def parse_decimal(value: Any, field: str) -> Decimal:
    """An exact, finite decimal that is not negative, from a Decimal, an int or its plain text.

    Raises:
        InvalidAmount: names `field`; floats are refused because they are not exact.
    """
    if isinstance(value, bool) or not isinstance(value, (Decimal, int, str)):
        raise InvalidAmount(f'{field} must be a Decimal or its text, such as "0.15", not {shown(value)}')
    # Decimal itself would take digits of every script, underscores anywhere and white space around.
    if isinstance(value, str) and (len(value) > 40 or not value.isascii() or "_" in value or value != value.strip()):
        raise InvalidAmount(f'{field} must be a plain decimal, such as "0.15", not {shown(value)}')
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise InvalidAmount(f'{field} must be a plain decimal, such as "0.15", not {shown(value)}') from None
    if not number.is_finite() or number < 0:
        raise InvalidAmount(f"{field} must be finite and not negative, not {shown(value)}")
    if number.adjusted() > 20 or number.as_tuple().exponent < -30:  # type: ignore[operator]  # finite: an int
        raise InvalidAmount(f"{field} is out of range: {shown(value)}")
    return number


def nanousd(value: Any, field: str) -> int:
    """Dollars (a Decimal, an int or its text) as nano-dollars, rounded up.

    Raises:
        InvalidAmount: names `field`; more than 2**53 - 1 nano-dollars is about $9,007,199.
    """
    exact = Fraction(parse_decimal(value, field)) * NANOUSD_PER_USD
    return check_amount(ceil(exact), f"{field} (in nano-dollars)")


def format_usd(amount_nanousd: int) -> str:
    """Dollars for people: two digits, more only where they say something (`$5.00`, `$4.9931`, `-$0.10`)."""
    sign = "-" if amount_nanousd < 0 else ""
    whole, part = divmod(abs(amount_nanousd), NANOUSD_PER_USD)
    digits = f"{part:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}${whole:,}.{digits}"


def format_amount(unit: Unit, amount: int) -> str:
    """An amount with its unit, for people: `$4.9931`, `1,600 tokens`, `3 concurrent`."""
    return format_usd(amount) if unit == "usd" else f"{amount:,} {unit.replace('_', ' ')}"


def shown(value: Any) -> str:
    """A value of any type for an error's text: at most 60 ASCII characters."""
    try:
        text = ascii(value)
    except (ValueError, RecursionError):  # a number too long for Python to print, or endless nesting
        text = f"a {type(value).__name__} that is too large to show"
    return text if len(text) <= 60 else text[:57] + "..."
