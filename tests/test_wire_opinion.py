"""A second opinion: where genai-prices can read a recorded body, it reads what our readers read."""

from __future__ import annotations

from collections import Counter
from typing import Any

from genai_prices import extract_usage
from wire_kit import exchanges
from wire_truth import read

PROVIDERS = {
    "anthropic": "anthropic", "azure_openai": "azure", "bedrock": "aws", "cerebras": "cerebras", "cohere": "cohere",
    "deepseek": "deepseek", "gemini": "google", "gemini_openai_compat": "google", "groq": "groq", "mistral": "mistral",
    "moonshot": "moonshotai", "openai": "openai", "openrouter": "openrouter", "perplexity": "perplexity",
    "together": "huggingface_together", "vertex": "google", "xai": "x-ai", "zai": "zai",
}  # fmt: skip
FLAVORS = {
    "chat": ("chat", "default"), "completions": ("chat", "default"), "responses": ("responses",),
    "responses_compact": ("responses",), "embeddings": ("embeddings", "default"), "invoke": ("anthropic",),
}  # fmt: skip
NAMES = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")

# Grok on Azure states more cached tokens than prompt tokens, which we lower to the prompt; of Mistral's cached tokens
# it does not know the older name, `num_cached_tokens`.
EXCEPTIONS = {("azure_openai", "grok-4-1-fast-non-reasoning"): 5, ("mistral", "num_cached_tokens"): 4}


def opinion(provider: str, api: str, body: Any) -> tuple[int, ...] | None:
    """What genai-prices reads; None where it cannot read the body, as with every model that it does not know."""
    for flavor in FLAVORS.get(api, ("default",)):
        try:
            usage = extract_usage(body, provider_id=PROVIDERS[provider], api_flavor=flavor).usage
        except (LookupError, ValueError, AttributeError):
            continue
        if usage is not None:
            return tuple(getattr(usage, name, None) or 0 for name in NAMES)
    return None


def test_genai_prices_reads_what_our_readers_read_wherever_it_can() -> None:
    agreed, differ = Counter[str](), Counter[tuple[str, str]]()
    for row in exchanges():
        body = row["response"].get("json")
        stated = row["truth_kind"] == "reported" and row["api"] != "count_tokens" and isinstance(body, dict)
        if stated and row["provider"] in PROVIDERS and (other := opinion(row["provider"], row["api"], body)):
            ours = read(row)
            assert ours is not None
            if other == tuple(getattr(ours.usage, name) for name in NAMES):
                agreed[row["provider"]] += 1
            else:
                odd = "num_cached_tokens" if "num_cached_tokens" in row["usage_truth"]["raw"] else row["model"]
                differ[row["provider"], odd] += 1
    print("\nagreed:", ", ".join(f"{provider} {count}" for provider, count in sorted(agreed.items())))
    assert differ == EXCEPTIONS
    assert agreed.total() > 500
