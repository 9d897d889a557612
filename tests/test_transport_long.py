"""Bodies that are too long to be kept: memory is bounded, and the usage is found wherever the API states it."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from guard_kit import World
from transport_kit import ASKED, JSON, URLS, Endless, Play, ledger_rows, peak

from budgetguard.wire.apis import Kind

MIB = 2**20
VECTORS = b'[0.123456789, -0.987654321, "' + b"v" * 65_000 + b'"],'
PLAIN_URLS = {
    **URLS,
    "generateContent": "https://generativelanguage.googleapis.com/v1beta/models/m:generateContent",
    "embedContent": "https://generativelanguage.googleapis.com/v1beta/models/m:batchEmbedContents",
    "converse": "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse",
    "invoke": "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/invoke",
    "cohere_embed": "https://api.cohere.com/v2/embed",
    "rerank": "https://api.jina.ai/v1/rerank",
    "ollama_embed": "http://localhost:11434/api/embed",
}
OPENAI = {"prompt_tokens": 4321, "completion_tokens": 7, "total_tokens": 4328}
COHERE = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 4321, "output_tokens": 7}}
BEDROCK = {"inputTokens": 4321, "outputTokens": 7, "totalTokens": 4328}
MESSAGE = {"input_tokens": 4321, "output_tokens": 7}
GEMINI = {"promptTokenCount": 4321, "candidatesTokenCount": 7, "promptTokensDetails": [{"modality": "TEXT"}]}
LONG: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    # Where each API states its usage: its kind, what is before the long member, its name, what is after it.
    ("chat", {"id": "c-1"}, "choices", {"usage": OPENAI, "service_tier": "default"}),
    ("chat", {"id": "c-1", "usage": OPENAI, "object": "chat.completion"}, "choices", {}),
    ("completions", {"id": "c-1"}, "choices", {"usage": OPENAI}),
    ("responses", {"id": "r-1", "status": "completed"}, "output", {
        "tools": [{"parameters": {"properties": {"usage": {"type": "object"}, "model": {"type": "string"}}}}],
        "usage": {**MESSAGE, "output_tokens_details": {"reasoning_tokens": 0}}, "metadata": {"usage": "mine"}}),
    ("embeddings", {"object": "list"}, "data", {"model": "m", "usage": OPENAI}),
    ("messages", {"id": "m-1"}, "content", {"stop_reason": "end_turn", "usage": MESSAGE}),
    ("generateContent", {}, "candidates", {"usageMetadata": GEMINI, "modelVersion": "m", "responseId": "r"}),
    ("generateContent", {}, "candidates", {"modelVersion": "m", "responseId": "r", "usageMetadata": GEMINI}),
    ("embedContent", {}, "embeddings", {"usageMetadata": GEMINI}),
    ("interactions", {"usage": {"total_input_tokens": 4321, "total_output_tokens": 7}}, "steps", {"model": "m"}),
    ("converse", {"metrics": {"latencyMs": 9}}, "output", {"stopReason": "end_turn", "usage": BEDROCK}),
    ("invoke", {"id": "m-1"}, "content", {"usage": MESSAGE}),
    ("invoke", {}, "content", {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 4321, "outputTokenCount": 7}}),
    ("invoke", {}, "generation", {"prompt_token_count": 4321, "generation_token_count": 7, "stop_reason": "stop"}),
    ("invoke", {}, "embedding", {"inputTextTokenCount": 4321}),
    ("cohere_chat", {"id": "c-1"}, "message", {"usage": COHERE}),
    ("cohere_chat_v1", {"response_id": "c-1"}, "chat_history", {"finish_reason": "COMPLETE", "meta": COHERE}),
    ("cohere_embed", {"id": "e-1", "texts": ["a"]}, "embeddings", {"meta": COHERE, "response_type": "by_type"}),
    ("rerank", {"model": "m"}, "results", {"usage": {"total_tokens": 4321}}),
    ("ollama_chat", {"model": "m"}, "message", {"done": True, "prompt_eval_count": 4321, "eval_count": 7}),
    ("ollama_generate", {"model": "m"}, "context", {"prompt_eval_count": 4321, "eval_duration": 5, "eval_count": 7}),
    ("ollama_embed", {"model": "m"}, "embeddings", {"total_duration": 5, "prompt_eval_count": 4321}),
]  # fmt: skip


def test_there_is_a_long_body_of_every_kind_of_api() -> None:
    assert {kind for kind, *_ in LONG} == set(get_args(Kind)) - {"complete"}  # which states no usage at all


@pytest.mark.parametrize(("kind", "before", "long", "after"), LONG)
def test_a_body_of_50_mb_is_read_in_bounded_memory_and_its_usage_is_found_in_it(
    world: World, kind: str, before: Any, long: str, after: Any
) -> None:
    """What the long member holds looks like usage too, and is none."""
    begun = json.dumps({**before, long: 0})[:-2].encode() + b"["
    decoy = b'{"usage": {"prompt_tokens": 1, "input_tokens": 1, "output_tokens": 1}, "meta": {}, "model": "x"}, '
    end = b"".join((decoy * 9, b'"\\"usage\\": {}"]', b", " * bool(after), json.dumps(after)[1:].encode()))
    chunks: Any = Endless(VECTORS, 50 * MIB // len(VECTORS), end, begun)
    assert peak(world, Play(chunks, JSON), {**ASKED, "input": "x"}, PLAIN_URLS[kind]) < 40 * MIB
    row = ledger_rows(world)[1]
    assert (row["prompt_tokens"], row["usage_source"]) == (4321, "reported")
    assert row["completion_tokens"] == (7 if "7" in str({**before, **after}) and kind != "embeddings" else 0)


@pytest.mark.parametrize("end", [b'{"usage": ' * 6_000 + b"1", b'"usage":' * 8_000, b'{"usage": {}}' * 4_000, b"]}"])
def test_the_end_of_a_long_body_may_be_anything(world: World, end: bytes) -> None:
    chunks: Any = Endless(VECTORS, 9 * MIB // len(VECTORS), end, b'{"data": [')
    peak(world, Play(chunks, JSON), ASKED)
    assert ledger_rows(world)[1]["usage_source"] == "estimate"
