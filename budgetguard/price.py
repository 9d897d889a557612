"""What tokens of a model cost as the user states it: the `[[price]]` of a policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from difflib import get_close_matches
from math import isfinite
from typing import Any

from budgetguard.core.amounts import MAX_AMOUNT, parse_decimal, shown
from budgetguard.errors import InvalidAmount, InvalidInput
from budgetguard.rates import Rates, rates_of
from budgetguard.usage import Usage

RATES = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
"""The keys of `usd_per_mtok`: dollars for a million tokens of each kind."""
SINCE_EVER_MS = -MAX_AMOUNT
_FIELDS = ("model", "usd_per_mtok", "usd_per_request", "valid_from")
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
    _rates: Rates = field(init=False, repr=False, compare=False)

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
        object.__setattr__(self, "_rates", rates_of(rates, request))

    def cost_nanousd(self, usage: Usage) -> int:
        """What one call of this usage costs, in nano-dollars: exact, then rounded up once.

        Raises:
            InvalidAmount: above 2**53 - 1 nano-dollars.
        """
        return self._rates.cost_nanousd(usage, self.model)


def price_faults(entry: Mapping[str, Any]) -> list[str]:
    """Every fault of one `[[price]]` table, each beginning with its key; without one, `Price(**entry)` is good."""
    unknown = [str(_unknown_key(key, "", _FIELDS)) for key in entry if key not in _FIELDS]
    return [*unknown, *(str(fault) for fault in _faults(*(entry.get(name) for name in _FIELDS)))]


def _faults(model: Any, usd_per_mtok: Any, usd_per_request: Any, valid_from: Any) -> Iterator[InvalidInput]:
    if not _is_label_text(model):
        yield InvalidInput(f'model must be a name or a glob of names ("acme-*") of 1 to 512 bytes, not {shown(model)}')
    if usd_per_mtok is None and usd_per_request is None:
        yield InvalidInput("usd_per_mtok (or usd_per_request) is required: a price without either says nothing")
    if isinstance(usd_per_mtok, Mapping):
        yield from _rate_faults(usd_per_mtok)
    elif usd_per_mtok is not None:
        yield InvalidInput(f"usd_per_mtok must say dollars by {', '.join(RATES)}, not {shown(usd_per_mtok)}")
    if usd_per_request is not None:
        yield from _number_faults(usd_per_request, "usd_per_request")
    if valid_from is not None and not isinstance(valid_from, date):
        text = f"valid_from must be a date or datetime, such as 2026-01-01 without quotes, not {shown(valid_from)}"
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
    name = key if isinstance(key, str) and key.isidentifier() and len(key) <= 60 else shown(key)
    return InvalidInput(f"{path}{name} is not known; {hint}")


def _is_label_text(value: Any) -> bool:
    """The names of models are labels, and bound as they are."""
    if not isinstance(value, str):
        return False
    try:
        return 1 <= len(value.encode()) <= 512
    except UnicodeEncodeError:
        return False


def _instant_ms(valid_from: date | None) -> int:
    """The first millisecond at which the price is valid."""
    if valid_from is None:
        return SINCE_EVER_MS
    if not isinstance(valid_from, datetime):
        valid_from = datetime(valid_from.year, valid_from.month, valid_from.day, tzinfo=UTC)
    elif valid_from.tzinfo is None:
        valid_from = valid_from.replace(tzinfo=UTC)
    return -((_EPOCH - valid_from) // timedelta(milliseconds=1))
