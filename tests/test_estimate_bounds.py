"""What a request may bring back: its own bound under every name, the model's maximum, a default; how one is written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from budgetguard.estimate import EstimateSettings, estimate, with_bound
from budgetguard.wire.apis import Api

SETTINGS = EstimateSettings(default_output_tokens=777, tokenizer="bytes")
CHAT = Api("chat", "openai")
KINDS = (
    "chat", "completions", "responses", "embeddings", "messages", "complete", "generateContent", "embedContent",
    "interactions", "converse", "invoke", "cohere_chat", "cohere_chat_v1", "cohere_embed", "rerank", "ollama_chat",
    "ollama_generate", "ollama_embed",
)  # fmt: skip


def output(api: Api, body: Any) -> tuple[int, bool]:
    found = estimate(api, body, 100, SETTINGS)
    return found.usage.output_tokens, found.bounded


@pytest.mark.parametrize(
    ("kind", "body", "most"),
    [
        ("chat", {"max_tokens": 50}, 50),
        ("chat", {"max_completion_tokens": 50}, 50),
        ("chat", {"max_tokens": 50, "max_completion_tokens": 60}, 60),
        ("chat", {"max_tokens": 50, "n": 3}, 150),
        ("completions", {"max_tokens": 50, "n": 2, "best_of": 5}, 250),
        ("completions", {"max_tokens": 50, "n": 2, "prompt": ["a", "b", "c"]}, 300),
        ("completions", {"max_tokens": 50, "prompt": [1, 2, 3]}, 50),
        ("completions", {"max_tokens": 50, "prompt": [[1, 2], [3]]}, 100),
        ("responses", {"max_output_tokens": 50, "reasoning": {"effort": "high"}}, 50),
        ("messages", {"max_tokens": 50, "thinking": {"type": "enabled", "budget_tokens": 40}}, 50),
        ("complete", {"max_tokens_to_sample": 50}, 50),
        ("generateContent", {"generationConfig": {"maxOutputTokens": 50}}, 50),
        ("generateContent", {"generation_config": {"max_output_tokens": 50}}, 50),
        ("generateContent", {"generationConfig": {"max_output_tokens": 50, "candidate_count": 2}}, 100),
        ("generateContent", {"generationConfig": {"maxOutputTokens": 50, "candidateCount": 4}}, 200),
        ("interactions", {"generation_config": {"max_output_tokens": 50}}, 50),
        ("converse", {"inferenceConfig": {"maxTokens": 50}}, 50),
        ("invoke", {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 50}, 50),
        ("invoke", {"prompt": "p", "max_gen_len": 50}, 50),
        ("invoke", {"prompt": "p", "max_tokens_to_sample": 50}, 50),
        ("invoke", {"inputText": "p", "textGenerationConfig": {"maxTokenCount": 50}}, 50),
        ("invoke", {"messages": [], "inferenceConfig": {"max_new_tokens": 50}}, 50),
        ("invoke", {"messages": [], "inferenceConfig": {"maxTokens": 50}}, 50),
        ("cohere_chat", {"max_tokens": 50}, 50),
        ("cohere_chat_v1", {"max_tokens": 50}, 50),
        ("ollama_chat", {"options": {"num_predict": 50}}, 50),
        ("ollama_generate", {"options": {"num_predict": 50}}, 50),
    ],
)
def test_the_requests_own_bound_counts_under_every_name(kind: Any, body: dict[str, Any], most: int) -> None:
    assert output(Api(kind, "someone", "m"), body) == (most, True)
    without = {key: value for key, value in body.items() if key in ("prompt", "n", "inputText")}
    assert output(Api(kind, "someone", "m"), without)[1] is False


@pytest.mark.parametrize("wrong", [-1, 0, True, "50", 50.0, None, [], {}, 10**7 + 1, 10**400, float("nan")])
@pytest.mark.parametrize("path", ["max_tokens", "options", "generationConfig", "inferenceConfig"])
def test_a_bound_that_is_none_is_ignored(path: str, wrong: Any) -> None:
    for kind in KINDS:
        output_tokens, bounded = output(Api(kind, "someone", "m"), {path: wrong})  # type: ignore[arg-type]
        embeds = output_tokens == 0
        assert (output_tokens, bounded) == ((0, True) if embeds else (777, False))


@pytest.mark.parametrize("wrong", [-3, 0, True, "3", 10**9, None, [3]])
def test_a_number_of_answers_that_is_none_is_one(wrong: Any) -> None:
    assert output(CHAT, {"max_tokens": 50, "n": wrong}) == (50, True)


def test_alibaba_counts_thinking_outside_the_bound() -> None:
    api, body = Api("chat", "alibaba"), {"max_tokens": 50, "enable_thinking": True, "thinking_budget": 30}
    assert output(api, body) == (80, True)
    assert output(api, {"max_tokens": 50, "enable_thinking": True}) == (777, False)
    assert output(Api("chat", "openai"), body) == (50, True)


@pytest.mark.parametrize(
    ("model", "most"),
    [
        ("gpt-4o-mini", 16_384),
        ("gpt-4.1-nano-2025-04-14", 32_768),
        ("openai/gpt-5.1", 128_000),
        ("gpt-5-chat-latest", 16_384),
        ("o3-mini", 100_000),
        ("ft:gpt-3.5-turbo:acme::x", 4_096),
        ("claude-3-5-haiku-20241022", 8_192),
        ("claude-sonnet-4-20250514", 64_000),
        ("us.anthropic.claude-opus-4-1-20250805-v1:0", 32_000),
        ("claude-opus-4-20250514", 32_000),
        ("claude-opus-4-6", 128_000),
        ("claude-opus-9", 128_000),
        ("gemini-2.0-flash", 8_192),
        ("gemini-2.5-pro", 65_536),
        ("nobody-knows-this", 777),
        (None, 777),
        (["gpt-4o"], 777),
    ],
)
def test_without_a_bound_it_is_the_models_maximum_or_the_default(model: Any, most: int) -> None:
    assert output(CHAT, {"model": model}) == (most, False)
    assert output(CHAT, {"model": model, "n": 2}) == (2 * most, False)


@pytest.mark.parametrize("kind", ["embeddings", "embedContent", "cohere_embed", "rerank", "ollama_embed"])
def test_embeddings_and_ranks_have_no_output(kind: Any) -> None:
    assert output(Api(kind, "someone"), {"input": "text", "max_tokens": 9}) == (0, True)
    assert output(Api("invoke", "bedrock", "amazon.titan-embed-text-v2:0"), {"inputText": "text"}) == (0, True)
    assert output(Api("invoke", "bedrock", "cohere.embed-v4:0"), {"texts": ["text"]}) == (0, True)


@pytest.mark.parametrize(
    ("api", "body", "name"),
    [
        (CHAT, {"model": "gpt-5"}, "max_completion_tokens"),
        (CHAT, {"model": "gpt-4o"}, "max_completion_tokens"),
        (Api("chat", "azure_openai", "o3-mini"), {}, "max_completion_tokens"),
        (Api("chat", "azure_openai", "our-deployment"), {}, "max_tokens"),
        (Api("chat", "groq"), {"model": "llama-3.3-70b"}, "max_tokens"),
        (Api("completions", "openai"), {}, "max_tokens"),
        (Api("responses", "openai"), {}, "max_output_tokens"),
        (Api("messages", "anthropic"), {}, "max_tokens"),
        (Api("complete", "anthropic"), {}, "max_tokens_to_sample"),
        (Api("cohere_chat", "cohere"), {}, "max_tokens"),
        (Api("invoke", "bedrock", "anthropic.claude-3-haiku"), {"anthropic_version": "x"}, "max_tokens"),
        (Api("invoke", "bedrock", "anthropic.claude-v2"), {"prompt": "p"}, "max_tokens_to_sample"),
        (Api("invoke", "bedrock", "meta.llama3-8b-instruct-v1:0"), {"prompt": "p"}, "max_gen_len"),
        (Api("invoke", "bedrock", "mistral.mistral-large-2402-v1:0"), {"prompt": "p"}, "max_tokens"),
    ],
)
def test_a_bound_is_written_under_the_name_that_the_api_takes(api: Api, body: dict[str, Any], name: str) -> None:
    assert with_bound(api, body, 99) == {**body, name: 99}


@pytest.mark.parametrize(
    ("api", "body", "path"),
    [
        (Api("generateContent", "gemini"), {}, ("generationConfig", "maxOutputTokens")),
        (Api("generateContent", "gemini"), {"generationConfig": {"topK": 1}}, ("generationConfig", "maxOutputTokens")),
        (Api("generateContent", "vertex"), {"generation_config": {}}, ("generation_config", "max_output_tokens")),
        (Api("interactions", "gemini"), {}, ("generation_config", "max_output_tokens")),
        (Api("converse", "bedrock", "m"), {"inferenceConfig": {"topP": 1}}, ("inferenceConfig", "maxTokens")),
        (Api("ollama_chat", "ollama"), {"options": {"num_predict": -1}}, ("options", "num_predict")),
        (Api("invoke", "bedrock", "amazon.titan-text-lite-v1"), {}, ("textGenerationConfig", "maxTokenCount")),
        (Api("invoke", "bedrock", "us.amazon.nova-pro-v1:0"), {}, ("inferenceConfig", "maxTokens")),
    ],
)
def test_a_bound_inside_a_table_keeps_what_the_table_has(api: Api, body: dict[str, Any], path: tuple[str, str]) -> None:
    before = json.dumps(body)
    assert with_bound(api, body, 99) == {**body, path[0]: {**body.get(path[0], {}), path[1]: 99}}
    assert json.dumps(body) == before


@pytest.mark.parametrize(
    ("api", "body"),
    [
        (CHAT, {"max_tokens": 5}),
        (Api("embeddings", "openai"), {"input": "x"}),
        (Api("rerank", "cohere"), {"query": "x"}),
        (Api("invoke", "bedrock", "nobody.knows-v1"), {"prompt": "x"}),
        (Api("converse", "bedrock", "m"), {"inferenceConfig": "hostile"}),
    ],
)
def test_what_is_bounded_or_takes_no_bound_stays_as_it_is(api: Api, body: dict[str, Any]) -> None:
    bounded = with_bound(api, body, 99)
    assert bounded == body
    assert bounded is not body


def test_several_answers_share_a_bound() -> None:
    for n, each in ((2, 50), (3, 33), (200, 1)):
        bounded = with_bound(CHAT, {"n": n}, 100)
        assert bounded["max_completion_tokens"] == each
