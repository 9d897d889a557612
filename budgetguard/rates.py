"""What each kind of token costs, exactly: dollars as integers over one denominator."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from math import lcm
from typing import NamedTuple

from budgetguard.core.amounts import MAX_AMOUNT, NANOUSD_PER_USD
from budgetguard.errors import InvalidAmount
from budgetguard.usage import Usage

_NANOUSD_PER_TOKEN = Fraction(NANOUSD_PER_USD, 10**6)
"""What a token costs at a dollar for a million of them."""


class Rates(NamedTuple):
    """Nano-dollars over one denominator for each: input, output, cache read, cache write, 1h write, reasoning, request.

    A part's number is what it costs more (or less) than the whole that it was already counted in.
    """

    numerators: tuple[int, ...]
    denominator: int

    def cost_nanousd(self, usage: Usage, model: str) -> int:
        """What one call of this usage costs, in nano-dollars: exact, then rounded up once.

        Args:
            model: whose price it is, for the error.

        Raises:
            InvalidAmount: above 2**53 - 1 nano-dollars.
        """
        of_input, of_output, of_read, of_write, of_hour, of_reasoning, of_request = self.numerators
        exact = (
            usage.input_tokens * of_input
            + usage.output_tokens * of_output
            + usage.cache_read_tokens * of_read
            + usage.cache_write_tokens * of_write
            + usage.cache_write_1h_tokens * of_hour
            + usage.reasoning_tokens * of_reasoning
            + of_request
        )
        cost = -(-exact // self.denominator)
        if cost > MAX_AMOUNT:
            raise InvalidAmount(
                f"cost_usd of {usage.input_tokens} input and {usage.output_tokens} output tokens at the price of "
                f"{model!a} is above 2**53 - 1 nano-dollars: correct the price or the usage"
            )
        return cost


def rates_of(usd_per_mtok: Mapping[str, Decimal], usd_per_request: Decimal) -> Rates:
    """Rates of dollars for a million tokens of each kind, and for each call on top.

    Args:
        usd_per_mtok: by `input`, `output` (0 where absent), `cache_read`, `cache_write` (as `input` where absent),
            `cache_write_1h` (as `cache_write`) and `reasoning` (as `output`).
    """
    kinds = {kind: Fraction(rate) * _NANOUSD_PER_TOKEN for kind, rate in usd_per_mtok.items()}
    whole_in, output = kinds.get("input", Fraction(0)), kinds.get("output", Fraction(0))
    read, write = kinds.get("cache_read", whole_in), kinds.get("cache_write", whole_in)
    hour, reasoning = kinds.get("cache_write_1h", write), kinds.get("reasoning", output)
    request = Fraction(usd_per_request) * NANOUSD_PER_USD
    parts = (whole_in, output, read - whole_in, write - whole_in, hour - write, reasoning - output, request)
    denominator = lcm(*(part.denominator for part in parts))
    return Rates(tuple(int(part * denominator) for part in parts), denominator)
