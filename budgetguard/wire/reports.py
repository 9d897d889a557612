"""What a response says that its call used, at once or in a stream.

A response that states no usage, or one that makes no sense, is unknown: None, never zero.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from budgetguard.errors import InvalidAmount
from budgetguard.usage import Usage
from budgetguard.wire.apis import Api
from budgetguard.wire.counts import get
from budgetguard.wire.density import density_of
from budgetguard.wire.frames import Frame
from budgetguard.wire.readers import billed
from budgetguard.wire.statements import error_of, event_of, statement
from budgetguard.wire.streamed_text import streamed

_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_MOST_NAME = 200
"""Characters of a model's name; what is longer is none."""
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Reported(NamedTuple):
    """What a response says that its call used.

    Args:
        usage: as it is billed; with `cost_usd` where the body states the whole cost.
        model: the model that answered, None where the body does not say.
        others: what ran on other models inside the same call, at their prices, and is not in `usage`.
    """

    usage: Usage
    model: str | None
    others: tuple[tuple[str, Usage], ...] = ()


def reported(api: Api, body: Mapping[str, Any], headers: Mapping[str, str] = _NO_HEADERS) -> Reported | None:
    """What a body says that its call used; None if it says nothing, or nothing that makes sense.

    Args:
        body: a body of JSON, or what a stream says in its form.
        headers: of the response, by lower-case name: Bedrock's state the counts of bodies without usage.
    """
    model = _name(get(body, "model", "modelVersion"))
    try:
        usages = {name: Usage(*counts) for name, counts in billed(api.kind, body, headers, model).items()}
    except InvalidAmount:
        return None
    own = usages.pop(None, None)
    others = tuple((name, usage) for name, usage in usages.items() if name is not None and _name(name))
    return None if own is None or len(others) < len(usages) else Reported(own, model, others)


class StreamReport:
    """What one streamed response says that its call used, event by event.

    `reported` is None until the stream has said it for good: what comes before counts a part of the output only.
    """

    def __init__(self, api: Api) -> None:
        """A report of the stream that answers one request of `api`."""
        self.reported: Reported | None = None
        """What the stream has said for good: merged or the last, never summed."""
        self.so_far: Reported | None = None
        """What it has said last, final or not: of a stream that is cut, the whole input and a part of the output."""
        self.error: str | None = None
        """The code or type of the last error inside the stream."""
        self._api = api
        self._density = density_of(api)
        self.streamed_text_bytes = 0
        """The bytes of all its text: content, arguments of tools, reasoning that is shown."""
        self.pieces = 0
        """In how many events that came."""
        self.calls = 0
        """Of tools."""
        self.envelope_bytes = 0
        """Of the last event with text, what is none: about so much of the next is none either. Zero before any."""
        self._first: Mapping[str, Any] = {}
        self._ended = False
        self._readable = True

    def feed(self, frame: Frame) -> None:
        """Take note of the next event, whatever its bytes are."""
        event = event_of(self._api.kind, frame)
        self.error = error_of(frame, event) or self.error
        text = streamed(self._api.kind, event)
        if text.size_bytes:
            self.envelope_bytes = max(1, len(frame.raw) - text.size_bytes)
            self.streamed_text_bytes += text.size_bytes
            self.pieces += 1
        self.calls += text.calls
        said = statement(self._api.kind, event, self._first)
        if event.get("type") == "message_start":
            self._first = said.body
        if said.body:
            stated = reported(self._api, said.body)
            self.so_far = stated or self.so_far
            self._readable = stated is not None
        self._ended = self._ended or said.ended or frame.data.strip() == b"[DONE]"
        if self._ended:
            self.reported = self.so_far if self._readable else None

    def streamed_tokens(self) -> int:
        """The output streamed so far, in tokens, counted from its text: see `density`. Zero before any."""
        return self._density.of(self.streamed_text_bytes, self.pieces, self.calls)

    def is_usage_chunk(self, frame: Frame) -> bool:
        """Whether this is the extra chunk of chat that `include_usage` adds: usage, and an empty list of choices."""
        if self._api.kind not in ("chat", "completions") or not _NO_CHOICES.search(frame.data):
            return False
        event = event_of(self._api.kind, frame)
        return event.get("choices") == [] and isinstance(event.get("usage"), dict)


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _MOST_NAME else None
