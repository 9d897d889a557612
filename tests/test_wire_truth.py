"""Every recorded exchange is read as it was billed; one that does not say is unknown, never zero."""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any

import pytest
from wire_kit import Exchange, exchanges
from wire_truth import api_of, elsewhere, read, told, truth

from budgetguard.usage import Usage
from budgetguard.wire.apis import Api
from budgetguard.wire.reports import Reported, reported

# Recorded as "absent", for the recording looked for a usage in the body only: Bedrock states these in its headers,
# and of Gemini's embeddings it did not know the field.
STATED_ELSEWHERE = {("bedrock", "invoke"): 8, ("gemini", "embeddings"): 8}


def calls() -> list[Exchange]:
    """Those that are billed: to count tokens is free, and never comes to a reader."""
    return [row for row in exchanges() if row["api"] != "count_tokens"]


def test_every_exchange_is_read_as_it_was_billed() -> None:
    table: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    wrong: list[tuple[Any, ...]] = []
    for row in calls():
        got, counts = read(row), table[row["provider"], row["api"]]
        counts["exchanges"] += 1
        if row["truth_kind"] == "reported":
            counts["stated"] += 1
            equal = got is not None and told(got) == truth(row)
            counts["equal"] += equal
            wrong += [] if equal else [(row["id"], row["provider"], row["api"], got, truth(row))]
        elif got is not None:
            counts["elsewhere"] += 1
            if (got.usage.input_tokens, got.usage.output_tokens) != elsewhere(row):
                wrong.append((row["id"], row["provider"], row["api"], got, elsewhere(row)))
        else:
            counts["unknown"] += 1
    show(table)
    assert wrong == []
    assert {key: counts["elsewhere"] for key, counts in table.items() if counts["elsewhere"]} == STATED_ELSEWHERE
    assert sum((counts for counts in table.values()), Counter()) == {
        "exchanges": 1164, "stated": 1031, "equal": 1031, "elsewhere": 16, "unknown": 117,
    }  # fmt: skip


def show(table: dict[tuple[str, str], Counter[str]]) -> None:
    columns = ("exchanges", "stated", "equal", "elsewhere", "unknown")
    print(f"\n{'provider':22}{'api':18}" + "".join(f"{name:>11}" for name in columns))
    for (provider, api), counts in sorted(table.items()):
        print(f"{provider:22}{api:18}" + "".join(f"{counts[name]:>11}" for name in columns))
    print(f"{'all':40}" + "".join(f"{sum(counts[name] for counts in table.values()):>11}" for name in columns))


def test_every_exchange_that_names_the_model_that_answered_is_read_with_it() -> None:
    rows = [row for row in calls() if row["truth_kind"] == "reported" and row["response_model"]]
    assert [row["id"] for row in rows if (said := read(row)) is None or said.model != row["response_model"]] == []
    assert len(rows) > 800


def test_what_ran_on_another_model_stands_apart_from_what_the_answering_model_took() -> None:
    [row] = [row for row in exchanges("messages") if row["id"] == "dce6f854b1968876"]
    assert read(row) == Reported(Usage(4727, 3391), "claude-sonnet-4-6", (("claude-opus-4-7", Usage(2728, 3880)),))


def test_compaction_is_billed_though_the_top_level_leaves_it_out() -> None:
    parts = [("compaction", 60_385, 1_200), ("message", 682, 90)]
    usage = {"input_tokens": 682, "output_tokens": 90, "output_tokens_details": {"thinking_tokens": 30}}
    usage["iterations"] = [{"type": kind, "input_tokens": i, "output_tokens": o} for kind, i, o in parts]
    said = reported(Api("messages", "anthropic"), {"model": "claude-x", "usage": usage})
    assert said == Reported(Usage(61_067, 1_290, reasoning_tokens=30), "claude-x")


def test_cache_writes_of_an_hour_are_told_from_those_of_minutes() -> None:
    details = [{"ttl": "1h", "inputTokens": 30}, {"ttl": "5m", "inputTokens": 12}]
    usage = {"inputTokens": 8, "outputTokens": 5, "cacheWriteInputTokens": 42, "cacheDetails": details}
    assert reported(Api("converse", "bedrock"), {"usage": usage}) == Reported(Usage(50, 5, 0, 42, 30), None)
    by_age = {"ephemeral_5m_input_tokens": 12, "ephemeral_1h_input_tokens": 30}
    usage = {"input_tokens": 8, "output_tokens": 5, "cache_creation_input_tokens": 42, "cache_creation": by_age}
    assert reported(Api("messages", "anthropic"), {"usage": usage}) == Reported(Usage(50, 5, 0, 42, 30), None)


