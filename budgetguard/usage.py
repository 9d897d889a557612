"""What a call took, as tokens and perhaps dollars, and how it is read from what a provider answered.

`read_usage` shares the readers of `budgetguard.wire`, whose modules name what their providers document.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal
from functools import reduce
from typing import Any

from budgetguard.core.amounts import MAX_AMOUNT, check_amount, nanousd, parse_decimal
from budgetguard.errors import InvalidAmount
from budgetguard.wire.anthropic_usage import billed_by_model
from budgetguard.wire.bedrock_usage import invoke_counts
from budgetguard.wire.cohere_usage import cohere_counts
from budgetguard.wire.counts import Counts, get, plus
from budgetguard.wire.google_usage import gemini_counts, interaction_counts
from budgetguard.wire.ollama_usage import ollama_counts
from budgetguard.wire.openai_usage import openai_counts

_EXACT = Context(prec=100)
"""Wide enough to add any two costs that `parse_decimal` lets through without rounding."""
_set = object.__setattr__
_TAKES = (
    "a budgetguard Usage, or usage shaped like OpenAI's chat completions (prompt_tokens, completion_tokens), "
    "OpenAI's responses or Anthropic's messages (input_tokens, output_tokens), Gemini's, Bedrock's, Cohere's or "
    "Ollama's: a response, its dict, or its usage alone"
)


@dataclass(frozen=True, slots=True, init=False)
class Usage:
    """The tokens of one call, estimated or as the provider reports them, and its cost where somebody states it.

    Every count is a whole number in [0, 2**53 - 1], and so is input + output. The parts lie inside their
    whole: cache reads and cache writes together in `input_tokens`, `cache_write_1h_tokens` in
    `cache_write_tokens`, `reasoning_tokens` in `output_tokens`.
    """

    input_tokens: int
    """All prompt tokens: cached ones, and those of audio and images, included."""
    output_tokens: int
    """All generated tokens: reasoning, and those of audio, included."""
    cache_read_tokens: int
    cache_write_tokens: int
    """All cache writes, whatever they cost."""
    cache_write_1h_tokens: int
    """Those of the cache writes that are billed at the one-hour price."""
    reasoning_tokens: int
    cost_usd: Decimal | None
    """The whole cost in dollars, exactly as stated; None leaves it to the price table."""
    cost_nanousd: int | None = field(init=False, repr=False, compare=False)
    """`cost_usd` in nano-dollars, rounded up."""

    def __init__(
        self,
        input_tokens: int,
        output_tokens: int,
        cache_read_tokens: int = 0,
        cache_write_tokens: int = 0,
        cache_write_1h_tokens: int = 0,
        reasoning_tokens: int = 0,
        cost_usd: Decimal | int | str | None = None,
    ) -> None:
        """Check and keep the counts; `cost_usd` is a Decimal, an int or its text ("0.0142").

        Raises:
            InvalidAmount: names the field; floats are refused as `cost_usd` because they are not exact.
        """
        _set(self, "input_tokens", check_amount(input_tokens, "input_tokens"))
        _set(self, "output_tokens", check_amount(output_tokens, "output_tokens"))
        _set(self, "cache_read_tokens", check_amount(cache_read_tokens, "cache_read_tokens"))
        _set(self, "cache_write_tokens", check_amount(cache_write_tokens, "cache_write_tokens"))
        _set(self, "cache_write_1h_tokens", check_amount(cache_write_1h_tokens, "cache_write_1h_tokens"))
        _set(self, "reasoning_tokens", check_amount(reasoning_tokens, "reasoning_tokens"))
        if (
            cache_read_tokens + cache_write_tokens > input_tokens
            or cache_write_1h_tokens > cache_write_tokens
            or reasoning_tokens > output_tokens
            or input_tokens + output_tokens > MAX_AMOUNT
        ):
            raise _inconsistent(self)
        if cost_usd is None:
            _set(self, "cost_usd", None)
            _set(self, "cost_nanousd", None)
        else:
            _set(self, "cost_usd", parse_decimal(cost_usd, "cost_usd"))
            _set(self, "cost_nanousd", nanousd(cost_usd, "cost_usd"))

    @property
    def total_tokens(self) -> int:
        """Input and output: what the unit `tokens` counts."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        """Both calls together: every count adds.

        The sum states a cost only where both sides do: known plus unknown is unknown. Whoever wants the
        dollars of such a pair prices each side on its own before adding.

        Raises:
            InvalidAmount: the sum is out of range.
        """
        if not isinstance(other, Usage):
            return NotImplemented
        stated = self.cost_usd is not None and other.cost_usd is not None
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.cache_write_1h_tokens + other.cache_write_1h_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            _EXACT.add(self.cost_usd, other.cost_usd) if stated else None,  # type: ignore[arg-type]  # stated: no None
        )


def _inconsistent(usage: Usage) -> InvalidAmount:
    read, write, whole = usage.cache_read_tokens, usage.cache_write_tokens, usage.input_tokens
    if read + write > whole:
        return InvalidAmount(
            f"cache_read_tokens + cache_write_tokens are parts of input_tokens: {read} + {write} is above {whole}"
        )
    if usage.cache_write_1h_tokens > write:
        part = usage.cache_write_1h_tokens
        return InvalidAmount(f"cache_write_1h_tokens is a part of cache_write_tokens: {part} is above {write}")
    if usage.reasoning_tokens > usage.output_tokens:
        part, whole = usage.reasoning_tokens, usage.output_tokens
        return InvalidAmount(f"reasoning_tokens is a part of output_tokens: {part} is above {whole}")
    return InvalidAmount(f"input_tokens + output_tokens must not be above 2**53 - 1, but are {usage.total_tokens}")


def read_usage(response: Any) -> Usage:
    """The usage that a provider reports, from its response (object or dict) or from the usage alone.

    Told apart by its fields, as `budgetguard.wire` reads the bodies of these APIs: `prompt_tokens` is OpenAI's chat;
    `input_tokens` with `output_tokens` is OpenAI's responses where `input_tokens_details` is there (and the response
    is no `type: "message"`), else Anthropic's messages. With neither details nor cache fields the two mean the same.
    None is absent. A cost that the response states comes with it.

    Where a provider contradicts itself, the whole stands: a cached part above the prompt (Grok on Azure) is lowered
    to it, and reasoning that the output does not contain (xAI's chat) is added to the output. Of an Anthropic message
    all iterations count, also those that another model ran (its price is not known here).

    Raises:
        TypeError: there is no usage of a known shape; says what is taken.
        InvalidAmount: a count is no whole number in [0, 2**53 - 1]; names the provider's field.
    """
    if isinstance(response, Usage):
        return response
    usage = get(response, "usage", "usage_metadata", "usageMetadata")
    if usage is None:
        meta = get(response, "meta")
        usage = response if get(meta, "billed_units", "tokens") is None else meta
    if isinstance(usage, Usage):
        return usage
    counts = _counts(response, usage)
    if counts is None:
        raise TypeError(_unreadable(response, usage))
    return Usage(*counts)


def _counts(response: Any, usage: Any) -> Counts | None:
    """By the shape of the usage; Bedrock's Llama names its prompt as Gemini does."""
    openais = get(usage, "prompt_tokens") is not None or (
        get(usage, "input_tokens_details") is not None and get(response, "type") != "message"
    )
    if not openais and (billed := billed_by_model(usage, get(response, "model"))):
        return reduce(plus, billed.values())._replace(cost_usd=billed[None].cost_usd)
    if get(usage, "generation_token_count") is None and (found := gemini_counts(usage)):
        return found
    readers = (openai_counts, interaction_counts, cohere_counts, ollama_counts)
    found = next((counts for reader in readers if (counts := reader(usage)) is not None), None)
    return invoke_counts(response, {}) if found is None else found


def _unreadable(response: Any, usage: Any) -> str:
    kind = type(response).__name__
    if usage is not response:
        return f"the usage of this {kind} has an unknown shape; what can be read is {_TAKES}"
    has_usage = "usage" in response if isinstance(response, Mapping) else hasattr(response, "usage")
    if has_usage:
        return (
            f"the usage of this {kind} is None: the provider has not reported it (a stream may have to be asked with "
            f"stream_options include_usage, a background response to be fetched again); what can be read is {_TAKES}"
        )
    return f"this {kind} has no usage; what can be read is {_TAKES}"
