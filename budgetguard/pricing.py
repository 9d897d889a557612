"""What a call costs, and who says so: the usage itself, the user's prices, or the built-in price data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import translate
from functools import lru_cache
from typing import Literal

from budgetguard import price_data
from budgetguard.core.amounts import MAX_AMOUNT, shown
from budgetguard.data_price import DataPrice
from budgetguard.errors import ConfigError
from budgetguard.price import SINCE_EVER_MS, Price
from budgetguard.usage import Usage

_MAX_CACHED = 1024
OnUnknownPrice = Literal["refuse", "upper_bound", "zero"]


class PriceTable:
    """The user's prices by model name and instant. They win over the built-in data."""

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
        """The user's price of `model` for a call admitted at `at_ms`, or None.

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
        since = max((start for start in starts if start <= at_ms), default=SINCE_EVER_MS)
        until = min((start for start in starts if start > at_ms), default=MAX_AMOUNT)
        self._cache[model] = (since, until, found)
        return found

    @property
    def prices(self) -> tuple[Price, ...]:
        """The prices, in the order in which they were given."""
        return tuple(price for price, _ in self._prices)

    @property
    def models(self) -> list[str]:
        """The names and globs that have a price."""
        return [price.model for price, _ in self._prices]


def price_of(table: PriceTable, model: str, at_ms: int, provider: str | None = None) -> Price | DataPrice | None:
    """The price of a call admitted at `at_ms`: the user's, else that of the built-in data; None if neither has one.

    Raises:
        ConfigError: prices tie.
    """
    return table.find(model, at_ms) or price_data.find(provider, model, at_ms)


def needs_data(table: PriceTable, model: str | None, at_ms: int) -> bool:
    """Whether pricing a call would first have to import the built-in data, which takes a third of a second.

    Prices that tie need none: they are an error.
    """
    if model is None or price_data.loaded():
        return False
    try:
        return table.find(model, at_ms) is None
    except ConfigError:
        return False


def cost_of(
    table: PriceTable,
    model: str | None,
    usage: Usage,
    at_ms: int,
    *,
    provider: str | None = None,
    answered_model: str | None = None,
    on_unknown_price: OnUnknownPrice = "refuse",
) -> tuple[int | None, str]:
    """What a call admitted at `at_ms` costs, in nano-dollars, and who says so.

    Args:
        answered_model: who answered; its price holds where `model` (a deployment, an alias) has none.
        on_unknown_price: what a call costs whose price nobody knows: None, nothing, or what the provider's dearest
            model would (the dearest of all, where the built-in data does not know the provider).

    Returns the cost and its source: "stated" (the usage itself), "price:<model of the user's price>", "genai-prices
    <version>", "zero", "upper_bound:<model>" or, with None for the cost, "unknown".

    Raises:
        ConfigError: prices tie.
        InvalidAmount: the cost is above 2**53 - 1 nano-dollars.
    """
    if usage.cost_nanousd is not None:
        return usage.cost_nanousd, "stated"
    for name in (model, answered_model):
        price = None if name is None else price_of(table, name, at_ms, provider)
        if price is not None:
            return price.cost_nanousd(usage), price.source
    if on_unknown_price == "zero":
        return 0, "zero"
    bound = price_data.dearest(provider, at_ms) if on_unknown_price == "upper_bound" else None
    return (None, "unknown") if bound is None else (bound.cost_nanousd(usage), f"upper_bound:{bound.model}")


def unknown_price_text(table: PriceTable, model: str | None, provider: str | None, *, by_hand: bool) -> str:
    """What a user can do whose model has no price: the lines to add to the policy, and the nearest known names.

    Args:
        by_hand: who reserves can state the cost; a guarded client cannot.
    """
    if model is None:
        return "pass model=... (and provider=...), or a Usage with cost_usd" if by_hand else "name it in the request"
    near = _near(tuple(table.models), provider, model)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    rate = "0" if provider in price_data.LOCAL else "DOLLARS"
    stated = ", or pass cost_usd" if by_hand else ""
    return (
        f"add a [[price]] for it{stated}, or set guard.on_unknown_price (in Python prices=[bg.Price({model!r}, "
        f'{{"input": "{rate}", "output": "{rate}"}})], settings=bg.GuardSettings(on_unknown_price=...)).'
        f'{hint} Its dollars for a million tokens are to stand here ("0" where it is free):\n'
        f'[[price]]\nmodel = {_toml_text(model)}\nusd_per_mtok = {{ input = "{rate}", output = "{rate}" }}'
    )


@lru_cache(maxsize=256)
def _near(own: tuple[str, ...], provider: str | None, model: str) -> list[str]:
    """The known names that look most like `model`. Kept, because a search takes milliseconds."""
    return get_close_matches(model, [*own, *price_data.names(provider)], n=3, cutoff=0.75)


def _toml_text(text: str) -> str:
    """A basic string of TOML. What a terminal might obey is escaped."""
    plain = [char if char.isprintable() and char not in '"\\' else f"\\U{ord(char):08x}" for char in text]
    return f'"{"".join(plain)}"'


def _best(valid: Sequence[Price], model: str) -> Price | None:
    def rank(price: Price) -> tuple[bool, int, int]:
        return price.model == model, len(price.model), price.valid_from_ms

    best = max(valid, key=rank, default=None)
    if best is None:
        return None
    tied = [price for price in valid if rank(price) == rank(best)]
    if len(tied) > 1:
        names = " and ".join(_named(price) for price in tied)
        raise ConfigError("prices", [f"{names} tie for the model {shown(model)}: give it a price under its exact name"])
    return best


def _named(price: Price) -> str:
    since = "" if price.valid_from is None else f" valid from {price.valid_from.isoformat()}"
    return f"the price of {shown(price.model)}{since}"
