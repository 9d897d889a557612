"""Every recorded provider response is read as the recording says.

The exchanges lie beside the checkout, in shared/wire; what each call took was read from the same bodies by
another program (`usage_truth`).
"""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import wire_kit
from wire_truth import usage_of

from budgetguard.usage import read_usage

APIS = ("chat", "responses", "messages")


def exchanges(*apis: str) -> list[wire_kit.Exchange]:
    """Those that say what they took in one body of JSON."""
    return [
        row
        for row in wire_kit.exchanges(*apis)
        if row["truth_kind"] == "reported" and isinstance(row["response"].get("json"), dict)
    ]


def attributes(value: Any) -> Any:
    """The same body as an object read by attribute."""
    if isinstance(value, dict):
        return SimpleNamespace(**{key: attributes(item) for key, item in value.items()})
    return value


def sdk_object(api: str, body: dict[str, Any]) -> Any:
    """What the provider's own client hands to its user; `construct` is what the clients call."""
    if api == "messages":
        return pytest.importorskip("anthropic", reason="the anthropic SDK is not installed").types.Message.construct(
            **body
        )
    openai = pytest.importorskip("openai", reason="the openai SDK is not installed")
    if api == "chat":
        return openai.types.chat.ChatCompletion.construct(**body)
    return openai.types.responses.Response.construct(**body)


@pytest.mark.parametrize("api", APIS)
def test_every_recorded_response_is_read_as_the_truth_says(api: str) -> None:
    counted: Counter[str] = Counter()
    wrong = []
    for row in exchanges(api):
        body, want = row["response"]["json"], usage_of(row)
        shapes = {
            "dict": body,
            "its usage": body["usage"],
            "object": attributes(body),
            "its usage object": attributes(body).usage,
        }
        wrong += [
            (row["id"], name, read_usage(shape), want) for name, shape in shapes.items() if read_usage(shape) != want
        ]
        counted[row["provider"]] += 1
    print(f"\n{api}: {counted.total()} exchanges,", ", ".join(f"{name} {n}" for name, n in sorted(counted.items())))
    assert not wrong
    assert counted.total() == {"chat": 279, "responses": 102, "messages": 61}[api]


@pytest.mark.parametrize("api", APIS)
def test_every_recorded_response_is_read_alike_as_an_object_of_the_providers_sdk(api: str) -> None:
    rows = exchanges(api)
    wrong = []
    for row in rows:
        response = sdk_object(api, row["response"]["json"])
        for shape in (response, response.usage):
            if read_usage(shape) != usage_of(row):
                wrong.append((row["id"], type(shape).__name__, read_usage(shape), usage_of(row)))
    assert rows
    assert not wrong


def test_the_recorded_exceptions_are_these() -> None:
    """Grok on Azure reports more cached tokens than prompt tokens: the prompt stands, all of it cached."""
    odd = [row for row in exchanges("chat") if (row["usage_truth"]["cached_input"] or 0) > row["usage_truth"]["input"]]
    assert {(row["provider"], row["model"]) for row in odd} == {("azure_openai", "grok-4-1-fast-non-reasoning")}
    assert len(odd) == 5
    for row in odd:
        usage = read_usage(row["response"]["json"])
        assert usage.cache_read_tokens == usage.input_tokens == row["usage_truth"]["input"]


def test_all_iterations_of_a_message_count_whichever_model_ran_them() -> None:
    rows = [row for row in exchanges("messages") if "iterations" in row["usage_truth"]]
    assert len(rows) == 5
    for row in rows:
        usage = read_usage(row["response"]["json"])
        assert {"input": usage.input_tokens, "output": usage.output_tokens} == row["usage_truth"]["iterations_sum"]


@pytest.mark.parametrize(
    ("api", "stated"),
    [
        ("generateContent", 86),
        ("interactions", 5),
        ("converse", 37),
        ("invoke", 17),
        ("chat_v2", 24),
        ("chat_v1", 10),
        ("rerank", 5),
        ("native_chat", 5),
        ("native_generate", 2),
        ("completions", 19),
    ],
)
def test_bodies_of_other_providers_are_told_by_their_shape_as_dicts_and_objects(api: str, stated: int) -> None:
    rows = exchanges(api)
    shapes = [(row, shape) for row in rows for shape in (row["response"]["json"], attributes(row["response"]["json"]))]
    assert [row["id"] for row, shape in shapes if read_usage(shape) != usage_of(row)] == []
    assert len(rows) == stated


def test_an_object_of_google_genai_is_read_as_its_dict() -> None:
    genai = pytest.importorskip("google.genai", reason="the google-genai SDK is not installed")
    rows = [row for row in exchanges("generateContent") if not isinstance(row["usage_truth"].get("traffic_type"), int)]
    wrong = []
    for row in rows:
        stated = {name: value for name, value in row["usage_truth"]["raw"].items() if name != "serviceTier"}
        response = genai.types.GenerateContentResponse.model_validate({"usageMetadata": stated})
        wrong += [
            (row["id"], read_usage(shape))
            for shape in (response, response.usage_metadata, response.model_dump())
            if read_usage(shape) != usage_of(row)
        ]
    assert wrong == []
    assert len(rows) > 70


def test_an_object_of_cohere_is_read_as_its_dict() -> None:
    cohere = pytest.importorskip("cohere", reason="the cohere SDK is not installed")
    rows = exchanges("chat_v2")
    for row in rows:
        usage = cohere.Usage(**row["response"]["json"]["usage"])
        assert read_usage(SimpleNamespace(usage=usage)) == read_usage(usage) == usage_of(row)
    assert rows
