"""Estimates of requests written by hand: texts of every kind, tools, hostile bodies."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budgetguard.core.amounts import MAX_AMOUNT
from budgetguard.estimate import Estimate, EstimateSettings, estimate, with_bound
from budgetguard.wire.apis import Api

BYTES = EstimateSettings(default_output_tokens=777, tokenizer="bytes")
CHAT = Api("chat", "openai")
KINDS = (
    "chat", "completions", "responses", "embeddings", "messages", "complete", "generateContent", "embedContent",
    "interactions", "converse", "invoke", "cohere_chat", "cohere_chat_v1", "cohere_embed", "rerank", "ollama_chat",
    "ollama_generate", "ollama_embed",
)  # fmt: skip


def known(api: Api, body: Any, how: EstimateSettings = BYTES) -> Estimate:
    return estimate(api, body, len(json.dumps(body, default=str)), how)


def input_tokens(text: str, model: str, tokenizer: str = "bytes") -> int:
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    return known(CHAT, body, EstimateSettings(tokenizer=tokenizer)).usage.input_tokens  # type: ignore[arg-type]


TEXTS = {
    "prose": "The quick brown fox jumps over the lazy dog and runs home before it gets dark. " * 30,
    "code": "def f(self, x: int) -> None:\n    return {k: v for k, v in self._table.items() if v >= x}\n" * 25,
    "json": json.dumps([{"id": number, "name": f"n{number}", "price": number * 1.07} for number in range(60)]),
    "German": "Der schnelle braune Fuchs springt über den faulen Hund, während Müßiggänger schlafen. " * 25,
    "Russian": "Быстрая коричневая лиса прыгает через ленивую собаку и бежит домой. " * 25,
    "Chinese": "敏捷的棕色狐狸跳过懒狗,然后跑回家去吃晚饭。今天天气很好。" * 40,
    "Japanese": "素早い茶色の狐がのろまな犬を飛び越えました。今日はとてもいい天気ですね。" * 40,
    "Hindi": "तेज भूरी लोमड़ी आलसी कुत्ते के ऊपर से कूदती है और घर लौटती है। " * 25,
    "emoji": "😀🎉🚀🔥❤️👍🏽👩‍👩‍👧‍👦🇩🇪🦊🐶" * 60,
    "hex": "9f8e7d6c5b4a39281706f5e4d3c2b1a0" * 60,
    "digits": "3141592653589793238462643383279502884197" * 50,
    "capitals": "THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG AND RUNS HOME. " * 30,
}


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4"])
@pytest.mark.parametrize("kind", TEXTS)
def test_weighing_bounds_what_openais_tokenizers_count_in_every_script(kind: str, model: str) -> None:
    openai = pytest.importorskip("rs_bpe.bpe", reason="rs-bpe is not installed").openai
    counted = (openai.o200k_base() if model == "gpt-4o" else openai.cl100k_base()).count(TEXTS[kind])
    weighed = input_tokens(TEXTS[kind], model) - input_tokens("", model)
    assert counted <= weighed <= 4 * counted


def test_a_long_text_weighs_as_much_as_its_parts() -> None:
    for text in TEXTS.values():
        part = text * (50_000 // len(text))
        whole = input_tokens(part * 20, "gpt-4o")
        assert whole == pytest.approx(20 * input_tokens(part, "gpt-4o"), rel=0.02)


def test_a_short_text_for_openai_is_counted_where_a_tokenizer_is_at_hand() -> None:
    openai = pytest.importorskip("rs_bpe.bpe", reason="rs-bpe is not installed").openai
    text = "Say in one word: is 2,147,483,647 prime? \ud83e"
    counted = openai.o200k_base().count(text.replace("\ud83e", "?"))
    assert input_tokens(text, "gpt-4o", "auto") - input_tokens("", "gpt-4o", "auto") == counted
    assert input_tokens(text, "gpt-4o") > input_tokens(text, "gpt-4o", "auto")
    assert input_tokens(text, "claude-opus-5") == input_tokens(text, "claude-opus-5", "auto")


def test_tools_schemas_and_arguments_count_with_their_keys() -> None:
    plain = known(CHAT, {"messages": []}).usage.input_tokens
    schema = {"type": "object", "properties": {"a_rather_long_name": {"type": "string", "description": "what it is"}}}
    for body in (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}},
        {
            "messages": [
                {"role": "assistant", "content": [{"type": "tool_use", "input": {"a_rather_long_name": schema}}]}
            ]
        },
    ):
        assert known(CHAT, {"messages": [], **body}).usage.input_tokens >= plain + len(json.dumps(schema)) // 5


@pytest.mark.parametrize(
    ("model", "tool", "more"),
    [
        ("claude-sonnet-4-5", {"type": "web_search_20250305", "name": "web_search"}, 5_000),
        ("claude-sonnet-4-5", {"type": "bash_20250124", "name": "bash"}, 0),
        ("gpt-4o", {"type": "web_search"}, 1_500),
        ("gpt-4o", {"type": "function", "name": "web_search"}, 0),
        ("gemini-2.5-flash", {"googleSearch": {}}, 1_000),
        ("gemini-2.5-flash", {"functionDeclarations": []}, 0),
    ],
)
def test_tools_that_the_provider_runs_hold_something_for_what_they_find(model: str, tool: Any, more: int) -> None:
    body = {"model": model, "tools": [tool]}
    plain = known(CHAT, {"model": model, "tools": [{"name": "of the callers own"}]}).usage.input_tokens
    assert more - 50 < known(CHAT, body).usage.input_tokens - plain < more + 50


def test_what_never_reaches_the_model_is_not_counted() -> None:
    body = {"messages": [{"role": "user", "content": "hello"}]}
    beside = {"metadata": {"a": "b" * 1_000}, "user": "u" * 1_000, "stop": ["s" * 1_000], "model": "m" * 1_000}
    assert known(CHAT, {**body, **beside}) == known(CHAT, body)


@pytest.mark.parametrize("beside", [{"type": "image"}, {"image": {}}, {"input": [1, "word " * 2_000]}])
def test_what_looks_like_a_medium_or_tokens_hides_no_text(beside: dict[str, Any]) -> None:
    body = {"messages": [{"role": "user", "content": "word " * 2_000}], **beside}
    assert known(CHAT, body).usage.input_tokens >= (2_000 if "input" not in beside else 4_000)


def test_token_numbers_count_one_each_and_documents_are_read_with_the_query() -> None:
    embeddings = Api("embeddings", "openai")
    assert known(embeddings, {"input": list(range(500))}).usage.input_tokens in range(500, 510)
    assert known(embeddings, {"input": [[1] * 300, [2] * 200]}).usage.input_tokens in range(500, 510)
    rank = {"query": "which of them is it? " * 10, "documents": ["one"]}
    one, ten = (known(Api("rerank", "cohere"), {**rank, "documents": ["one"] * n}).usage.input_tokens for n in (1, 10))
    assert ten > 9 * one


def test_of_a_body_too_large_to_look_at_the_rest_counts_by_its_length() -> None:
    many = {"messages": [{"role": "user", "content": "x"}] * 100_000}
    found = known(CHAT, many).usage.input_tokens
    assert 400_000 < found < 2_000_000
    nested: Any = "x"
    for _ in range(100_000):
        nested = [{"content": nested}]
    assert estimate(CHAT, {"messages": nested}, 2_000_000).usage.input_tokens > 100_000


NAMES = st.sampled_from([
    "model", "messages", "content", "role", "type", "text", "image", "image_url", "url", "source", "data", "input",
    "tools", "parameters", "n", "max_tokens", "generationConfig", "inferenceConfig", "options", "images", "detail",
    "documents", "query", "prompt", "thinking", "format", "system",
])  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("data:;base64,"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(NAMES, JSON, max_size=8), st.sampled_from(KINDS), st.integers(0, 2**60))
def test_no_body_makes_an_estimate_fail(body: dict[str, Any], kind: Any, raw_bytes: int) -> None:
    api = Api(kind, "openai")
    usage = estimate(api, body, raw_bytes).usage
    assert 0 <= usage.input_tokens + usage.output_tokens <= MAX_AMOUNT
    bounded = with_bound(api, body, 10)
    assert {key for key in bounded if key not in body} | {key for key in body if body[key] is not bounded[key]} <= {
        "max_tokens", "max_completion_tokens", "max_output_tokens", "max_tokens_to_sample", "generationConfig",
        "generation_config", "inferenceConfig", "options",
    }  # fmt: skip