@pytest.mark.parametrize(
    ("cost", "usd"),
    [
        ({"cost": 4.65e-06, "is_byok": False}, "0.00000465"),
        ({"cost": 0, "is_byok": False}, "0"),
        ({"cost": 0}, None),
        ({"cost": 0, "is_byok": True}, None),
        ({"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.00417}}, "0.00417"),
        ({"cost": 0.0002, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.00417}}, "0.00437"),
        ({"cost": 0.0002, "is_byok": True}, None),
        ({"cost": {"currency": "USD", "total_cost": 2.8e-08}}, "0.000000028"),
        ({"cost_in_usd_ticks": 10_234_000}, "0.0010234"),
        ({"cost_in_usd_ticks": 0}, None),
        ({"cost": -1}, None),
        ({"cost": 1e300}, None),
        ({"cost": 8_999_999, "is_byok": True, "cost_details": {"upstream_inference_cost": 8_999_999}}, None),
        ({"cost": float("nan")}, None),
        ({"cost": True}, None),
        ({"cost": "a lot"}, None),
        ({"cost": [0.1]}, None),
    ],
)
def test_a_stated_cost_is_taken_exactly_and_a_zero_of_a_gateway_that_does_not_pay_is_none(
    cost: dict[str, Any], usd: str | None
) -> None:
    said = reported(Api("chat", "openrouter"), {"usage": {"prompt_tokens": 9, "completion_tokens": 4} | cost})
    assert said == Reported(Usage(9, 4, cost_usd=usd), None)


def test_a_cost_stated_for_a_message_is_not_counted_again_for_its_iterations() -> None:
    parts = [{"input_tokens": 5, "output_tokens": 1}, {"input_tokens": 7, "output_tokens": 2, "model": "other"}]
    body = {"usage": {"input_tokens": 5, "output_tokens": 1, "cost": 0.25, "iterations": parts}}
    said = reported(Api("messages", "openrouter"), body)
    assert said is not None
    assert [usage.cost_usd for usage in (said.usage, said.others[0][1])] == [Decimal("0.25"), 0]


@pytest.mark.parametrize(
    ("kind", "body", "usage"),
    [
        ("ollama_chat", {"eval_count": 38}, Usage(0, 38)),
        ("ollama_chat", {"done_reason": "load"}, None),
        ("rerank", {"meta": {"billed_units": {"search_units": 1}}}, Usage(0, 0)),
        ("rerank", {"meta": {"api_version": {}}}, None),
        ("rerank", {"usage": {"total_tokens": 26}}, Usage(26, 0)),
        ("cohere_embed", {"meta": {"billed_units": {"input_tokens": 3, "image_tokens": 7}}}, Usage(10, 0)),
        ("cohere_chat", {"usage": {"tokens": {"input_tokens": 30, "output_tokens": 4}}}, Usage(30, 4)),
        ("embeddings", {"usage": {"total_tokens": 0}}, None),
        ("completions", {"usage": {"prompt_tokens": 9, "total_tokens": 9}}, Usage(9, 0)),
        ("completions", {"usage": {"prompt_tokens": 9, "total_tokens": 12}}, Usage(9, 3)),
        ("responses", {"status": "queued", "usage": None}, None),
        ("complete", {"completion": "no usage at all"}, None),
        ("invoke", {"inputTextTokenCount": 6.0, "results": [{"tokenCount": 3.0}, {"tokenCount": 4}]}, Usage(6, 7)),
        ("invoke", {"usage": {"prompt_tokens": 5, "completion_tokens": 2}}, Usage(5, 2)),
    ],
)
def test_what_is_stated_is_billed_and_what_is_not_is_unknown(kind: Any, body: Any, usage: Usage | None) -> None:
    said = reported(Api(kind, "someone"), body)
    assert (None if said is None else said.usage) == usage


def test_the_headers_of_bedrock_speak_where_the_body_does_not() -> None:
    names = {"input": "4", "output": "50", "cache-write-input": "18131", "cache-read-input": "7"}
    headers = {f"x-amzn-bedrock-{name}-token-count": count for name, count in names.items()}
    api = Api("invoke", "bedrock", "cohere.command-r-v1:0")
    assert reported(api, {"text": "..."}, headers) == Reported(Usage(18142, 50, 7, 18131), None)
    body = {"usage": {"input_tokens": 1, "output_tokens": 2}}
    assert reported(api, body, headers) == Reported(Usage(1, 2), None)
    for bad in ("-4", "", "x", "9" * 30, "٤"):
        assert reported(api, {}, headers | {"x-amzn-bedrock-output-token-count": bad}) is None


def test_every_api_of_the_recordings_has_a_reader() -> None:
    for row in calls():
        assert reported(api_of(row), {}) is None
