"""Usage as Google's APIs report it, in camelCase on the wire and in snake_case on the objects of google-genai.

- generateContent, embedContent: https://ai.google.dev/api/generate-content#UsageMetadata
- interactions: https://ai.google.dev/api/interactions-api
"""

from __future__ import annotations

import re
from typing import Any

from budgetguard.core.amounts import check_amount
from budgetguard.wire.counts import Counts, consistent, count, get


def gemini_counts(metadata: Any) -> Counts | None:
    """The counts of a `usageMetadata`; None without a count of the prompt, which early chunks of a stream lack.

    Thoughts are outside the candidates' count, and what tools put into the prompt is outside the prompt's. A count of
    the candidates that is absent is zero: the prompt was blocked, or all that came was thought.

    Raises:
        InvalidAmount: a count is none; names the field.
    """
    if get(metadata, "promptTokenCount", "prompt_token_count") is None:
        return None
    thoughts = _count(metadata, "thoughtsTokenCount")
    entire = _count(metadata, "promptTokenCount") + _count(metadata, "toolUsePromptTokenCount")
    output = _count(metadata, "candidatesTokenCount") + thoughts
    return consistent(entire, output, _count(metadata, "cachedContentTokenCount"), 0, 0, thoughts)


def interaction_counts(usage: Any) -> Counts | None:
    """The counts of an interaction's usage; None where it states no input.

    Raises:
        InvalidAmount: a count is none; names the field.
    """
    if get(usage, "total_input_tokens") is None:
        return None
    thoughts = count(usage, "total_thought_tokens")
    entire = count(usage, "total_input_tokens") + count(usage, "total_tool_use_tokens")
    output = count(usage, "total_output_tokens") + thoughts
    return consistent(entire, output, count(usage, "total_cached_tokens"), 0, 0, thoughts)


def _count(metadata: Any, name: str) -> int:
    value = get(metadata, name, re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), name))
    return 0 if value is None else check_amount(value, f"usageMetadata.{name}")
