"""Usage as OpenAI's APIs report it, and all who copy them.

- chat and completions: https://platform.openai.com/docs/api-reference/chat/object
- responses: https://platform.openai.com/docs/api-reference/responses/object
- embeddings: https://platform.openai.com/docs/api-reference/embeddings

Tokens of audio and images are parts of the wholes. Mistral's are not: it bills audio by the second, and counts it in
`total_tokens` only.
"""

from __future__ import annotations

from typing import Any

from budgetguard.wire.costs import stated_cost
from budgetguard.wire.counts import Counts, consistent, count, get


def openai_counts(usage: Any) -> Counts | None:
    """The counts of a usage that names its tokens as chat or as responses does; None if it does neither.

    Raises:
        InvalidAmount: a count is none; names the field.
    """
    if get(usage, "prompt_tokens") is not None:
        return _read(usage, "prompt_tokens", "completion_tokens")
    if get(usage, "input_tokens") is not None and get(usage, "output_tokens") is not None:
        return _read(usage, "input_tokens", "output_tokens")
    return None


def embedding_counts(usage: Any) -> Counts | None:
    """The counts of a usage without output, which Voyage states as a total only. None is unknown, as zero is: texts
    that were embedded have tokens.

    Raises:
        InvalidAmount: a count is none; names the field.
    """
    entire = count(usage, "prompt_tokens") or count(usage, "total_tokens")
    return Counts(entire, 0, cost_usd=stated_cost(usage)) if entire else None


def _read(usage: Any, whole_in: str, whole_out: str) -> Counts:
    """Chat and responses differ in the names of the wholes only."""
    inputs, outputs = get(usage, f"{whole_in}_details"), get(usage, f"{whole_out}_details")
    entire, output, total = count(usage, whole_in), count(usage, whole_out), count(usage, "total_tokens")
    if get(usage, whole_out) is None:  # old completions that generated nothing, embeddings
        output = max(total - entire, 0)
    read = count(inputs, "cached_tokens", f"{whole_in}_details.")
    for beside in ("num_cached_tokens", "cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens"):
        read = read or count(usage, beside)  # Mistral; Together and Hugging Face; DeepSeek; Databricks
    write = count(inputs, "cache_write_tokens", f"{whole_in}_details.") or count(usage, "cache_creation_input_tokens")
    reasoning = count(outputs, "reasoning_tokens", f"{whole_out}_details.")
    # xAI's chat leaves reasoning out of the output: its total tells, or reasoning above the output does.
    if (reasoning and total == entire + output + reasoning) or (reasoning > output and total != entire + output):
        output += reasoning
    return consistent(entire, output, read, write, 0, reasoning, stated_cost(usage))
