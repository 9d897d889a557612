"""What tokens cost: prices as the policy states them, which of them holds for a call, and the call's nano-dollars."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from difflib import get_close_matches
from fnmatch import translate
from fractions import Fraction
from math import isfinite, lcm
from typing import Any

from budgetguard.core.amounts import MAX_AMOUNT, NANOUSD_PER_USD, parse_decimal
from budgetguard.errors import ConfigError, InvalidAmount, InvalidInput
from budgetguard.usage import Usage

RATES = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
"""The keys of `usd_per_mtok`: dollars for a million tokens of each kind."""
_FIELDS = ("model", "usd_per_mtok", "usd_per_request", "valid_from")
_ALWAYS = -MAX_AMOUNT
_MAX_CACHED = 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Price:
    """What calls of a model cost, from an instant on; the `[[price]]` of the policy file.

    Args:
        model: the model's name, or a glob of names (as fnmatchcase: `acme-*`).
        usd_per_mtok: dollars for a million tokens, by `input` and `output` (both required) and `cache_read`,
            `cache_write` (each as `input` where absent) and `cache_write_1h` (as `cache_write` where absent):
            Decimals, ints or their text ("0.15"). None, beside a `usd_per_request`: tokens cost nothing.
        usd_per_request: dollars for each call on top, in the same forms.
        valid_from: the first instant of the price: a date (its midnight) or datetime, in UTC where it names
            no zone. None: since ever.

    Raises:
        InvalidAmount: a number is no exact decimal in range; names its key.
        InvalidInput: another field is wrong; names it.
    """

    model: str
    usd_per_mtok: Mapping[str, Decimal | int | str] | None = field(default=None, hash=False)
    usd_per_request: Decimal | int | str | None = None
    valid_from: date | None = None
    valid_from_ms: int = field(init=False, repr=False, compare=False)
    source: str = field(init=False, repr=False, compare=False)
    """How the ledger names this price."""
    _numerators: tuple[int, ...] = field(init=False, repr=False, compare=False)
    _denominator: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        fault = next(_faults(self.model, self.usd_per_mtok, self.usd_per_request, self.valid_from), None)
        if fault is not None:
            raise fault
        rates = {key: parse_decimal(value, key) for key, value in (self.usd_per_mtok or {}).items()}
        request = parse_decimal(self.usd_per_request or 0, "usd_per_request")
        if self.usd_per_mtok is not None:
            object.__setattr__(self, "usd_per_mtok", rates)
        if self.usd_per_request is not None:
            object.__setattr__(self, "usd_per_request", request)
        object.__setattr__(self, "valid_from_ms", _instant_ms(self.valid_from))
        object.__setattr__(self, "source", f"price:{self.model}")
        numerators, denominator = _over_one_denominator(rates, request)
        object.__setattr__(self, "_numerators", numerators)
        object.__setattr__(self, "_denominator", denominator)

    def cost_nanousd(self, usage: Usage) -> int:
        """What one call of this usage costs, in nano-dollars: exact, then rounded up once.

        Raises:
            InvalidAmount: above 2**53 - 1 nano-dollars.
        """
        of_input, of_output, of_read, of_write, of_hour, of_request = self._numerators
        exact = (
            usage.input_tokens * of_input
            + usage.output_tokens * of_output
            + usage.cache_read_tokens * of_read
            + usage.cache_write_tokens * of_write
            + usage.cache_write_1h_tokens * of_hour
            + of_request
        )
        cost = -(-exact // self._denominator)
        if cost > MAX_AMOUNT:
            raise InvalidAmount(
                f"cost_usd of {usage.input_tokens} input and {usage.output_tokens} output tokens at the price of "
                f"{self.model!a} is above 2**53 - 1 nano-dollars: correct the price or the usage"
            )
        return cost


class PriceTable:
    """Prices by model name and instant."""

    def __init__(self, prices: Sequence[Price] = ()) -> None:
        """Keep the prices; their order says nothing.

        Raises:
            ConfigError: two prices for one model text have the same `valid_from`.
        """
        seen: set[tuple[str, int]] = set()
        faults = []
        for price in prices:
            key = (price.model, price.valid_from_ms)
            if key in seen:
                faults.append(f"{_named(price)} is given twice: keep one of them, or give them different valid_from")
            seen.add(key)
        if faults:
            raise ConfigError("prices", faults)
        self._prices = tuple((price, re.compile(translate(price.model))) for price in prices)
        self._cache: dict[str, tuple[int, int, Price | None]] = {}

    def find(self, model: str, at_ms: int) -> Price | None:
        """The price of `model` for a call admitted at `at_ms`, or None.

        Of the prices valid by then an exact name beats a glob, a longer glob a shorter one, then the latest
        `valid_from` wins.

        Raises:
            ConfigError: several globs of one length and one `valid_from` match; names them.
        """
        cached = self._cache.get(model)
        if cached is not None and cached[0] <= at_ms < cached[1]:
            return cached[2]
        matching = [price for price, glob in self._prices if price.model == model or glob.match(model)]
        starts = [price.valid_from_ms for price in matching]
        found = _best([price for price in matching if price.valid_from_ms <= at_ms], model)
        if len(self._cache) >= _MAX_CACHED:  # names come from callers: what is kept of them has a bound
            self._cache.clear()
        since = max((start for start in starts if start <= at_ms), default=_ALWAYS)
        until = min((start for start in starts if start > at_ms), default=MAX_AMOUNT)
        self._cache[model] = (since, until, found)
        return found


def cost_of(table: PriceTable, model: str | None, usage: Usage, at_ms: int) -> tuple[int | None, str]:
    """What a call admitted at `at_ms` costs, in nano-dollars, and who says so.

    The source is "stated" (the usage itself), "price:<model of the price>" or, with None for the cost, "unknown".

    Raises:
        ConfigError: prices tie.
        InvalidAmount: the cost is above 2**53 - 1 nano-dollars.
    """
    if usage.cost_nanousd is not None:
        return usage.cost_nanousd, "stated"
    price = None if model is None else table.find(model, at_ms)
    return (None, "unknown") if price is None else (price.cost_nanousd(usage), price.source)


def price_faults(entry: Mapping[str, Any]) -> list[str]:
    """Every fault of one `[[price]]` table, each beginning with its key; without one, `Price(**entry)` is good."""
    unknown = [str(_unknown_key(key, "", _FIELDS)) for key in entry if key not in _FIELDS]
    return [*unknown, *(str(fault) for fault in _faults(*(entry.get(name) for name in _FIELDS)))]


def _faults(model: Any, usd_per_mtok: Any, usd_per_request: Any, valid_from: Any) -> Iterator[InvalidInput]:
    if not _is_label_text(model):
        yield InvalidInput(f'model must be a name or a glob of names ("acme-*") of 1 to 512 bytes, not {_shown(model)}')
    if usd_per_mtok is None and usd_per_request is None:
        yield InvalidInput("usd_per_mtok (or usd_per_request) is required: a price without either says nothing")
    if isinstance(usd_per_mtok, Mapping):
        yield from _rate_faults(usd_per_mtok)
    elif usd_per_mtok is not None:
        yield InvalidInput(f"usd_per_mtok must say dollars by {', '.join(RATES)}, not {_shown(usd_per_mtok)}")
    if usd_per_request is not None:
        yield from _number_faults(usd_per_request, "usd_per_request")
    if valid_from is not None and not isinstance(valid_from, date):
        text = f"valid_from must be a date or datetime, such as 2026-01-01 without quotes, not {_shown(valid_from)}"
        yield InvalidInput(text)


def _rate_faults(rates: Mapping[Any, Any]) -> Iterator[InvalidInput]:
    for key, value in rates.items():
        if key in RATES:
            yield from _number_faults(value, f"usd_per_mtok.{key}")
        else:
            yield _unknown_key(key, "usd_per_mtok.", RATES)
    for key in ("input", "output"):
        if key not in rates:
            yield InvalidInput(f'usd_per_mtok.{key} is required; write "0" where it costs nothing')


def _number_faults(value: Any, key: str) -> Iterator[InvalidAmount]:
    if isinstance(value, float) and isfinite(value):
        yield InvalidAmount(f'{key} must be exact, which the float {value!r} is not: put it in quotes, "{value!r}"')
        return
    try:
        parse_decimal(value, key)
    except InvalidAmount as fault:
        yield fault


def _unknown_key(key: Any, path: str, known: Sequence[str]) -> InvalidInput:
    near = get_close_matches(key, known, n=1) if isinstance(key, str) else []
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
    name = key if isinstance(key, str) and key.isidentifier() and len(key) <= 60 else _shown(key)
    return InvalidInput(f"{path}{name} is not known; {hint}")


def _is_label_text(value: Any) -> bool:
    """The names of models are labels, and bound as they are."""
    if not isinstance(value, str):
        return False
    try:
        return 1 <= len(value.encode()) <= 512
    except UnicodeEncodeError:
        return False


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _instant_ms(valid_from: date | None) -> int:
    """The first millisecond at which the price is valid."""
    if valid_from is None:
        return _ALWAYS
    if not isinstance(valid_from, datetime):
        valid_from = datetime(valid_from.year, valid_from.month, valid_from.day, tzinfo=UTC)
    elif valid_from.tzinfo is None:
        valid_from = valid_from.replace(tzinfo=UTC)
    return -((_EPOCH - valid_from) // timedelta(milliseconds=1))


def _over_one_denominator(rates: Mapping[str, Decimal], request: Decimal) -> tuple[tuple[int, ...], int]:
    """Nano-dollars as integers over one denominator, for each: input, output, cache read, write, 1h write; request.

    A part's number is what it costs more (or less) than the whole that it was already counted in.
    """
    per_token = Fraction(NANOUSD_PER_USD, 10**6)
    whole_in = Fraction(rates.get("input", 0)) * per_token
    read = Fraction(rates.get("cache_read", rates.get("input", 0))) * per_token
    write = Fraction(rates.get("cache_write", rates.get("input", 0))) * per_token
    hour = Fraction(rates["cache_write_1h"]) * per_token if "cache_write_1h" in rates else write
    output = Fraction(rates.get("output", 0)) * per_token
    parts = (whole_in, output, read - whole_in, write - whole_in, hour - write, Fraction(request) * NANOUSD_PER_USD)
    denominator = lcm(*(part.denominator for part in parts))
    return tuple(int(part * denominator) for part in parts), denominator


def _best(valid: Sequence[Price], model: str) -> Price | None:
    def rank(price: Price) -> tuple[bool, int, int]:
        return price.model == model, len(price.model), price.valid_from_ms

    best = max(valid, key=rank, default=None)
    if best is None:
        return None
    tied = [price for price in valid if rank(price) == rank(best)]
    if len(tied) > 1:
        names = " and ".join(_named(price) for price in tied)
        raise ConfigError(
            "prices", [f"{names} tie for the model {_shown(model)}: give it a price under its exact name"]
        )
    return best


def _named(price: Price) -> str:
    since = "" if price.valid_from is None else f" valid from {price.valid_from.isoformat()}"
    return f"the price of {_shown(price.model)}{since}"
