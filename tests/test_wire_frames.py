"""Streamed bodies, taken apart: the same events wherever a body is cut, and every byte passed on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from frames_kit import FRAMINGS, aws_event, aws_message, frames_of, header, prelude, read, some_cuts
from wire_kit import body_of, exchanges

from budgetguard.wire.aws_events import AwsEvents
from budgetguard.wire.frames import Frame, Frames, frames_for
from budgetguard.wire.json_array import JsonArray
from budgetguard.wire.lines import JsonLines, ServerSentEvents


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [(b"a", ""), (b"b", "")]),
        (b"event: x\r\ndata: a\r\n\r\ndata:b\r\rdata\n\n", [(b"a", "x"), (b"b", "")]),
        (b": ping\n\n: PROCESSING\ndata: a\n\n", [(b"a", "")]),
        (b"data: a\ndata:  b\ndata:\ndata: c\n\n", [(b"a\n b\n\nc", "")]),
        (b"id: 7\nretry: 5\nunheard: of\ndata\n\n", []),
        (b"\xef\xbb\xbfdata: a\n\n", [(b"a", "")]),
        (b"\n\n\r\n\rdata: a\n\n", [(b"a", "")]),
        (b"event: x\n\ndata: a\n\n", [(b"a", "")]),  # a name without data goes with it
        (b"data: a\x00\x0b\x0c\x1c\xe2\x80\xa8\xff\n\n", [(b"a\x00\x0b\x0c\x1c\xe2\x80\xa8\xff", "")]),
        (b"event: \xff\ndata: a\n\n", [(b"a", "\ufffd")]),
        (b"data: a\n\ndata: b\n", [(b"a", ""), (b"b", "")]),  # the last empty line left out
        (b"data: a\r\r", [(b"a", "")]),
        (b"data: a\n\ndata: b", [(b"a", ""), (b"b", "")]),
        (b"", []),
    ],
)
def test_server_sent_events(body: bytes, events: list[tuple[bytes, str]]) -> None:
    for cut in range(len(body) + 1):
        assert read(frames_of(ServerSentEvents, body, [cut])) == events
    assert frames_of(ServerSentEvents, body, range(len(body))) == frames_of(ServerSentEvents, body)


def test_each_server_sent_event_has_exactly_its_bytes() -> None:
    events = [b": c\r\n\r\n", b"event: x\ndata: 1\n\n", b"\r", b"data: 2\r\rdata: ", b"3\n\r\n", b"data: 4\n"]
    body = b"".join(events)
    expected = [events[0], events[1], events[2], b"data: 2\r\r", b"data: 3\n\r\n", events[5]]
    for cut in range(len(body) + 1):
        assert [frame.raw for frame in frames_of(ServerSentEvents, body, [cut])] == expected


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b'{"a":1}\n{"b":2}\n', [b'{"a":1}', b'{"b":2}']),
        (b'{"a":1}\r\n\n  \n{"b":2}', [b'{"a":1}', b'{"b":2}']),
        (b'\xef\xbb\xbf{"a":"\xff\x00\r"}\n', [b'{"a":"\xff\x00\r"}']),
    ],
)
def test_lines_of_json(body: bytes, events: list[bytes]) -> None:
    for cut in range(len(body) + 1):
        assert read(frames_of(JsonLines, body, [cut])) == [(event, "") for event in events]


@pytest.mark.parametrize(
    ("body", "raws", "events"),
    [
        (b'[{"a":1}\n,\r\n{"b":[2]}\n]\n', [b'[{"a":1}', b'\n,\r\n{"b":[2]}', b"\n]\n"], [b'{"a":1}', b'{"b":[2]}']),
        (b'[{"a":"}]\\"{\\\\"}, [[1]], {}]', [b'[{"a":"}]\\"{\\\\"}', b", [[1]]", b", {}", b"]"],
         [b'{"a":"}]\\"{\\\\"}', b"[[1]]", b"{}"]),
        (b'{"error":{"code":400}}\n', [b'{"error":{"code":400}}', b"\n"], [b'{"error":{"code":400}}']),
        (b"[]", [b"[]"], []),
        (b'["a", 1, null]', [b'["a", 1, null]'], []),
        (b'[{"a":1},{"b":', [b'[{"a":1}', b',{"b":'], [b'{"a":1}']),
        (b"]}[{", [b"]}[{"], []),
        (b'[{"a":1}]]]{"b":2}', [b'[{"a":1}', b']]]{"b":2}'], [b'{"a":1}']),
        (b"no JSON at all", [b"no JSON at all"], []),
    ],
)  # fmt: skip
def test_arrays_of_json(body: bytes, raws: list[bytes], events: list[bytes]) -> None:
    for cut in range(len(body) + 1):
        frames = frames_of(JsonArray, body, [cut])
        assert [frame.raw for frame in frames] == raws
        assert read(frames) == [(event, "") for event in events]


OTHER_HEADERS = b"".join(
    bytes([len(name)]) + name + bytes([kind]) + value
    for name, kind, value in [
        (b"true", 0, b""), (b"false", 1, b""), (b"byte", 2, b"x"), (b"short", 3, b"xx"), (b"int", 4, b"x" * 4),
        (b"long", 5, b"x" * 8), (b"bytes", 6, b"\x00\x03xxx"), (b"time", 8, b"x" * 8), (b"uuid", 9, b"x" * 16),
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (aws_event(b'{"a":1}', "messageStart"), (b'{"a":1}', "messageStart")),
        (aws_message(b"p", OTHER_HEADERS + header(":event-type", "last")), (b"p", "last")),
        (aws_message(b"p", header(":message-type", "exception") + header(":exception-type", "throttlingException")),
         (b"p", "throttlingException")),
        (aws_message(b"p", header(":message-type", "error") + header(":error-code", "InternalFailure")),
         (b"p", "error InternalFailure")),
        (aws_message(b"p", b""), (b"p", "")),
        (aws_message(b"p", b"", headers_length=2), (b"", "")),
        (aws_message(b"p", b"", headers_length=2**32 - 1), (b"", "")),
        # Headers that lie: what was read before the lie holds.
        (aws_message(b"p", header(":event-type", "x") + b"\xff"), (b"p", "x")),
        (aws_message(b"p", header(":event-type", "x") + b"\x01a\x07\xff"), (b"p", "x")),
        (aws_message(b"p", header(":event-type", "x") + b"\x01a\x63" + header(":event-type", "y")), (b"p", "x")),
        (aws_message(b"p", b"\x0b:event-type\x07\xff\xffabc"), (b"p", "abc")),
        (aws_message(b"p", b"\x0b:event-type\x07\x00\x01\xff"), (b"p", "\ufffd")),
    ],
)  # fmt: skip
def test_aws_messages(message: bytes, event: tuple[bytes, str]) -> None:
    body = message + aws_event(b"q", "next")
    for cut in range(len(body) + 1):
        frames = frames_of(AwsEvents, body, [cut])
        assert frames == [Frame(message, *event), Frame(aws_event(b"q", "next"), b"q", "next")]


def test_an_aws_message_whose_sum_is_wrong_is_unread_and_the_next_is_read() -> None:
    good, bad = aws_event(b'{"a":1}'), bytearray(aws_event(b'{"b":2}'))
    bad[-6] ^= 1
    for cut in range(len(good + bad + good) + 1):
        frames = frames_of(AwsEvents, good + bad + good, [cut])
        assert frames == [Frame(good, b'{"a":1}', "chunk"), Frame(bytes(bad), b""), Frame(good, b'{"a":1}', "chunk")]


@pytest.mark.parametrize(
    "lie", [prelude(100, 0, true=False), prelude(15, 0), prelude(0, 0), prelude(40, 25), prelude(40, 2**32 - 1)]
)
def test_after_an_aws_prelude_that_lies_all_is_passed_on_unread(lie: bytes) -> None:
    good = aws_event(b"p")
    body = good + lie + good * 3
    for cut in range(len(body) + 1):
        assert read(frames_of(AwsEvents, body, [cut])) == [(b"p", "chunk")]
    frames = AwsEvents()
    frames.feed(body)
    assert frames.feed(b"more") == [Frame(b"more", b"")]
    assert frames.rest() == b""


def test_recorded_streams_give_their_recorded_events_wherever_they_are_cut() -> None:
    seen = dict.fromkeys(FRAMINGS, 0)
    for number, row in enumerate(exchanges()):
        if row.get("stream_format") is None or not row["response"].keys() & {
            "sse_text",
            "ndjson_text",
            "text",
            "body_b64",
        }:
            continue
        body, framing = body_of(row), FRAMINGS[row["stream_format"]]
        whole = frames_of(framing, body)
        seen[row["stream_format"]] += 1
        for seed in range(3):
            assert frames_of(framing, body, some_cuts(body, number * 3 + seed)) == whole
        events = [json.loads(data) for data, _ in read(whole) if data != b"[DONE]"]
        assert events or row["response"]["status"] >= 400
        if "events" in row["response"]:
            stated = [event["event_type"] for event in row["response"]["events"]]
            assert [name for _, name in read(whole)] == stated
    assert seen["sse"] > 300 and seen["aws_eventstream"] > 30 and min(seen.values()) >= 4, seen


def test_recorded_streams_byte_by_byte_and_in_two_at_every_place() -> None:
    small: dict[str, bytes] = {}
    for row in exchanges():
        kind = row.get("stream_format")
        if kind and row["response"].keys() & {"sse_text", "ndjson_text", "text", "body_b64"}:
            small[kind] = min(small.get(kind, body_of(row)), body_of(row), key=len)
    assert small.keys() == FRAMINGS.keys()
    for kind, body in small.items():
        whole = frames_of(FRAMINGS[kind], body)
        frames = FRAMINGS[kind]()
        one_by_one = [frame for place in range(len(body)) for frame in frames.feed(body[place : place + 1])]
        assert one_by_one + frames.end() == whole
        for cut in range(0, len(body) + 1, max(1, len(body) // 2_000)):
            assert frames_of(FRAMINGS[kind], body, [cut]) == whole


@pytest.mark.parametrize(
    ("content_type", "kind", "framing"),
    [
        ("text/event-stream", "chat", ServerSentEvents),
        ("Text/Event-Stream; charset=utf-8", "generateContent", ServerSentEvents),
        ("application/vnd.amazon.eventstream", "converse", AwsEvents),
        ("application/x-ndjson", "ollama_chat", JsonLines),
        ("application/stream+json", "cohere_chat_v1", JsonLines),
        ("application/json; charset=UTF-8", "chat", None),
        ("application/json; charset=UTF-8", "generateContent", None),
        ("", "chat", None),
    ],
)
def test_the_content_type_tells_the_framing(content_type: str, kind: Any, framing: type[Frames] | None) -> None:
    assert type(frames_for(content_type, kind)) is (framing or type(None))


@pytest.mark.parametrize(
    ("content_type", "kind", "framing"),
    [
        ("application/json; charset=UTF-8", "generateContent", JsonArray),
        ("application/json", "chat", None),  # an error, or a server that does not stream
        ("text/html", "generateContent", None),
        ("", "chat", ServerSentEvents),
        ("", "ollama_generate", JsonLines),
        ("", "invoke", AwsEvents),
        ("", "generateContent", JsonArray),
    ],
)
def test_where_it_does_not_the_api_tells_it_if_a_stream_was_asked_for(
    content_type: str, kind: Any, framing: type[Frames] | None
) -> None:
    assert type(frames_for(content_type, kind, streams=True)) is (framing or type(None))
