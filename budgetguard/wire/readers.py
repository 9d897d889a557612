"""Which reader reads the bodies of which API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from budgetguard.wire.anthropic_usage import billed_by_model
from budgetguard.wire.apis import Kind
from budgetguard.wire.bedrock_usage import converse_counts, invoke_counts
from budgetguard.wire.cohere_usage import cohere_counts
from budgetguard.wire.counts import Counts, get
from budgetguard.wire.google_usage import gemini_counts, interaction_counts
from budgetguard.wire.ollama_usage import ollama_counts
from budgetguard.wire.openai_usage import embedding_counts, openai_counts


def billed(kind: Kind, body: Any, headers: Mapping[str, str], model: str | None) -> dict[str | None, Counts]:
    """What a body says is billed, by model; None is the model that answered. Empty where it says nothing.

    Raises:
        InvalidAmount: a count is none; names the field.
    """
    if kind in ("messages", "complete"):
        return billed_by_model(get(body, "usage"), model)
    counts = invoke_counts(body, headers) if kind == "invoke" else _READERS[kind](body)
    return {} if counts is None else {None: counts}


def chat_usage(body: Any) -> Any:
    """Where chat completions keep their usage: streams of Groq and Moonshot have places of their own."""
    choices = get(body, "choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return get(body, "usage") or get(get(body, "x_groq"), "usage") or get(first, "usage")


def _cohere(body: Any) -> Counts | None:
    return cohere_counts(get(body, "usage", "meta"))


_READERS: Mapping[Kind, Callable[[Any], Counts | None]] = {
    "chat": lambda body: openai_counts(chat_usage(body)),
    "completions": lambda body: openai_counts(chat_usage(body)),
    "responses": lambda body: openai_counts(get(body, "usage")),
    "embeddings": lambda body: embedding_counts(get(body, "usage")),
    "generateContent": lambda body: gemini_counts(get(body, "usageMetadata")),
    "embedContent": lambda body: gemini_counts(get(body, "usageMetadata")),
    "interactions": lambda body: interaction_counts(get(body, "usage")),
    "converse": lambda body: converse_counts(get(body, "usage")),
    "cohere_chat": _cohere,
    "cohere_chat_v1": _cohere,
    "cohere_embed": _cohere,
    "rerank": lambda body: _cohere(body) or embedding_counts(get(body, "usage")),
    "ollama_chat": ollama_counts,
    "ollama_generate": ollama_counts,
    "ollama_embed": ollama_counts,
}
