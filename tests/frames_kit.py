"""Bodies cut up in every way, and what their framing makes of them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from random import Random
from zlib import crc32

from budgetguard.wire.aws_events import AwsEvents
from budgetguard.wire.frames import Frame, Frames
from budgetguard.wire.json_array import JsonArray
from budgetguard.wire.lines import JsonLines, ServerSentEvents

FRAMINGS: Mapping[str, type[Frames]] = {
    "sse": ServerSentEvents,
    "ndjson": JsonLines,
    "aws_eventstream": AwsEvents,
    "json_array_stream": JsonArray,
}


def frames_of(framing: type[Frames], body: bytes, cuts: Iterable[int] = ()) -> list[Frame]:
    """The events of a body that comes cut at these places, after the check that no byte is lost on the way."""
    frames, found, done = framing(), list[Frame](), 0
    for end in (*cuts, len(body)):
        found += frames.feed(body[done:end])
        done = end
        assert b"".join(frame.raw for frame in found) + frames.rest() == body[:done]
    found += frames.end()
    assert frames.rest() == b""
    assert b"".join(frame.raw for frame in found) == body
    return found


def some_cuts(body: bytes, seed: int, most: int = 12) -> list[int]:
    """Up to so many places at which to cut, some at the same place: empty chunks come too."""
    random = Random(seed)
    return sorted(random.randint(0, len(body)) for _ in range(random.randint(0, most)))


def read(frames: Iterable[Frame]) -> list[tuple[bytes, str]]:
    """What can be read of events: data and name, those without data left out."""
    return [(frame.data, frame.name) for frame in frames if frame.data]


def header(name: str, value: str) -> bytes:
    """A header of an AWS message: a string."""
    text = value.encode()
    return bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(text)) + text


def prelude(total: int, headers: int, *, true: bool = True) -> bytes:
    """The first bytes of an AWS message, which may lie."""
    lengths = struct.pack(">II", total, headers)
    return lengths + struct.pack(">I", crc32(lengths) ^ (not true))


def aws_message(payload: bytes, headers: bytes, headers_length: int | None = None) -> bytes:
    """An AWS message with its sums; `headers_length` where it is to lie."""
    stated = len(headers) if headers_length is None else headers_length
    message = prelude(16 + len(headers) + len(payload), stated) + headers + payload
    return message + struct.pack(">I", crc32(message))


def aws_event(payload: bytes, name: str = "chunk") -> bytes:
    """An AWS message with the headers that Bedrock sends."""
    kind = header(":content-type", "application/json") + header(":message-type", "event")
    return aws_message(payload, header(":event-type", name) + kind)
