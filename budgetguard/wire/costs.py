"""The cost that a body states itself, in dollars.

- OpenRouter: `cost`, with `is_byok` and `cost_details`, https://openrouter.ai/docs/use-cases/usage-accounting
- Perplexity: `cost.total_cost`, fees of the search included, https://docs.perplexity.ai/api-reference
- xAI: `cost_in_usd_ticks`, 10**10 to the dollar, tools included, https://docs.x.ai/developers/cost-tracking
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from budgetguard.core.amounts import nanousd, parse_decimal
from budgetguard.errors import InvalidAmount
from budgetguard.wire.counts import get

_DIGITS_OF_TICKS = 10


def stated_cost(usage: Any) -> Decimal | None:
    """The whole cost that a usage states, as billed; None where it states none that can be read.

    With a key of one's own OpenRouter's `cost` is its fee only, mostly zero: what the key's owner is billed is stated
    beside it. Any other zero counts only where the body says that no such key was involved, for a gateway that does
    not know the cost writes zero too (Azure, of Grok).
    """
    ticks, cost = get(usage, "cost_in_usd_ticks"), get(usage, "cost")
    if type(ticks) is int and ticks > 0:
        return _payable(Decimal(ticks).scaleb(-_DIGITS_OF_TICKS))
    total = _dollars(cost if isinstance(cost, int | float | str) else get(cost, "total_cost"))
    if get(usage, "is_byok") is True:
        upstream = _dollars(get(get(usage, "cost_details"), "upstream_inference_cost"))
        return _payable(upstream + (total or 0)) if upstream else None
    return total if total or get(usage, "is_byok") is False else None


def _dollars(value: Any) -> Decimal | None:
    """Exactly what the body says: a float's shortest text is the text that it was read from."""
    try:
        return _payable(parse_decimal(Decimal(repr(value)) if type(value) is float else value, "cost"))
    except InvalidAmount:
        return None


def _payable(cost: Decimal) -> Decimal | None:
    """The cost, if it is an amount."""
    try:
        nanousd(cost, "cost")
    except InvalidAmount:
        return None
    return cost
