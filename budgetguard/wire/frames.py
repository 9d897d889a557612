"""Streamed bodies, taken apart as they come: server-sent events, lines of JSON, AWS event streams, JSON arrays."""

from __future__ import annotations

from collections.abc import Mapping

from budgetguard.wire.aws_events import AwsEvents
from budgetguard.wire.framing import MOST_FRAME, Frame, Frames
from budgetguard.wire.json_array import JsonArray
from budgetguard.wire.lines import JsonLines, ServerSentEvents
from budgetguard.wire.paths import Kind

__all__ = ["MOST_FRAME", "Frame", "Frames", "frames_for"]

_BY_TYPE: Mapping[str, type[Frames]] = {
    "text/event-stream": ServerSentEvents,
    "application/vnd.amazon.eventstream": AwsEvents,
    "application/x-ndjson": JsonLines,
    "application/ndjson": JsonLines,
    "application/jsonl": JsonLines,
    "application/x-jsonlines": JsonLines,
    "application/stream+json": JsonLines,  # Cohere's first version
}
_BY_KIND: Mapping[Kind, type[Frames]] = {
    "generateContent": JsonArray,
    "converse": AwsEvents,
    "invoke": AwsEvents,
    "cohere_chat_v1": JsonLines,
    "ollama_chat": JsonLines,
    "ollama_generate": JsonLines,
}


def frames_for(content_type: str, kind: Kind, *, streams: bool = False) -> Frames | None:
    """The framing of a response's body, None where it is no stream.

    Args:
        content_type: the response's header, "" where it has none.
        kind: of the API.
        streams: the request asked for a stream. Gemini's array of JSON has the type of any JSON, and some servers send
            no type at all: only with this are they taken for streams.
    """
    media = content_type.partition(";")[0].strip().lower()
    found = _BY_TYPE.get(media)
    if found is None and streams and (not media or (media == "application/json" and kind == "generateContent")):
        found = _BY_KIND.get(kind, ServerSentEvents)
    return found() if found else None
