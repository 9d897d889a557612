"""The price of one model as genai-prices states it, turned into exact integers, and how long it holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from budgetguard.core.amounts import MAX_AMOUNT
from budgetguard.rates import Rates, rates_of
from budgetguard.usage import Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

_KINDS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "reasoning": "output_reasoning_mtok",
}
_BY_TOKENS = frozenset(["input_mtok", "output_mtok"])
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_MS = 86_400_000
_LAST_MS = int((datetime(9999, 1, 1, tzinfo=UTC) - _EPOCH) / timedelta(milliseconds=1))


class DataPrice(NamedTuple):
    """The price of one model, as it holds at an instant.

    Args:
        model: the data's name for it.
        source: how the ledger names this price: whose data, and which version.
        steps: by falling size of the input, the rates of calls with more input tokens than that.
    """

    model: str
    source: str
    steps: tuple[tuple[int, Rates], ...]

    def cost_nanousd(self, usage: Usage) -> int:
        """What one call of this usage costs, in nano-dollars: exact, then rounded up once.

        Raises:
            InvalidAmount: above 2**53 - 1 nano-dollars.
        """
        rates = next(rates for above, rates in self.steps if usage.input_tokens > above)
        return rates.cost_nanousd(usage, self.model)


class Span(NamedTuple):
    """A price, and from when until when it is that."""

    since_ms: int
    until_ms: int
    price: DataPrice | None


def span_of(model: ModelInfo, source: str, at_ms: int) -> Span:
    """The price of a model at an instant; None where the data states none by tokens."""
    return Span(*valid(model, at_ms), _price(model.id, source, model.get_prices(_instant(at_ms))))


def dearest_of(models: Iterable[ModelInfo], at_ms: int) -> ModelInfo | None:
    """The one of which a million tokens in and a million out cost most, together, for the longest input."""
    at = _instant(at_ms)

    def dearness(model: ModelInfo) -> Decimal:
        prices = model.get_prices(at).__dict__
        of_both = [_amount(prices.get(key), MAX_AMOUNT) for key in ("input_mtok", "output_mtok")]
        return (of_both[0] or Decimal(0)) + (of_both[1] or Decimal(0))

    return max(models, key=dearness, default=None)


def valid(model: ModelInfo, at_ms: int) -> tuple[int, int]:
    """From when until when the model's price is the one that holds at `at_ms`."""
    turns = list(_turns(model, at_ms))
    since = max((turn for turn in turns if turn <= at_ms), default=-MAX_AMOUNT)
    return since, min((turn for turn in turns if turn > at_ms), default=MAX_AMOUNT)


def _instant(at_ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=min(max(at_ms, 0), _LAST_MS))


def _price(model: str, source: str, prices: ModelPrice) -> DataPrice | None:
    stated = {key: price for key, price in prices.__dict__.items() if price is not None}
    if stated and _BY_TOKENS.isdisjoint(stated):
        return None
    tiers = {tier.start for price in stated.values() for tier in getattr(price, "tiers", ())}
    steps = tuple((above, _rates(stated, above)) for above in sorted({-1, *tiers}, reverse=True))
    return DataPrice(model, source, steps)


def _rates(stated: dict[str, Decimal | TieredPrices], above: int) -> Rates:
    """The rates of a call with more input tokens than `above`."""
    amounts = {kind: _amount(stated.get(key), above) for kind, key in _KINDS.items()}
    thousand_requests = _amount(stated.get("requests_kcount"), above) or Decimal(0)
    known = {kind: amount for kind, amount in amounts.items() if amount is not None}
    return rates_of(known, thousand_requests / 1000)


def _amount(price: Decimal | TieredPrices | None, above: int) -> Decimal | None:
    """A price for more input tokens than `above`: all of them cost what the highest tier says that begins there."""
    if price is None or isinstance(price, Decimal):
        return price
    return next((tier.price for tier in reversed(price.tiers) if tier.start <= above), price.base)


def _turns(model: ModelInfo, at_ms: int) -> Iterator[int]:
    """The instants about `at_ms` at which another price of the model may begin to hold."""
    conditional: Iterable[Any] = model.prices if isinstance(model.prices, list) else ()
    for rule in (each.constraint for each in conditional):
        first = getattr(rule, "start_date", None)
        if first is not None:
            yield _midnight_ms(first)
        elif rule is not None:
            today_ms = at_ms - at_ms % _DAY_MS
            times_ms = (_of_day_ms(rule.start_time), _of_day_ms(rule.end_time))
            yield from (today_ms + day * _DAY_MS + of_day for day in (-1, 0, 1) for of_day in times_ms)


def _midnight_ms(day: date) -> int:
    return (day - _EPOCH.date()).days * _DAY_MS


def _of_day_ms(at: time) -> int:
    """Milliseconds of the UTC day; a time without a zone is UTC, a part of a millisecond counts as the whole."""
    zoned = datetime.combine(_EPOCH, at) if at.tzinfo else datetime.combine(_EPOCH, at, tzinfo=UTC)
    return -((_EPOCH - zoned) // timedelta(milliseconds=1)) % _DAY_MS
