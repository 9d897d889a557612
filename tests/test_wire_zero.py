"""Zero beside a prompt or beside text, and usage that is stated before its text, are unknown; any other zero stands."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from guard_kit import World
from transport_kit import DONE, HIDDEN, STOP, STREAMED, Play, Player, event, guard_of, heard, only_row, request, word
from wire_kit import exchanges
from wire_truth import api_of, report_of

from budgetguard.integrations.httpx import BudgetTransport
from budgetguard.usage import Usage
from budgetguard.wire.apis import Api, Kind
from budgetguard.wire.frames import Frame
from budgetguard.wire.lines import ServerSentEvents
from budgetguard.wire.reports import StreamReport, reported
from budgetguard.wire.stream import Stream

TEXT = "The quick brown fox jumps over the lazy dog. " * 10
NONE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def usage(inputs: int, outputs: int) -> dict[str, int]:
    return {"prompt_tokens": inputs, "completion_tokens": outputs, "total_tokens": inputs + outputs}


def fed(kind: Kind, *bodies: Any, provider: str = "someone") -> StreamReport:
    report = StreamReport(Api(kind, provider))
    for body in bodies:
        report.feed(Frame(b"", body if isinstance(body, bytes) else event(body)[6:-2]))
    return report


BODIES: list[tuple[Kind, dict[str, Any], dict[str, Any]]] = [
    ("chat", {"usage": usage(5, 0)}, {"choices": [{"message": {"content": "Hello"}}]}),
    ("chat", {"usage": usage(5, 0)}, {"choices": [{"message": {"content": None, "tool_calls": [
        {"function": {"name": "f", "arguments": ""}}]}}]}),
    ("completions", {"usage": usage(5, 0)}, {"choices": [{"text": "Hello"}]}),
    ("responses", {"usage": {"input_tokens": 5, "output_tokens": 0}},
     {"output": [{"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}]}),
    ("messages", {"usage": {"input_tokens": 5, "output_tokens": 0}}, {"content": [{"type": "text", "text": "Hello"}]}),
    ("messages", {"usage": {"input_tokens": 5, "output_tokens": 0}},
     {"content": [{"type": "tool_use", "name": "f", "input": {}}]}),
    ("interactions", {"usage": {"total_input_tokens": 5, "total_output_tokens": 0}},
     {"steps": [{"content": [{"text": "Hello"}]}]}),
    ("converse", {"usage": {"inputTokens": 5, "outputTokens": 0}},
     {"output": {"message": {"content": [{"text": "Hello"}]}}}),
    ("invoke", {"prompt_token_count": 5, "generation_token_count": 0}, {"generation": "Hello"}),
    ("invoke", {"inputTextTokenCount": 5, "results": [{"tokenCount": 0}]}, {"results": [{"outputText": "Hello"}]}),
    ("cohere_chat", {"usage": {"tokens": {"input_tokens": 5, "output_tokens": 0}}},
     {"message": {"content": [{"type": "text", "text": "Hello"}]}}),
    ("cohere_chat_v1", {"meta": {"billed_units": {"input_tokens": 5, "output_tokens": 0}}}, {"text": "Hello"}),
    ("ollama_chat", {"prompt_eval_count": 5}, {"message": {"content": "Hello"}}),
    ("ollama_generate", {"prompt_eval_count": 5, "eval_count": 0}, {"response": "Hello"}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "stated", "answer"), BODIES)
def test_output_of_zero_beside_an_answer_is_unknown_and_without_one_it_stands(
    kind: Kind, stated: dict[str, Any], answer: dict[str, Any]
) -> None:
    api = Api(kind, "someone")
    assert reported(api, {**stated, **answer}) is None
    said = reported(api, stated)
    assert said is not None and said.usage == Usage(5, 0)


@pytest.mark.parametrize(("kind", "stated"), [
    ("chat", {"usage": usage(0, 7)}), ("chat", {"usage": NONE}), ("completions", {"usage": NONE}),
    ("responses", {"usage": {"input_tokens": 0, "output_tokens": 3}}),
    ("messages", {"usage": {"input_tokens": 0, "output_tokens": 0}}),
    ("generateContent", {"usageMetadata": {"promptTokenCount": 0, "candidatesTokenCount": 4}}),
    ("embedContent", {"usageMetadata": {"promptTokenCount": 0}}),
    ("interactions", {"usage": {"total_input_tokens": 0, "total_output_tokens": 4}}),
    ("converse", {"usage": {"inputTokens": 0, "outputTokens": 4}}), ("invoke", {"inputTextTokenCount": 0}),
    ("cohere_chat", {"usage": {"billed_units": {"input_tokens": 0, "output_tokens": 4}}}),
    ("cohere_embed", {"meta": {"billed_units": {"input_tokens": 0}}}),
])  # fmt: skip
def test_a_prompt_of_no_tokens_is_unknown(kind: Kind, stated: dict[str, Any]) -> None:
    assert reported(Api(kind, "someone"), stated) is None


@pytest.mark.parametrize(("kind", "body", "billed"), [
    ("messages", {"usage": {"input_tokens": 0, "output_tokens": 2, "cache_read_input_tokens": 9}}, Usage(9, 2, 9)),
    ("ollama_chat", {"eval_count": 38, "message": {"content": "Hello"}}, Usage(0, 38)),
    ("rerank", {"meta": {"billed_units": {"search_units": 1}}, "results": [{"index": 0}]}, Usage(0, 0)),
    ("chat", {"usage": {**NONE, "cost": 0.04}, "choices": [{"message": {"content": "a picture"}}]},
     Usage(0, 0, cost_usd="0.04")),
    ("generateContent", {"usageMetadata": {"promptTokenCount": 8, "totalTokenCount": 8},
     "candidates": [{"content": {"parts": [{"text": "of a free model"}]}}]}, Usage(8, 0)),
])  # fmt: skip
def test_a_zero_that_can_be_stands(kind: Kind, body: dict[str, Any], billed: Usage) -> None:
    said = reported(Api(kind, "someone"), body)
    assert said is not None and said.usage == billed


def test_what_openai_states_of_a_response_that_was_cut_stands_and_the_same_of_a_gateway_does_not() -> None:
    stated = {"input_tokens": 0, "output_tokens": 0}
    events = [
        {"type": "response.output_text.delta", "delta": "Hello"},
        {"type": "response.incomplete", "response": {"status": "incomplete", "usage": stated}},
    ]
    assert fed("responses", *events, provider="openai").reported is not None
    assert fed("responses", *events).reported is None
    events[1] = {"type": "response.completed", "response": {"status": "completed", "usage": stated}}
    assert fed("responses", *events, provider="openai").reported is None
    [row] = [row for row in exchanges("responses") if row["id"] == "8cff500e682db991"]
    said = report_of(row).reported
    assert (said and said.usage, api_of(row).provider) == (Usage(0, 0), "openai")


def chunk(text: str, stated: Any = None, reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": text}, "finish_reason": reason}], "usage": stated}


END = [chunk("", reason="stop"), b"[DONE]"]
WORDS = [chunk(TEXT) for _ in range(30)]
CUTS: dict[str, list[Any]] = {
    "zeros at the end": [*WORDS, END[0], {"choices": [], "usage": NONE}, END[1]],
    "output of zero": [*WORDS, END[0], {"choices": [], "usage": usage(14, 0)}, END[1]],
    "input of zero": [*WORDS, END[0], {"choices": [], "usage": usage(0, 3)}, END[1]],
    "in the first chunk only": [chunk(TEXT, usage(14, 0)), *WORDS, *END],
    "in the first chunk, some": [chunk(TEXT, usage(14, 13)), *WORDS, *END],
    "in the second chunk": [chunk(TEXT), {"choices": [], "usage": usage(14, 13)}, *WORDS, *END],
    "in the midst": [*WORDS, {"choices": [], "usage": usage(14, 13)}, *WORDS, *END],
    "before the last words": [*WORDS, {"choices": [], "usage": usage(14, 13)}, chunk("!", reason="stop"), b"[DONE]"],
    "before a call of a tool": [*WORDS, {"choices": [], "usage": usage(14, 13)}, {"choices": [{"delta": {
        "tool_calls": [{"function": {"name": "f", "arguments": ""}}]}}]}, *END],
}  # fmt: skip


@pytest.mark.parametrize("asked", [STREAMED, HIDDEN])
@pytest.mark.parametrize("name", CUTS)
def test_a_stream_that_fills_in_a_form_is_counted(world: World, name: str, asked: Any) -> None:
    assert fed("chat", *CUTS[name]).reported is None

    async def main() -> None:
        async with guard_of(world, on_stream_exceed="finish") as guard:
            play = Play([event(body) for body in CUTS[name]])
            assert (await heard(BudgetTransport(guard, Player(play)), request(asked))).error is None

    asyncio.run(main())
    row = only_row(world)
    assert (row["usage_source"], row["status"]) == ("counted", "settled")
    assert row["prompt_tokens"] > 0 and row["completion_tokens"] > 30 * len(TEXT) / 5
    if "14" in str(CUTS[name]):
        assert row["prompt_tokens"] == 14


@pytest.mark.parametrize("last", [usage(14, 900), {**usage(14, 900), "cost": 0.5}])
def test_usage_with_every_chunk_is_billed_by_the_last_of_them(last: Any) -> None:
    """`continuous_usage_stats` of vLLM and those that do so unasked."""
    running = [chunk(TEXT, usage(14, 30 * number)) for number in range(1, 30)]
    said = fed("chat", *running, chunk(TEXT, last), *END).reported
    assert said is not None and (said.usage.input_tokens, said.usage.output_tokens) == (14, 900)
    said = fed("chat", *running, chunk(TEXT, last, "stop"), {"choices": [], "usage": last}, END[1]).reported
    assert said is not None and said.usage.output_tokens == 900


def test_the_beginning_of_a_message_is_not_its_last_word_and_its_end_is() -> None:
    text = {"type": "content_block_delta", "delta": {"text": TEXT}}
    end = {"type": "message_delta", "usage": {"output_tokens": 12}}
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 9, "output_tokens": 1}}}
    said = fed("messages", start, text, text, end, {"type": "message_stop"})
    assert said.reported is not None and said.reported.usage == Usage(9, 12)
    start["message"]["usage"]["input_tokens"] = 0  # type: ignore[index]  # some gateways learn it at the end
    assert fed("messages", start, text, end).reported is None
    end["usage"] = {"input_tokens": 9, "output_tokens": 12}
    said = fed("messages", start, text, end)
    assert said.reported is not None and said.reported.usage == Usage(9, 12)
    end["usage"] = {"input_tokens": 9, "output_tokens": 0}
    assert fed("messages", start, text, end).reported is None


@pytest.mark.parametrize("name", [*CUTS, "good"])
def test_reading_later_tells_as_much_at_every_event(name: str) -> None:
    """Each event alone in its chunk, so that all that can be put off is."""
    good = [*WORDS, END[0], {"choices": [], "usage": usage(14, 900)}, END[1]]
    eager, late = StreamReport(Api("chat", "someone")), Stream(Api("chat", "someone"), ServerSentEvents(), cuts=False)
    for body in CUTS.get(name, good):
        late.feed(event(body))
        [frame] = ServerSentEvents().feed(event(body))
        eager.feed(frame)
        assert (late.said.reported, late.said.so_far) == (eager.reported, eager.so_far)
    assert (eager.reported is None) == (name != "good")
    assert late.report().streamed_tokens() == eager.streamed_tokens()


def test_a_stream_without_any_text_may_have_no_output(world: World) -> None:
    async def main() -> None:
        async with guard_of(world) as guard:
            play = Play([word(""), STOP, event({"choices": [], "usage": usage(14, 0)}), DONE])
            await heard(BudgetTransport(guard, Player(play)), request(STREAMED))

    asyncio.run(main())
    row = only_row(world)
    assert (row["prompt_tokens"], row["completion_tokens"], row["usage_source"]) == (14, 0, "reported")
