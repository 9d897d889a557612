"""What a request may bring back: the bound that it states itself, under whatever name, and the most a model writes.

A bound holds: in 1,161 recorded calls with one, none had more output, reasoning included. Where thinking has a budget
of its own it lies inside the bound (Anthropic, Gemini, Cohere, OpenRouter), save at Alibaba, whose `max_tokens` does
not count it (https://www.alibabacloud.com/help/en/model-studio/deep-thinking).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from budgetguard.estimates.families import first_match
from budgetguard.wire.apis import Api, Kind

MOST_TOKENS: Final = 10_000_000
"""No model writes more; a larger bound is none."""
MOST_CHOICES: Final = 1_024
_Path = tuple[str, ...]

_GEMINI: tuple[_Path, ...] = tuple(
    (table, name)
    for table in ("generationConfig", "generation_config")
    for name in ("maxOutputTokens", "max_output_tokens")
)
_PATHS: Mapping[Kind, tuple[_Path, ...]] = {
    "chat": (("max_completion_tokens",), ("max_tokens",)),
    "completions": (("max_tokens",), ("max_completion_tokens",)),
    "responses": (("max_output_tokens",),),
    "messages": (("max_tokens",),),
    "complete": (("max_tokens_to_sample",),),
    "generateContent": _GEMINI,
    "interactions": _GEMINI,
    "converse": (("inferenceConfig", "maxTokens"),),
    "invoke": (
        ("max_tokens",), ("max_gen_len",), ("max_tokens_to_sample",), ("maxTokens",), ("max_completion_tokens",),
        ("textGenerationConfig", "maxTokenCount"), ("inferenceConfig", "maxTokens"),
        ("inferenceConfig", "max_new_tokens"),
    ),
    "cohere_chat": (("max_tokens",),),
    "cohere_chat_v1": (("max_tokens",),),
    "ollama_chat": (("options", "num_predict"),),
    "ollama_generate": (("options", "num_predict"),),
}  # fmt: skip
_CHOICES: Mapping[Kind, tuple[_Path, ...]] = {
    "chat": (("n",),),
    "completions": (("n",), ("best_of",)),
    "generateContent": tuple(
        (table, name) for table, _ in _GEMINI[::2] for name in ("candidateCount", "candidate_count")
    ),
}
_NO_OUTPUT = frozenset(("embeddings", "embedContent", "cohere_embed", "rerank", "ollama_embed"))

# By the model's plain name, the first that matches. OpenAI: https://developers.openai.com/api/docs/models; Anthropic:
# https://platform.claude.com/docs/en/about-claude/models/overview; Google: https://ai.google.dev/gemini-api/docs/models;
# DeepSeek, Cohere, Amazon: their model cards. Bounds that need a beta header are not here.
_MOST_BY_MODEL: tuple[tuple[str, int], ...] = (
    ("gpt-5*-chat*", 16_384), ("gpt-5-pro*", 272_000), ("gpt-5*", 128_000),
    ("o1-preview*", 32_768), ("o1-mini*", 65_536), ("o[1-9]*", 100_000),
    ("gpt-4.1*", 32_768), ("gpt-4o-2024-05-13*", 4_096), ("gpt-4o*", 16_384), ("chatgpt-4o*", 16_384),
    ("gpt-4.5*", 16_384), ("gpt-4-turbo*", 4_096), ("gpt-4-*-preview", 4_096), ("gpt-4*", 8_192),
    ("gpt-3*", 4_096), ("text-embedding-*", 0),
    ("*claude-3-7*", 64_000), ("*claude-3-5*", 8_192), ("*claude-[0-3]*", 4_096), ("*claude-instant*", 4_096),
    ("*claude-v[12]*", 4_096), ("*claude-opus-4[-@]20*", 32_000), ("*claude-opus-4-[01]*", 32_000),
    ("*claude-opus-4", 32_000), ("*claude-4-opus*", 32_000), ("*claude-*-4[-@]20*", 64_000),
    ("*claude-*-4[-.][0-5]*", 64_000), ("*claude-*-4", 64_000), ("*claude-4-sonnet*", 64_000), ("*claude*", 128_000),
    ("*gemini-1.*", 8_192), ("*gemini-2.0*", 8_192), ("*gemini*", 65_536),
    ("deepseek-chat*", 8_192), ("deepseek-reasoner*", 65_536),
    ("*command-a-reasoning*", 32_768), ("*command-a*", 8_192), ("*command*", 4_096),
    ("*nova-*", 10_000),
)  # fmt: skip


@lru_cache(maxsize=1024)
def most_of_model(model: str) -> int | None:
    """The most tokens that a model writes in one answer, by its plain name; None where it is not known."""
    return first_match(_MOST_BY_MODEL, model)


def has_output(api: Api, body: Mapping[str, Any], model: str) -> bool:
    """Whether the API writes anything that is billed: embeddings and ranks are not output."""
    if api.kind == "invoke":
        return not ("embed" in model or "rerank" in model or "texts" in body or "embeddingConfig" in body)
    return api.kind not in _NO_OUTPUT


def bound_of(api: Api, body: Mapping[str, Any]) -> int | None:
    """The most output tokens of one answer that the request itself allows. None if it names none, or none that is
    meant: negative, zero, no whole number, above ten million. Of several the largest: which one counts is the server's.
    """
    bounds = [bound for path in _PATHS.get(api.kind, ()) if (bound := _number(body, path, MOST_TOKENS))]
    if not bounds:
        return None
    if api.provider != "alibaba" or not body.get("enable_thinking"):
        return max(bounds)
    thinking = _number(body, ("thinking_budget",), MOST_TOKENS)
    return None if thinking is None else max(bounds) + thinking


def choices_of(api: Api, body: Mapping[str, Any]) -> int:
    """How many answers the request asks for, at least 1."""
    asked = [number for path in _CHOICES.get(api.kind, ()) if (number := _number(body, path, MOST_CHOICES))]
    prompts = body.get("prompt") if api.kind == "completions" else None
    several = isinstance(prompts, list) and len(prompts) > 0 and not isinstance(prompts[0], int)
    return max(asked, default=1) * (len(prompts) if several and prompts else 1)


def path_of_bound(api: Api, body: Mapping[str, Any], model: str) -> _Path | None:
    """Where this API and model take a bound, as the keys down to it; None where nothing is known to take one."""
    if api.kind == "chat":
        # OpenAI's reasoning models refuse max_tokens; on Azure older models of old versions refuse the other.
        reasons = first_match((("o[1-9]*", True), ("gpt-5*", True), ("gpt-6*", True)), model) or False
        newer = api.provider == "openai" or (api.provider == "azure_openai" and reasons)
        return ("max_completion_tokens",) if newer else ("max_tokens",)
    if api.kind in ("generateContent", "interactions"):
        if api.kind == "interactions" or "generation_config" in body:
            return ("generation_config", "max_output_tokens")
        return ("generationConfig", "maxOutputTokens")
    if api.kind == "invoke":
        return _path_of_invoke(body, model)
    return next(iter(_PATHS.get(api.kind, ())), None)


def _path_of_invoke(body: Mapping[str, Any], model: str) -> _Path | None:
    """By vendor (https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html)."""
    if "anthropic_version" in body:
        return ("max_tokens",)
    by_vendor: tuple[tuple[str, _Path], ...] = (
        ("*titan-text*", ("textGenerationConfig", "maxTokenCount")),
        ("*nova*", ("inferenceConfig", "maxTokens")),
        ("*llama*", ("max_gen_len",)),
        *((f"*{name}*", ("max_tokens",)) for name in ("mistral", "mixtral", "command", "jamba", "deepseek", "gpt-oss")),
        ("*claude*", ("max_tokens_to_sample",)),  # without anthropic_version: the old text completions
    )
    return first_match(by_vendor, model)


def _number(body: Mapping[str, Any], path: _Path, most: int) -> int | None:
    """The whole number from 1 to `most` at these keys."""
    value: Any = body
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if type(value) is int and 1 <= value <= most else None
