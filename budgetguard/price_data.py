"""The built-in price data, which is that of genai-prices (https://github.com/pydantic/genai-prices, MIT).

It is imported at the first call that needs it. Only token counts are priced, and requests: the data's prices for
searches, pages, characters and hours of audio are not, and audio and image tokens cost what text does. A model that is
billed by such units alone has no price here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from budgetguard.core.amounts import MAX_AMOUNT
from budgetguard.data_price import DataPrice, Span, dearest_of, span_of, valid

if TYPE_CHECKING:
    from genai_prices.types import Provider

LOCAL = frozenset(["ollama", "vllm", "lmstudio", "local"])
"""Providers that are a program on the user's machine, whatever model they run."""
OWN_PRICES = frozenset(
    [
        "ai21", "alibaba", "crusoe", "deepinfra", "github", "huggingface", "hyperbolic", "jina", "nebius", "nvidia",
        "sambanova", "snowflake", "writer",
    ]
)  # fmt: skip
"""Providers that sell models, other makers' too, at prices of their own, which the data lacks."""
_IDS = {"azure_openai": "azure", "bedrock": "aws", "bedrock_mantle": "aws", "gemini": "google", "vertex": "google"}
"""The data's names of providers; others it knows by themselves."""
_MAX_CACHED = 1024
_NEVER = Span(-MAX_AMOUNT, MAX_AMOUNT, None)


class _Data:
    """What was imported, and what was found in it."""

    def __init__(self) -> None:
        from genai_prices import __version__
        from genai_prices.data import providers

        self.providers = providers
        self.source = f"genai-prices {__version__}"
        self.found: dict[tuple[str | None, str], Span] = {}
        self.dearest: dict[str | None, Span] = {}


_data: _Data | None = None


def loaded() -> bool:
    """Whether the data has been imported."""
    return _data is not None


def load() -> None:
    """Import the data, which takes a third of a second. From any thread."""
    _the_data()


def find(provider: str | None, model: str, at_ms: int) -> DataPrice | None:
    """The price of a call admitted at `at_ms`; None where the data has none, or none by tokens.

    Args:
        provider: who is asked; None, or one of whom the data knows nothing: the name of the model tells.
    """
    data = _the_data()
    span = data.found.get((provider, model))
    if span is None or not span.since_ms <= at_ms < span.until_ms:
        if len(data.found) >= _MAX_CACHED:
            data.found.clear()  # names come from callers: what is kept of them has a bound
        span = data.found[provider, model] = _looked_up(data, provider, model, at_ms)
    return span.price


def dearest(provider: str | None, at_ms: int) -> DataPrice | None:
    """The price of the provider's dearest model, or of the dearest of all where the data does not know the provider.

    It is the one of which a million tokens in and a million out cost most, together, for the longest input.
    """
    data = _the_data()
    one = _provider(data, provider)
    id = None if one is None else one.id
    span = data.dearest.get(id)
    if span is None or not span.since_ms <= at_ms < span.until_ms:
        span = data.dearest[id] = _dearest(data, one, at_ms)
    return span.price


def names(provider: str | None) -> list[str]:
    """The data's names for the models of a provider; of all where it does not know the provider."""
    data = _the_data()
    one = _provider(data, provider)
    return sorted({model.id for each in (data.providers if one is None else [one]) for model in each.models})


def _the_data() -> _Data:
    global _data
    if _data is None:
        _data = _Data()
    return _data


def _provider(data: _Data, provider: str | None) -> Provider | None:
    from genai_prices.data_snapshot import find_provider_by_id

    return None if provider is None else find_provider_by_id(data.providers, _IDS.get(provider, provider))


def _looked_up(data: _Data, provider: str | None, model: str, at_ms: int) -> Span:
    from genai_prices.data_snapshot import DataSnapshot

    if provider in LOCAL or provider in OWN_PRICES:
        return _NEVER
    known = _provider(data, provider)
    # A snapshot remembers each name that it is asked for: this one is gone again. Asked as if by LiteLLM it heeds
    # "provider/model", and else lets the name of the model tell the provider.
    snapshot = DataSnapshot(data.providers, from_auto_update=False)
    try:
        _, found = snapshot.find_provider_model(model, known, None if known else "litellm", None)
    except LookupError:
        return _NEVER
    span = span_of(found, data.source, at_ms)
    # Who runs a model for nothing is told by his name, not by the model's.
    return span if known or span.price is None or _costs(span.price) else _NEVER


def _costs(price: DataPrice) -> bool:
    return any(any(rates.numerators) for _, rates in price.steps)


def _dearest(data: _Data, provider: Provider | None, at_ms: int) -> Span:
    chosen = data.providers
    if provider is not None:
        also = provider.fallback_model_providers or ()
        chosen = [provider, *(other for other in data.providers if other.id in also)]
    models = [model for each in chosen for model in each.models]
    best = dearest_of(models, at_ms)
    if best is None:
        return _NEVER
    timed = [valid(model, at_ms) for model in models if isinstance(model.prices, list)]
    since, until = zip((-MAX_AMOUNT, MAX_AMOUNT), *timed, strict=True)
    return Span(max(since), min(until), span_of(best, data.source, at_ms).price)
