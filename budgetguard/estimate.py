"""What a call will take, told from its request alone, before it is sent.

Input is counted exactly where OpenAI's tokenizer is at hand and the text is short, else weighed by its bytes with
factors for each family of models. Output is the request's own bound, else the most that the model writes, else a
setting. What only the provider knows (a conversation that it keeps, what its own tools find) is not in the estimate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from budgetguard.core.amounts import MAX_AMOUNT
from budgetguard.estimates.families import Family, family_of, plain_name
from budgetguard.estimates.outputs import bound_of, choices_of, has_output, most_of_model, path_of_bound
from budgetguard.estimates.reading import Content, read
from budgetguard.estimates.settings import EstimateSettings
from budgetguard.estimates.texts import weigh
from budgetguard.estimates.tokenizers import Counter, counter
from budgetguard.usage import Usage
from budgetguard.wire.apis import Api

__all__ = ["Estimate", "EstimateSettings", "estimate", "load_tokenizers", "why_so_much", "with_bound"]

MOST_EXACT_BYTES = 600
"""A text up to this length is counted, which takes up to 20 us with rs-bpe; a longer one is weighed."""
_MOST_EXACT_TEXTS = 32
_ENCODINGS = ("o200k_base", "cl100k_base")
_KEPT_BY_PROVIDER = ("previous_response_id", "conversation")
"""What stands for texts that the request does not hold."""
_UNSEEN_PERCENT = 35
"""Of the bytes of a body that is too much to look at: tokens for what may be text."""
_DEFAULTS = EstimateSettings()
_MOST = MAX_AMOUNT // 2


class Estimate(NamedTuple):
    """What a request will take."""

    usage: Usage
    bounded: bool
    """The request itself bounds its output, so it can take no more of that."""
    counted: bool = False
    """A tokenizer has counted all of its input, and nothing of it was weighed."""


def estimate(api: Api, body: Mapping[str, Any], raw_bytes: int, settings: EstimateSettings = _DEFAULTS) -> Estimate:
    """Estimate one request; whatever the body holds, this raises nothing and takes a few ms for a megabyte at most.

    Args:
        api: where it goes.
        body: the request's JSON.
        raw_bytes: the length of the body as it is sent, which stands for what is too much to look at.
        settings: the table `[estimate]` of the policy.
    """
    model = _model(api, body)
    family = family_of(api.provider, model)
    found = read(body, raw_bytes)
    exactly = _counted(found, family, settings)
    tokens = max(len(found.texts), _weighed("\n".join(found.texts), family)) if exactly is None else exactly
    tokens += sum(medium.tokens(family.name, model) for medium in found.media)
    tokens += found.token_ids + found.keys
    if not found.is_whole:
        tokens += max(0, raw_bytes - found.seen_bytes) * _UNSEEN_PERCENT * family.ascii_percent // 10_000
    if api.kind == "rerank":
        tokens += _repeated_query(body, family)
    if has_output(api, body, model):
        tokens += found.messages * family.per_message + _around(found, family)
        output, bounded = _output(api, body, model, settings)
    else:
        tokens += max(1, len(found.texts))  # each text of an embedding has an end, or a beginning
        output, bounded = 0, True
    is_text = found.is_only_text and not any(map(body.get, _KEPT_BY_PROVIDER))
    return Estimate(Usage(min(tokens, _MOST), min(output, _MOST)), bounded, exactly is not None and is_text)


def with_bound(api: Api, body: Mapping[str, Any], most_output_tokens: int) -> dict[str, Any]:
    """The same request, its output bounded: a new dict, under the name that this API and model take.

    Nothing is changed where the request is bounded already, has no output, or takes no bound that is known.

    Args:
        api: where it goes.
        body: the request's JSON; it stays as it is.
        most_output_tokens: of the whole call: each of several answers gets its share, at least one token.
    """
    path = _path_of_new_bound(api, body)
    if path is None:
        return dict(body)
    most = max(1, most_output_tokens // choices_of(api, body))
    return {**body, path[0]: most if len(path) == 1 else {**body.get(path[0], {}), path[1]: most}}


def unbounded_answers(api: Api, body: Mapping[str, Any]) -> int:
    """How many answers `with_bound` would bound; 0 where it would change nothing."""
    return 0 if _path_of_new_bound(api, body) is None else choices_of(api, body)


def _path_of_new_bound(api: Api, body: Mapping[str, Any]) -> tuple[str, ...] | None:
    model = _model(api, body)
    path = path_of_bound(api, body, model)
    if path is None or bound_of(api, body) is not None or not has_output(api, body, model):
        return None
    return path if len(path) == 1 or isinstance(body.get(path[0], {}), Mapping) else None


def why_so_much(api: Api, body: Mapping[str, Any], settings: EstimateSettings = _DEFAULTS) -> str:
    """Why the output may be as high as it is, and what lowers that; "" where the request itself bounds it."""
    model = _model(api, body)
    if bound_of(api, body) is not None or not has_output(api, body, model):
        return ""
    most, choices, path = most_of_model(model), choices_of(api, body), path_of_bound(api, body, model)
    several = f"{choices:,} x " if choices > 1 else ""
    whose = "this model's maximum" if most else "what [estimate] default_output_tokens says"
    what_to_do = f": set {'.'.join(path)}" if path else ""
    return f"{several}{most or settings.default_output_tokens:,} output tokens are {whose}{what_to_do}"


def needs_tokenizers(settings: EstimateSettings = _DEFAULTS) -> bool:
    """Whether the first estimates would have to wait for `load_tokenizers`."""
    return settings.tokenizer == "auto" and counter.cache_info().currsize < len(_ENCODINGS)


def load_tokenizers(settings: EstimateSettings = _DEFAULTS) -> None:
    """Load what the first estimates would have to wait for, up to a second; to be called off the event loop."""
    if settings.tokenizer == "auto":
        for encoding in _ENCODINGS:
            counter(encoding)


def _model(api: Api, body: Mapping[str, Any]) -> str:
    asked = api.model or body.get("model")
    return plain_name(asked) if isinstance(asked, str) else ""


def _counted(found: Content, family: Family, settings: EstimateSettings) -> int | None:
    """The tokens of the texts; None where no tokenizer is at hand, or they are too long or too many."""
    texts = found.texts
    if settings.tokenizer != "auto" or not family.encoding or len(texts) > _MOST_EXACT_TEXTS:
        return None
    length = sum(len(text) if text.isascii() else 4 * len(text) for text in texts)
    count = counter(family.encoding) if length <= MOST_EXACT_BYTES else None
    return None if count is None else _exactly(texts, count)


def _exactly(texts: list[str], count: Counter) -> int:
    # A lone surrogate, which JSON can spell, is no UTF-8: it is sent as what replaces it.
    return sum(count(text if text.isascii() else text.encode("utf-8", "replace").decode()) for text in texts)


def _weighed(text: str, family: Family) -> int:
    within, beyond = weigh(text)
    return -(-(within * family.ascii_percent + beyond * family.beyond_percent) // 100_000)


def _around(found: Content, family: Family) -> int:
    """What the provider writes around a request."""
    tokens = family.per_request
    tokens += found.has_tools * family.with_tools + found.has_schema * family.with_schema
    return tokens + found.has_server_tools * family.with_server_tools


def _repeated_query(body: Mapping[str, Any], family: Family) -> int:
    """A query is read again with each document."""
    query, documents = body.get("query"), body.get("documents")
    if not isinstance(query, str) or not isinstance(documents, list):
        return 0
    return _weighed(query, family) * max(0, len(documents) - 1)


def _output(api: Api, body: Mapping[str, Any], model: str, settings: EstimateSettings) -> tuple[int, bool]:
    bound = bound_of(api, body)
    each = bound or most_of_model(model) or settings.default_output_tokens
    return each * choices_of(api, body), bound is not None
