"""Usage as Cohere reports it: https://docs.cohere.com/reference/chat (`usage`; `meta` of the first version, of
embeddings and of rerank).

What is billed are the billed units, not the tokens: a preamble of some hundred tokens is not billed. A cached part is
stated of the tokens only, so that all billed input counts as read afresh. The tokens of images are input; where they
are stated, they are beside the input.
"""

from __future__ import annotations

from typing import Any

from budgetguard.wire.counts import Counts, consistent, get, whole


def cohere_counts(usage: Any) -> Counts | None:
    """The billed counts of a `usage` or a `meta`; None where it states none.

    Searches are billed by the search: where these are the only units, the call took no tokens at all.

    Raises:
        InvalidAmount: a count is none; names the field.
    """
    billed, tokens = get(usage, "billed_units"), get(usage, "tokens")
    for units in (billed, tokens):
        if get(units, "input_tokens", "output_tokens", "image_tokens") is not None:
            entire = whole(units, "input_tokens") + whole(units, "image_tokens")
            return consistent(entire, whole(units, "output_tokens"), reasoning=whole(tokens, "reasoning_tokens"))
    return Counts(0, 0) if whole(billed, "search_units") else None
