"""Usage as Ollama's own API reports it: https://github.com/ollama/ollama/blob/main/docs/api.md"""

from __future__ import annotations

from typing import Any

from budgetguard.wire.counts import Counts, count, get


def ollama_counts(body: Any) -> Counts | None:
    """The counts of a body, or of the last line of a stream; None where it states neither.

    Ollama omits a count that is zero, so that a prompt which lay in the cache altogether has none: no prompt token
    was worked on.

    Raises:
        InvalidAmount: a count is none; names the field.
    """
    if get(body, "prompt_eval_count", "eval_count") is None:
        return None
    return Counts(count(body, "prompt_eval_count"), count(body, "eval_count"))
