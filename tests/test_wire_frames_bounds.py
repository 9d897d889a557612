"""What taking streamed bodies apart costs: bounded memory, and each byte looked at once."""

from __future__ import annotations

import sys
from typing import Any
from zlib import crc32

import pytest
from frames_kit import FRAMINGS, aws_event, frames_of, prelude, read

from budgetguard.wire import aws_events, json_array, lines
from budgetguard.wire.aws_events import AwsEvents
from budgetguard.wire.frames import MOST_FRAME, Frame, Frames
from budgetguard.wire.lines import ServerSentEvents

LONG_EVENTS: dict[str, tuple[bytes, bytes, bytes, bytes]] = {
    # The beginning of an event, what it goes on with, its end, and a whole event after it.
    "sse": (b"data: ", b"x" * 63 + b"\r", b"\n\r\n", b"data: 1\n\n"),
    "ndjson": (b'{"a": "', b"x", b'"}\n', b"1\n"),
    "json_array_stream": (b'[{"a": "', b"]" * 62 + b'\\"', b'"}', b",[1]"),
}


@pytest.mark.parametrize("kind", LONG_EVENTS)
@pytest.mark.parametrize("size", [64 * 1024 + 1, 4 * MOST_FRAME])
def test_an_event_that_is_too_long_is_passed_on_unread_in_bounded_memory(kind: str, size: int) -> None:
    begin, more, end, after = LONG_EVENTS[kind]
    body = begin + more * (2 * MOST_FRAME // len(more)) + end + after
    frames, found = FRAMINGS[kind](), list[Frame]()
    for place in range(0, len(body), size):
        found += frames.feed(body[place : place + size])
        assert len(frames.rest()) <= MOST_FRAME
    found += frames.end()
    assert b"".join(frame.raw for frame in found) == body
    assert len(read(found)) == 1
    assert found[-1].raw == after


def test_an_aws_message_of_absurd_length_is_passed_on_unread_in_bounded_memory() -> None:
    absurd, chunk, frames, passed = prelude(2**32 - 1, 2**20), bytes(2**20), AwsEvents(), 0
    for number in range(3 * MOST_FRAME // len(chunk)):
        found = frames.feed(chunk if number else absurd + chunk)
        passed += sum(len(frame.raw) for frame in found)
        assert read(found) == []
        assert len(frames.rest()) <= MOST_FRAME
    assert passed > 2 * MOST_FRAME


@pytest.mark.parametrize("size", [MOST_FRAME + 1, 2**16])
def test_the_longest_event_that_is_read_does_not_depend_on_how_it_comes(size: int) -> None:
    for length in (MOST_FRAME, MOST_FRAME + 1):
        body = b"data: ".ljust(length - 2, b"x") + b"\n\n"
        assert len(read(frames_of(ServerSentEvents, body, range(size, len(body), size)))) == (length == MOST_FRAME)


class Watched:
    """A pattern that counts the bytes it is made to look at."""

    def __init__(self, pattern: Any) -> None:
        self.pattern, self.looked = pattern, 0

    def search(self, text: bytearray, place: int) -> Any:
        found = self.pattern.search(text, place)
        self.looked += (found.end() if found else len(text)) - place
        return found


def work_of(framing: type[Frames], body: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Calls made, and bytes looked at or summed up, to take a body in byte by byte."""
    hashed, calls = [0], [0]

    def summed(data: bytes) -> int:
        hashed[0] += len(data)
        return crc32(data)

    names = [(lines, "_LINE_END"), (lines, "_NEWLINE"), (json_array, "_IN_TEXT"), (json_array, "_BETWEEN")]
    with monkeypatch.context() as patch:
        patch.setattr(aws_events, "crc32", summed)
        watched = [Watched(getattr(module, name)) for module, name in names]
        for (module, name), one in zip(names, watched, strict=True):
            patch.setattr(module, name, one)
        frames = framing()
        sys.setprofile(lambda *_: calls.__setitem__(0, calls[0] + 1))
        try:
            for place in range(len(body)):
                frames.feed(body[place : place + 1])
        finally:
            sys.setprofile(None)
    return calls[0], hashed[0] + sum(one.looked for one in watched)


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("sse", lambda size: b"data: ".ljust(size, b"x")),
        ("sse", lambda size: b"\r" * size),
        ("ndjson", lambda size: b" " * size),
        ("json_array_stream", lambda size: b'[{"a": "'.ljust(size, b"\\")),
        ("json_array_stream", lambda size: b"[" * size),
        ("aws_eventstream", lambda size: aws_event(bytes(size))),
        ("aws_eventstream", lambda size: aws_event(b"") * (size // 80)),
    ],
)
def test_bytes_that_come_one_by_one_are_each_looked_at_once(
    kind: str, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    once, twice = make(4_000), make(8_000)
    (calls, looked), (more_calls, more_looked) = (work_of(FRAMINGS[kind], body, monkeypatch) for body in (once, twice))
    assert looked <= 3 * len(once)
    assert more_looked <= 2.1 * looked
    assert more_calls <= 2.1 * calls
