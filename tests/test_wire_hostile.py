"""No body makes a reader raise: whatever a server sends is unknown, or a usage that keeps its promises."""

from __future__ import annotations

import json
from random import Random
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_kit import exchanges
from wire_truth import api_of, frames_of

from budgetguard.usage import Usage
from budgetguard.wire.apis import Api, Kind
from budgetguard.wire.frames import Frame
from budgetguard.wire.reports import Reported, StreamReport, reported

KINDS = get_args(Kind)
NAMES = """usage usageMetadata meta metadata model modelVersion type event_type delta message response choices
x_groq error code bytes candidates content parts text thinking name arguments args function tool_calls
functionCall start toolUse input prompt_tokens completion_tokens total_tokens input_tokens output_tokens
prompt_tokens_details cached_tokens cost is_byok cost_details upstream_inference_cost total_cost
cost_in_usd_ticks iterations cache_creation ephemeral_1h_input_tokens cache_read_input_tokens
cache_creation_input_tokens promptTokenCount thoughtsTokenCount inputTokens outputTokens ttl cacheDetails
inputTextTokenCount results tokenCount totalOutputTextTokenCount prompt_token_count
generation_token_count amazon-bedrock-invocationMetrics inputTokenCount outputTokenCount billed_units
tokens search_units done eval_count prompt_eval_count interaction total_input_tokens finish_reason
finishReason item step"""
WORDS = [
    "message_start",
    "message_delta",
    "content_block_delta",
    "message-end",
    "stream-end",
    "response.completed",
    "eyJ9",
]
SCALARS = [None, True, False, 0, -1, 3, 2**53, 2**60, -(2**63), 10**400, 1.5, 6.0, 1e308, float("nan"), float("inf"),
           "", "7", "\ud800", "x" * 300, *WORDS]  # fmt: skip
ANYTHING = st.recursive(
    st.sampled_from(SCALARS) | st.integers(0, 50) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES.split()), inner, max_size=6),
    max_leaves=30,
)
BODIES = st.dictionaries(st.sampled_from(NAMES.split()), ANYTHING, max_size=8)


def check(said: Reported | None) -> None:
    """Every promise of what is reported; a Usage keeps its own when it is made again."""
    if said is None:
        return
    for usage in (said.usage, *(usage for _, usage in said.others)):
        assert Usage(*(getattr(usage, name) for name in Usage.__slots__[:7])) == usage
    for name in (said.model, *(name for name, _ in said.others)):
        assert name is None or 0 < len(name) <= 200


def feed(report: StreamReport, frame: Frame) -> None:
    before = report.streamed_text_bytes
    report.feed(frame)
    assert report.streamed_text_bytes >= before
    assert report.streamed_tokens() >= 0
    assert report.error is None or len(report.error) <= 64
    assert report.is_usage_chunk(frame) in (True, False)
    check(report.reported)
    check(report.so_far)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(KINDS), BODIES, st.dictionaries(st.sampled_from(["input", "output"]), st.text(max_size=4)))
def test_any_body_is_unknown_or_a_good_usage(kind: Kind, body: dict[str, Any], counts: dict[str, str]) -> None:
    headers = {f"x-amzn-bedrock-{name}-token-count": text for name, text in counts.items()}
    check(reported(Api(kind, "someone"), body, headers))


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(KINDS), st.lists(BODIES | st.binary(max_size=20), max_size=5), st.sampled_from(["", "error", "x"])
)
def test_any_stream_is_unknown_or_a_good_usage(kind: Kind, events: list[Any], name: str) -> None:
    report = StreamReport(Api(kind, "someone"))
    for event in events:
        feed(report, Frame(b"", event if isinstance(event, bytes) else json.dumps(event).encode(), name))


def planted(value: Any, random: Random) -> Any:
    """A body with one of its values, however deep, replaced by a hostile one."""
    if isinstance(value, dict) and value and random.random() < 0.9:
        name = random.choice(sorted(value))
        return {**value, name: planted(value[name], random)}
    if isinstance(value, list) and value and random.random() < 0.9:
        place = random.randrange(len(value))
        return [*value[:place], planted(value[place], random), *value[place + 1 :]]
    return random.choice([*SCALARS, [], {}, [{}], {"a": [1]}])


def test_recorded_bodies_with_one_hostile_value_are_unknown_or_a_good_usage() -> None:
    """The counts of the usage are hit most, for that is where the values are planted half of the time."""
    random, unknown, good = Random(4), 0, 0
    for row in exchanges():
        body = row["response"].get("json")
        if row["truth_kind"] == "reported" and isinstance(body, dict) and row["api"] != "count_tokens":
            for _ in range(4):
                inside = [name for name in ("usage", "usageMetadata", "meta") if body.get(name)]
                name = random.choice(inside) if inside and random.random() < 0.7 else random.choice(sorted(body))
                said = reported(api_of(row), {**body, name: planted(body[name], random)})
                check(said)
                unknown, good = unknown + (said is None), good + (said is not None)
    print(f"\n{good} good, {unknown} unknown")
    assert min(unknown, good) > 500


def test_recorded_streams_with_one_hostile_event_are_unknown_or_a_good_usage() -> None:
    random = Random(5)
    for row in exchanges():
        if row["stream"] and row["stream_format"] and row["truth_kind"] == "reported" and row["api"] != "native_chat":
            frames = frames_of(row)
            report, place = StreamReport(api_of(row)), random.randrange(len(frames))
            hit = frames[place]
            try:
                data = json.dumps(planted(json.loads(hit.data), random)).encode()
            except ValueError:
                data = random.randbytes(9)
            cut = hit.data[: random.randint(0, len(hit.data))]
            for frame in [*frames[:place], hit._replace(data=random.choice([data, cut])), *frames[place + 1 :]]:
                feed(report, frame)


@pytest.mark.parametrize(
    "data", [b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe{}", b'{"usage": ' + b"9" * 5_000 + b"}"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_bytes_that_are_no_event_change_nothing(kind: Kind, data: bytes) -> None:
    report = StreamReport(Api(kind, "someone"))
    feed(report, Frame(data, data))
    assert (report.reported, report.so_far, report.streamed_tokens(), report.error) == (None, None, 0, None)


@pytest.mark.parametrize("bad", [-1, 2**60, "7", 1.5, True, [], {}, [3]])
def test_a_count_that_is_none_makes_the_whole_usage_unknown(bad: Any) -> None:
    """Half a usage would be a wrong one."""
    shapes: list[tuple[Kind, str, dict[str, Any]]] = [
        ("chat", "usage", {"prompt_tokens": 5, "completion_tokens": 2, "num_cached_tokens": 1}),
        ("responses", "usage", {"input_tokens": 5, "output_tokens": 2}),
        ("messages", "usage", {"input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 1}),
        ("generateContent", "usageMetadata", {"promptTokenCount": 5, "candidatesTokenCount": 2}),
        ("converse", "usage", {"inputTokens": 5, "outputTokens": 2}),
        ("interactions", "usage", {"total_input_tokens": 5, "total_output_tokens": 2}),
    ]
    for kind, place, usage in shapes:
        api = Api(kind, "someone")
        assert reported(api, {place: usage}) is not None
        for name in usage:
            assert reported(api, {place: usage | {name: bad}}) is None


def test_one_iteration_that_is_none_makes_a_message_unknown() -> None:
    usage = {"input_tokens": 5, "output_tokens": 2}
    for bad in (7, [7], [usage, {}], [usage, usage | {"output_tokens": -1}], [usage | {"model": "x" * 999}]):
        assert reported(Api("messages", "anthropic"), {"usage": usage | {"iterations": bad}}) is None
