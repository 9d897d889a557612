"""What a stream has said counts when it is the last word; what it has streamed is counted from its text."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from statistics import median
from typing import Any

import pytest
from wire_kit import Exchange, exchanges
from wire_truth import api_of, frames_of, report_of, told, truth

from budgetguard.usage import Usage
from budgetguard.wire.apis import Api, Kind
from budgetguard.wire.frames import Frame
from budgetguard.wire.reports import Reported, StreamReport


def streams() -> list[Exchange]:
    """Those whose body is a stream."""
    return [row for row in exchanges() if row["stream"] and row["stream_format"] and "status" in row["response"]]


def event(body: Any, name: str = "") -> Frame:
    data = json.dumps(body).encode()
    return Frame(data, data, name)


def parts(*parts: Any) -> Any:
    return {"candidates": [{"content": {"parts": list(parts)}}]}


def fed(kind: Kind, *bodies: Any, model: str | None = None) -> StreamReport:
    report = StreamReport(Api(kind, "someone", model))
    for body in bodies:
        report.feed(event(body))
    return report


def test_a_message_is_known_by_its_input_from_its_start_and_altogether_from_its_end() -> None:
    start = {"input_tokens": 9, "cache_read_input_tokens": 30, "output_tokens": 1}
    report = fed("messages", {"type": "message_start", "message": {"model": "claude-x", "usage": start}})
    assert (report.reported, report.so_far) == (None, Reported(Usage(39, 1, 30), "claude-x"))
    report.feed(event({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hello"}}))
    assert report.reported is None
    end = {"output_tokens": 12, "cache_read_input_tokens": None}
    report.feed(event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": end}))
    report.feed(event({"type": "message_stop"}))
    assert report.reported == report.so_far == Reported(Usage(39, 12, 30), "claude-x")


@pytest.mark.parametrize("bad", ["x", 7, {}, {"output_tokens": None}, {"output_tokens": -1}, {"output_tokens": 2**60}])
def test_a_last_word_that_makes_no_sense_is_unknown_and_not_what_the_first_said(bad: Any) -> None:
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 9, "output_tokens": 1}}}
    report = fed("messages", start, {"type": "message_delta", "usage": bad})
    assert (report.reported, report.so_far) == (None, Reported(Usage(9, 1), None))


def test_usage_that_comes_with_every_chunk_is_no_last_word_before_the_model_has_finished() -> None:
    chunks = [
        {"choices": [{"delta": {"content": "a"}}], "usage": {"prompt_tokens": 5, "completion_tokens": count}}
        for count in (1, 2, 3)
    ]
    report = fed("chat", *chunks[:2])
    assert (report.reported, report.so_far) == (None, Reported(Usage(5, 2), None))
    chunks[2]["choices"][0]["finish_reason"] = "stop"  # type: ignore[index]
    report.feed(event(chunks[2]))
    assert report.reported == Reported(Usage(5, 3), None)
    report = fed("chat", *chunks[:2])
    report.feed(Frame(b"data: [DONE]\n\n", b"[DONE]"))
    assert report.reported == Reported(Usage(5, 2), None)


def test_whatever_a_recorded_stream_has_said_for_good_is_the_truth_from_then_on() -> None:
    late: Counter[str] = Counter()
    before = 0
    for row in streams():
        if row["truth_kind"] != "reported":
            continue
        report, frames = StreamReport(api_of(row)), frames_of(row)
        for frame in frames:
            report.feed(frame)
            if report.reported is None:
                before += 1
            elif told(report.reported) != truth(row):
                late[row["provider"]] += 1
    assert late == Counter()
    assert before > 5_000


def test_azures_first_chunk_has_no_usage_and_the_chunk_that_was_asked_for_is_known() -> None:
    report = StreamReport(Api("chat", "azure_openai"))
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    assert not report.is_usage_chunk(event({"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}))
    assert not report.is_usage_chunk(event({"choices": [], "usage": None}))
    assert not report.is_usage_chunk(event({"choices": [{"finish_reason": "stop"}], "usage": usage}))
    assert not report.is_usage_chunk(Frame(b"", b'{"usage": [broken'))
    assert not StreamReport(Api("messages", "anthropic")).is_usage_chunk(event({"choices": [], "usage": usage}))
    assert report.is_usage_chunk(event({"choices": [], "usage": usage}))
    extra = [
        row for row in streams() if row["api"] == "chat" for frame in frames_of(row) if report.is_usage_chunk(frame)
    ]
    assert len(extra) > 50
    assert max(Counter(row["id"] for row in extra).values()) == 1


ERRORS: list[tuple[Kind, Frame, str | None]] = [
    ("chat", event({"error": {"type": "invalid_request_error", "code": "tool_use_failed"}}), "tool_use_failed"),
    ("chat", event({"error": {"code": 502, "message": "..."}, "choices": []}), "502"),
    ("chat", event({"error": "something with a prompt in it"}), "error"),
    ("chat", event({"error": {"code": "x" * 65, "type": "with a prompt: hello"}}), "error"),
    ("messages", event({"type": "error", "error": {"type": "overloaded_error"}}, "error"), "overloaded_error"),
    ("messages", Frame(b"", b"not json", "error"), "error"),
    ("responses", event({"type": "error", "code": "server_error", "message": "..."}), "server_error"),
    ("responses", event({"type": "response.failed", "response": {"error": {"code": "no_quota"}}}), "no_quota"),
    ("generateContent", event({"error": {"code": 503, "status": "UNAVAILABLE"}}), "503"),
    ("converse", event({"message": "slow down"}, "throttlingException"), "throttlingException"),
    ("invoke", Frame(b"", b"", "error InternalFailure"), "InternalFailure"),
    ("ollama_chat", event({"error": "out of memory"}), "error"),
    ("chat", event({"error": None, "choices": []}), None),
    ("responses", event({"type": "response.created", "response": {"error": None}}), None),
]


@pytest.mark.parametrize(("kind", "frame", "code"), ERRORS)
def test_an_error_inside_a_stream_is_known_by_one_word_and_never_by_its_text(
    kind: Kind, frame: Frame, code: str | None
) -> None:
    report = StreamReport(Api(kind, "someone"))
    report.feed(frame)
    report.feed(event({}))
    assert report.error == code


def test_only_the_recorded_streams_that_broke_have_errors() -> None:
    broken = {(row["provider"], report.error) for row in streams() if (report := report_of(row)).error}
    assert broken == {("groq", "tool_use_failed"), ("openai", "insufficient_quota"), ("openrouter", "400")}


TEXTS: list[tuple[Kind, Any, str]] = [
    ("chat", {"choices": [{"delta": {"content": "Grüße"}}]}, "Grüße"),
    ("chat", {"choices": [{"delta": {"reasoning": "hm", "reasoning_content": "hm", "content": None}}]}, "hm"),
    ("chat", {"choices": [{"delta": {"content": [{"type": "thinking", "thinking": [{"text": "hm"}]}]}}]}, "hm"),
    ("chat", {"choices": [{"delta": {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}]}, "f{}"),
    ("chat", {"choices": [{"delta": {"content": "a"}}, {"delta": {"refusal": "b"}}]}, "ab"),
    ("completions", {"choices": [{"text": "one"}]}, "one"),
    ("responses", {"type": "response.output_text.delta", "delta": "one"}, "one"),
    ("responses", {"type": "response.output_text.done", "text": "one"}, ""),
    ("responses", {"type": "response.audio.delta", "delta": "UklGRg=="}, ""),
    ("messages", {"type": "content_block_delta", "delta": {"partial_json": '{"a'}}, '{"a'),
    ("messages", {"type": "content_block_delta", "delta": {"thinking": "hm"}}, "hm"),
    ("messages", {"type": "content_block_delta", "delta": {"signature": "EtoBCkgI"}}, ""),
    ("complete", {"type": "completion", "completion": " Light"}, " Light"),
    ("generateContent", parts({"text": "a"}, {"thought": True, "text": "b"}), "ab"),
    ("generateContent", parts({"functionCall": {"name": "f", "args": {}}}), "f{}"),
    ("generateContent", parts({"inlineData": {"data": "UklGRg=="}}), ""),
    ("interactions", {"event_type": "step.delta", "delta": {"type": "text", "text": "a"}}, "a"),
    ("converse", {"contentBlockIndex": 0, "delta": {"toolUse": {"input": "{}"}}, "p": "abcdef"}, "{}"),
    ("converse", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "hm"}}}, "hm"),
    ("invoke", {"outputText": "a", "index": 0}, "a"),
    ("invoke", {"contentBlockDelta": {"delta": {"text": "a"}}}, "a"),
    ("invoke", {"bytes": "eyJnZW5lcmF0aW9uIjogImEifQ==", "p": "abcdef"}, "a"),
    ("cohere_chat", {"type": "content-delta", "delta": {"message": {"content": {"text": "a"}}}}, "a"),
    ("cohere_chat", {"type": "citation-start", "delta": {"message": {"content": {"text": "a"}}}}, ""),
    ("cohere_chat_v1", {"event_type": "text-generation", "text": "a"}, "a"),
    ("cohere_chat_v1", {"event_type": "stream-end", "response": {"text": "a"}, "text": "a"}, ""),
    ("ollama_chat", {"message": {"content": "a", "thinking": "b"}}, "ab"),
    ("ollama_generate", {"response": "a"}, "a"),
    ("embeddings", {"text": "a"}, ""),
]


@pytest.mark.parametrize(("kind", "body", "text"), TEXTS)
def test_the_text_of_an_event_is_content_arguments_and_reasoning_and_nothing_else(
    kind: Kind, body: Any, text: str
) -> None:
    assert fed(kind, body).streamed_text_bytes == len(text.encode())


def test_nothing_streamed_is_no_token_and_any_piece_is_at_least_one() -> None:
    assert fed("chat", {"choices": [{"delta": {"role": "assistant", "content": ""}}]}).streamed_tokens() == 0
    digits = [{"choices": [{"delta": {"content": digit}}]} for digit in "123456789"]
    assert fed("chat", *digits).streamed_tokens() == 9 + 5
    assert fed("messages", {"delta": {"text": "x" * 100}}).streamed_tokens() == 40 + 5
    assert fed("chat", {"choices": [{"delta": {"content": "x" * 100}}]}).streamed_tokens() == 29 + 5
    call = {"choices": [{"delta": {"tool_calls": [{"function": {"name": "f" * 7, "arguments": ""}}]}}]}
    assert fed("chat", call).streamed_tokens() == 2 + 20 + 5


def test_most_recorded_streams_are_counted_at_their_truth_or_above_it() -> None:
    """Where reasoning is hidden, the rest is what can be counted; Perplexity's recordings lack most of their text."""
    counted: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for row in streams():
        if row["truth_kind"] == "reported" and row["usage_truth"]["output"] and row["provider"] != "perplexity":
            report = report_of(row)
            output = report.reported.usage.output_tokens if report.reported else 0
            hidden = (row["usage_truth"]["reasoning"] or 0) if report.streamed_text_bytes < 2 * output else 0
            counted[api_of(row).kind].append((report.streamed_tokens(), max(output - hidden, 1)))
    print(f"\n{'kind':18}{'streams':>8}{'at truth or above':>19}{'median':>8}{'together':>9}")
    every = [pair for pairs in counted.values() for pair in pairs]
    for kind, pairs in [*counted.items(), ("all", every)]:
        enough = sum(tokens >= output for tokens, output in pairs) / len(pairs)
        whole = sum(tokens for tokens, _ in pairs) / sum(output for _, output in pairs)
        middle = median(tokens / output for tokens, output in pairs)
        print(f"{kind:18}{len(pairs):>8}{enough:>19.0%}{middle:>8.2f}{whole:>9.2f}")
    assert enough >= 0.8
    assert 1.0 <= whole <= 1.3
