"""What a request asks for, read from its JSON; and how it is made to tell its usage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from budgetguard.wire.apis import Api

_TELLS_WHEN_ASKED = frozenset(["chat", "completions"])
_TELL_UNASKED = frozenset(["mistral"])
"""Providers that always tell, and refuse a request that asks for it (422: "Extra inputs are not permitted")."""
_OWN_DATA = "data_sources"
"""Azure's "on your data", which refuses it in any version: https://github.com/openai/openai-python/issues/2296"""
_MOST_NAME = 512


class Asked(NamedTuple):
    """One request.

    Args:
        api: where it goes.
        body: its JSON; empty where it is none, which only the provider can refuse rightly.
        model: the one that is asked for, None where nobody says.
        streams: whether the answer is to be a stream.
    """

    api: Api
    body: Mapping[str, Any]
    model: str | None
    streams: bool

    @property
    def hides_usage(self) -> bool:
        """A stream that tells its usage only when asked to, and is not asked."""
        options = self.body.get("stream_options")
        told = isinstance(options, Mapping) and options.get("include_usage") is True
        refuses = self.api.refuses_stream_options or self.api.provider in _TELL_UNASKED or _OWN_DATA in self.body
        return self.streams and self.api.kind in _TELLS_WHEN_ASKED and not refuses and not told


def asked(api: Api, content: bytes) -> Asked:
    """Read a request's body."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    body = found if isinstance(found, dict) else {}
    model = body.get("model") or api.model
    streams = api.streams or body.get("stream") is True or (api.kind.startswith("ollama") and "stream" not in body)
    return Asked(api, body, model if isinstance(model, str) and 0 < len(model) <= _MOST_NAME else None, streams)


def telling_usage(body: Mapping[str, Any]) -> dict[str, Any]:
    """The same request, asked to tell its usage at the end of the stream."""
    options = body.get("stream_options")
    return {**body, "stream_options": {**(options if isinstance(options, dict) else {}), "include_usage": True}}
