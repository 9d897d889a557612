"""What a response says that its call used, at once or in a stream.

A response that states no usage, or one that makes no sense, is unknown: None, never zero. Nor does zero make sense
where there was a prompt or where text was answered, nor what a stream states before more of its text: gateways that
fill in a form do so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from budgetguard.errors import InvalidAmount
from budgetguard.usage import Usage
from budgetguard.wire.answered import has_answer
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
_WITHOUT_INPUT = frozenset(["rerank", "ollama_chat", "ollama_generate", "ollama_embed"])
"""Cohere bills searches; Ollama leaves out a prompt that lay in its cache."""


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
    said = _stated(api, body, headers)
    return said if said is not None and _can_be(api, said, body, partial(has_answer, api.kind, body)) else None


def _stated(api: Api, body: Mapping[str, Any], headers: Mapping[str, str] = _NO_HEADERS) -> Reported | None:
    """The same, a zero too."""
    model = _name(get(body, "model", "modelVersion"))
    try:
        usages = {name: Usage(*counts) for name, counts in billed(api.kind, body, headers, model).items()}
    except InvalidAmount:
        return None
    own = usages.pop(None, None)
    others = tuple((name, usage) for name, usage in usages.items() if name is not None and _name(name))
    return None if own is None or len(others) < len(usages) else Reported(own, model, others)


def _can_be(api: Api, said: Reported, body: Mapping[str, Any], has_text: Callable[[], bool]) -> bool:
    """Whether what is stated for good makes sense: a prompt has tokens, and so has an answer.

    A cost is a bill whatever the tokens. OpenAI itself has stated zero of a response that was cut at its bound, as
    recorded in July 2025: what the provider says of its own bill stands.
    """
    usages = [said.usage, *(usage for _, usage in said.others)]
    cut = (api.kind, api.provider, body.get("status")) == ("responses", "openai", "incomplete")
    if said.usage.cost_usd or cut:
        return True
    if api.kind not in _WITHOUT_INPUT and not any(usage.input_tokens for usage in usages):
        return False
    return any(usage.output_tokens for usage in usages) or not has_text()


class StreamReport:
    """What one streamed response says that its call used, event by event.

    `reported` is None until the stream has said it for good: what comes before counts a part of the output only, and
    so does what more text follows.
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
        self.is_behind = False
        """Text has come since it stated its usage last."""
        self._last: Mapping[str, Any] = {}
        """What it stated last; empty where that could not be read."""
        self._ended = False

    def feed(self, frame: Frame) -> None:
        """Take note of the next event, whatever its bytes are."""
        event = event_of(self._api.kind, frame)
        self.error = error_of(frame, event) or self.error
        self.is_behind = self._count(frame, event) or self.is_behind
        said = statement(self._api.kind, event, self._first)
        if event.get("type") == "message_start":
            self._first = said.body
        if said.body:
            stated = _stated(self._api, said.body)
            self.so_far = stated or self.so_far
            self._last = said.body if stated else {}
            self.is_behind = False
        self._ended = self._ended or said.ended or frame.data.strip() == b"[DONE]"
        if self._ended:
            self.reported = self._final()

    def feed_text(self, frame: Frame) -> None:
        """Take note of an event of nothing but text, which came before others that have been fed by now."""
        self._count(frame, event_of(self._api.kind, frame))

    def _count(self, frame: Frame, event: Mapping[str, Any]) -> bool:
        """Count the text of an event; whether there is any."""
        text = streamed(self._api.kind, event)
        if text.size_bytes:
            self.envelope_bytes = max(1, len(frame.raw) - text.size_bytes)
            self.streamed_text_bytes += text.size_bytes
            self.pieces += 1
        self.calls += text.calls
        return text.size_bytes > 0 or text.calls > 0

    def _final(self) -> Reported | None:
        said = self.so_far if self._last and not self.is_behind else None
        has_text = self.pieces > 0 or self.calls > 0
        return said if said is not None and _can_be(self._api, said, self._last, lambda: has_text) else None

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
