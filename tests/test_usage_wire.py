"""Every recorded provider response is read as the recording says.

The exchanges lie beside the checkout, in shared/wire; what each call took was read from the same bodies by
another program (`usage_truth`).
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from budgetguard.usage import Usage, read_usage

WIRE = Path(__file__).parents[2] / "shared" / "wire" / "wire-shared.jsonl.gz"
APIS = ("chat", "responses", "messages")


def exchanges(api: str) -> list[dict[str, Any]]:
    if not WIRE.exists():
        pytest.skip("shared/wire, the recorded provider traffic, is not beside this checkout")
    with gzip.open(WIRE, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [
        row
        for row in rows
        if row["api"] == api and row["truth_kind"] == "reported" and isinstance(row["response"].get("json"), dict)
    ]


def truth(row: dict[str, Any]) -> Usage:
    """What the exchange took; a field that the body does not say is 0."""
    said = row["usage_truth"]
    names = ("input", "output", "cached_input", "cache_write", "cache_write_1h", "reasoning")
    counts = [said.get(name) or 0 for name in names]
    counts[2] = min(counts[2], counts[0])  # Grok on Azure: see test_the_recorded_exceptions_are_these
    return Usage(*counts)


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
        body, want = row["response"]["json"], truth(row)
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
            if read_usage(shape) != truth(row):
                wrong.append((row["id"], type(shape).__name__, read_usage(shape), truth(row)))
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


def test_bodies_with_iterations_are_read_by_their_top_level() -> None:
    """Known to be less than what is billed where another model advised: iterations are not read yet."""
    rows = [row for row in exchanges("messages") if "iterations" in row["usage_truth"]]
    assert rows
    for row in rows:
        assert read_usage(row["response"]["json"]).input_tokens == row["usage_truth"]["input"]
