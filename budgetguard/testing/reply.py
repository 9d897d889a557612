"""What a fake provider answers, written down: a status, headers, a body or the events of one, and how it goes wrong."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from itertools import accumulate
from struct import pack
from typing import Any, Literal, Self
from zlib import crc32

from budgetguard.core.amounts import check_amount
from budgetguard.usage import Usage

NO_ANSWER = -1
"""As `Reply.cut_at`: the connection breaks off before the first byte of the answer."""
SSE, NDJSON, AWS_EVENTS = "text/event-stream", "application/x-ndjson", "application/vnd.amazon.eventstream"
"""The content types of streams."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. `dataclasses.replace` makes another of it.

    Args:
        status: of HTTP.
        headers: beside those of the connection and the length, which the provider adds itself.
        body: whole, or the events of a stream, which are sent one by one.
        latency_ms: before the first byte; None is the provider's.
        interval_ms: before each event; None is the provider's `chunk_interval_ms`.
        cut_at: after how many bytes of the body the connection breaks off; `NO_ANSWER`: before the status.
        hang: the provider falls silent where it would break off; without `cut_at` it never answers.
        billed: what the provider bills, however the call ends: "stated" is what the body says, None nothing.
        model: what it bills it for; "" is the model that the request names.
        id: of the line of the bill; "" is a number of its own.

    Raises:
        InvalidAmount: a number is not one; names the field.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Sequence[bytes] = b""
    _: KW_ONLY
    latency_ms: int | None = None
    interval_ms: int | None = None
    cut_at: int | None = None
    hang: bool = False
    billed: Usage | Literal["stated"] | None = "stated"
    model: str = ""
    id: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "headers", {name.lower(): value for name, value in self.headers.items()})
        check_amount(self.status, "status")
        for name in ("latency_ms", "interval_ms"):
            if getattr(self, name) is not None:
                check_amount(getattr(self, name), name)
        if self.cut_at is not None and self.cut_at != NO_ANSWER:
            check_amount(self.cut_at, "cut_at")

    @classmethod
    def json(cls, value: Any, status: int = 200, **options: Any) -> Self:
        """An answer of JSON; further options as the fields say."""
        headers = {"content-type": "application/json", **options.pop("headers", {})}
        return cls(status, headers, json.dumps(value).encode(), **options)

    @classmethod
    def stream(cls, events: Iterable[bytes], content_type: str = SSE, **options: Any) -> Self:
        """A stream of what `sse_event`, `json_line` or `aws_event` make; further options as the fields say."""
        headers = {"content-type": content_type, **options.pop("headers", {})}
        return cls(options.pop("status", 200), headers, tuple(events), **options)

    @property
    def events(self) -> Sequence[bytes]:
        """The parts that the body is sent in."""
        return (self.body,) if isinstance(self.body, bytes) else self.body

    @property
    def content(self) -> bytes:
        """The whole body."""
        return b"".join(self.events)

    def cut_after(self, events: int) -> Self:
        """The same, broken off after so many events; a body that is no stream before the first byte of the answer."""
        if isinstance(self.body, bytes):
            return replace(self, cut_at=NO_ANSWER)
        ends = [0, *accumulate(len(event) for event in self.body)]
        return replace(self, cut_at=ends[min(check_amount(events, "events"), len(self.body))])


def sse_event(data: Any, name: str = "") -> bytes:
    """A server-sent event; `data` is text (`[DONE]`) or a value of JSON."""
    lines = (data if isinstance(data, str) else json.dumps(data)).split("\n")
    return ((f"event: {name}\n" if name else "") + "".join(f"data: {line}\n" for line in lines) + "\n").encode()


def json_line(value: Any) -> bytes:
    """A line of JSON, as Ollama streams."""
    return json.dumps(value).encode() + b"\n"


def aws_event(name: str, value: Any, kind: Literal["event", "exception"] = "event") -> bytes:
    """A message of an AWS event stream, as Bedrock streams: https://smithy.io/2.0/aws/amazon-eventstream.html"""
    words = {f":{kind}-type": name, ":content-type": "application/json", ":message-type": kind}
    headers = b"".join(
        pack(">B", len(word)) + word.encode() + b"\x07" + pack(">H", len(text)) + text.encode()
        for word, text in words.items()
    )
    payload = json.dumps(value).encode()
    lengths = pack(">II", 16 + len(headers) + len(payload), len(headers))
    message = lengths + pack(">I", crc32(lengths)) + headers + payload
    return message + pack(">I", crc32(message))
