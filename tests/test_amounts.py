"""Amounts are whole numbers from 0 to 2**53 - 1; whatever else comes is refused by an error that names the field."""

from __future__ import annotations

import decimal
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgetguard.core.amounts import (
    MAX_AMOUNT,
    NANOUSD_PER_USD,
    check_amount,
    format_amount,
    format_usd,
    nanousd,
    parse_decimal,
    shown,
)
from budgetguard.errors import InvalidAmount


class Five(IntEnum):
    FIVE = 5


class Unprintable:
    def __repr__(self) -> str:
        raise ValueError("no")


ENDLESS: list[Any] = []
for _ in range(100_000):
    ENDLESS = [ENDLESS]

NO_NUMBERS = [
    True,
    False,
    None,
    5.0,
    float("nan"),
    float("inf"),
    float("-inf"),
    b"5",
    [5],
    {},
    5j,
    Unprintable(),
    ENDLESS,
]


@pytest.mark.parametrize("value", [0, 1, 2**53 - 1])
def test_whole_numbers_up_to_the_bound_are_amounts(value: int) -> None:
    assert check_amount(value, "input_tokens") == value


@pytest.mark.parametrize(
    "value",
    [-1, -(2**63), 2**53, 2**64, 10**5000, -(10**5000), "5", Decimal(5), Fraction(5), Five.FIVE, *NO_NUMBERS],
    ids=shown,
)
def test_what_is_no_amount_is_refused_by_an_error_that_names_the_field(value: Any) -> None:
    with pytest.raises(InvalidAmount, match=r"^input_tokens must be") as refused:
        check_amount(value, "input_tokens")
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("0.15", Decimal("0.15")),
        ("5", Decimal(5)),
        (".5", Decimal("0.5")),
        ("1E-7", Decimal("0.0000001")),  # so Python writes it
        (5, Decimal(5)),
        (Decimal("2.50"), Decimal("2.5")),
        ("-0", Decimal(0)),
        ("9" * 21, Decimal("9" * 21)),
    ],
)
def test_exact_decimals_are_read(value: Any, number: Decimal) -> None:
    assert parse_decimal(value, "cost_usd") == number


@pytest.mark.parametrize(
    "value",
    ["-0.01", "-1e-30", "NaN", "sNaN", "-NaN123", "Infinity", "-inf", "1e21", "1e999999999", "1e-31", "1e-999999999",
     "1e99999999999999999999", "9" * 22, "9" * 41, "9" * 5_000_000, "", " ", "1 2", "1,5", "0x10", "1e", "$5", "5$",
     "\u0665", "\uff15", "\u00bd", "5\0", "\ud800", "5\u200b", "\u22125", "1_5", "_5", " 5", "5\n",
     Decimal("NaN"), Decimal("sNaN"), Decimal("-Infinity"),
     Decimal(-1), Decimal("1e400000"), -1, 10**5000, Fraction(1, 3), *NO_NUMBERS],
    ids=shown,
)  # fmt: skip
def test_what_is_no_exact_decimal_is_refused_by_an_error_that_names_the_field(value: Any) -> None:
    for read in (parse_decimal, nanousd):
        with pytest.raises(InvalidAmount, match=r"^cost_usd ") as refused:
            read(value, "cost_usd")
        assert len(str(refused.value)) < 200
        assert str(refused.value).isascii()


@pytest.mark.parametrize(
    ("dollars", "amount"),
    [
        (0, 0),
        ("1", NANOUSD_PER_USD),
        ("0.000000001", 1),
        ("0.0000000001", 1),
        ("0.0000000010000000001", 2),
        ("1e-30", 1),
        ("9007199.254740991", MAX_AMOUNT),
        ("9007199.2547409909", MAX_AMOUNT),
    ],
)
def test_dollars_are_nano_dollars_rounded_up(dollars: Any, amount: int) -> None:
    assert nanousd(dollars, "cost_usd") == amount


@pytest.mark.parametrize("dollars", ["9007199.2547409910001", "9007199.254740992", 9_007_200, "1e20"])
def test_dollars_above_the_bound_are_refused(dollars: Any) -> None:
    with pytest.raises(InvalidAmount, match=r"^cost_usd \(in nano-dollars\) must be"):
        nanousd(dollars, "cost_usd")


@given(st.decimals(0, 9_007_199, allow_nan=False, allow_infinity=False, places=12))
def test_rounding_is_exact_whatever_the_decimal_context_of_the_caller(dollars: Decimal) -> None:
    with decimal.localcontext() as context:
        context.prec, context.rounding = 3, decimal.ROUND_DOWN
        context.traps[decimal.InvalidOperation] = False
        context.traps[decimal.Inexact] = True
        assert nanousd(dollars, "cost_usd") == nanousd(str(dollars), "cost_usd") == ceil(Fraction(dollars) * 10**9)
        with pytest.raises(InvalidAmount):
            nanousd("five", "cost_usd")


@given(st.text(max_size=45))
def test_any_text_is_a_number_or_a_typed_error(text: str) -> None:
    try:
        number = parse_decimal(text, "cost_usd")
    except InvalidAmount:
        return
    assert number.is_finite()
    assert number >= 0


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "$0.00"),
        (1, "$0.000000001"),
        (5 * 10**9, "$5.00"),
        (4_993_100_000, "$4.9931"),
        (-100_000_000, "-$0.10"),
        (MAX_AMOUNT, "$9,007,199.254740991"),
    ],
)
def test_dollars_for_people(amount: int, text: str) -> None:
    assert format_usd(amount) == format_amount("usd", amount) == text


def test_amounts_for_people() -> None:
    assert format_amount("tokens", 1_600) == "1,600 tokens"
    assert format_amount("input_tokens", -1_600) == "-1,600 input tokens"
    assert format_amount("concurrent", 3) == "3 concurrent"


@pytest.mark.parametrize(
    "value", [10**5000, ENDLESS, Unprintable(), "\ud800" * 100, "x" * 10**6, "\x1b[31m\n"], ids=shown
)
def test_any_value_can_be_shown_in_an_error(value: Any) -> None:
    text = shown(value)
    assert len(text) <= 60
    assert text.isascii()
    assert text.isprintable()
