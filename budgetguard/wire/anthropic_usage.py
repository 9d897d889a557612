"""Usage as Anthropic's messages report it: https://docs.anthropic.com/en/api/messages

The top level does not hold everything that is billed: compaction is left out of it, and so is what ran on another
model (an advisor, a fallback). Where `iterations` are stated, they are billed, each at the price of its model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from budgetguard.errors import InvalidAmount
from budgetguard.wire.costs import stated_cost
from budgetguard.wire.counts import Counts, consistent, count, get, plus


def anthropic_counts(usage: Any) -> Counts | None:
    """The counts of the top level, or of one iteration; None if it does not state both input and output.

    Raises:
        InvalidAmount: a count is none; names the field.
    """
    if get(usage, "input_tokens") is None or get(usage, "output_tokens") is None:
        return None
    by_age = get(usage, "cache_creation")
    hour = count(by_age, "ephemeral_1h_input_tokens", "cache_creation.")
    minutes = count(by_age, "ephemeral_5m_input_tokens", "cache_creation.")
    read = count(usage, "cache_read_input_tokens")
    # With server tools the parts by age fall short of the whole; without the whole they are all there is.
    write = max(count(usage, "cache_creation_input_tokens"), hour + minutes)
    reasoning = count(get(usage, "output_tokens_details"), "thinking_tokens", "output_tokens_details.")
    # Unlike elsewhere, `input_tokens` leaves out what was read from and written to the cache.
    entire = count(usage, "input_tokens") + read + write
    return consistent(entire, count(usage, "output_tokens"), read, write, hour, reasoning)


def billed_by_model(usage: Any, model: Any) -> dict[str | None, Counts]:
    """What is billed, by model; None is the model that answered, and comes first. Empty where nothing is stated.

    A cost that is stated (OpenRouter's) is the whole one, and stands with the model that answered.

    Raises:
        InvalidAmount: a count is none, or an iteration is no usage; names the field.
    """
    top = anthropic_counts(usage)
    if top is None:
        return {}
    cost = stated_cost(usage)
    billed = _iterations(get(usage, "iterations"), model) or {None: top}
    own = billed[None]
    # Thinking is stated at the top level only, which is the answering model's.
    billed[None] = own._replace(reasoning=min(max(own.reasoning, top.reasoning), own.output))
    return {name: part._replace(cost_usd=cost if name is None else cost and 0 * cost) for name, part in billed.items()}


def merged(usage: Any, later: Any) -> dict[str, Any]:
    """The usage of a stream: what `message_start` says, overruled by what the last `message_delta` says."""
    first, last = (part if isinstance(part, Mapping) else {} for part in (usage, later))
    return {**first, **{name: value for name, value in last.items() if value is not None}}


def _iterations(iterations: Any, model: Any) -> dict[str | None, Counts]:
    """Their sums by model; empty where there are none."""
    if not iterations:
        return {}
    if not isinstance(iterations, list):
        raise InvalidAmount("usage.iterations must be a list")
    sums: dict[str | None, Counts] = {None: Counts(0, 0)}
    for iteration in iterations:
        part = anthropic_counts(iteration)
        if part is None:
            raise InvalidAmount("usage.iterations must each state input_tokens and output_tokens")
        name = get(iteration, "model")
        other = name if isinstance(name, str) and name != model else None
        sums[other] = plus(sums.get(other, Counts(0, 0)), part)
    return sums
