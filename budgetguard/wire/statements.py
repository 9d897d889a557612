"""Which event of a stream states usage, and whether it is the last word."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from budgetguard.wire.anthropic_usage import merged
from budgetguard.wire.apis import Kind
from budgetguard.wire.bedrock_usage import METRICS
from budgetguard.wire.counts import get
from budgetguard.wire.frames import Frame
from budgetguard.wire.readers import chat_usage

_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_NO_EVENT: Mapping[str, Any] = {}
_OF_INVOKE = (METRICS, "usage", "metadata", "inputTextTokenCount", "prompt_token_count")
"""Where the models that Bedrock invokes state usage."""


class Statement(NamedTuple):
    """What an event says of usage, as a body would say it.

    Args:
        body: what the reader of the API reads; empty where the event states nothing.
        ended: the model has ended, so that what was stated last, now or next is final.
    """

    body: Mapping[str, Any] = _NO_EVENT
    ended: bool = False


def event_of(kind: Kind, frame: Frame) -> Mapping[str, Any]:
    """The JSON object of a frame, of Bedrock's invoke the one inside it; empty where there is none that can be read."""
    event = _parsed(frame.data)
    inner = event.get("bytes")
    if kind != "invoke" or not isinstance(inner, str):
        return event
    try:
        return _parsed(base64.b64decode(inner))
    except ValueError:
        return _NO_EVENT


def _parsed(data: bytes) -> Mapping[str, Any]:
    try:
        event = json.loads(data) if data.lstrip()[:1] == b"{" else None
    except (ValueError, RecursionError):
        return _NO_EVENT
    return event if isinstance(event, dict) else _NO_EVENT


def statement(kind: Kind, event: Mapping[str, Any], first: Mapping[str, Any]) -> Statement:
    """What an event says of usage.

    Args:
        first: the body that the stream began with (Anthropic's `message_start`), which its end is merged with.
    """
    if kind in ("messages", "invoke") and event.get("type") in ("message_start", "message_delta"):
        return _of_messages(event, first)
    if kind == "invoke":
        # Where Anthropic's own counts have come, those of Bedrock beside them only repeat them, less exactly.
        states = not first and any(name in event for name in _OF_INVOKE)
        return Statement(event, METRICS in event or "totalOutputTextTokenCount" in event) if states else Statement()
    read = _READERS.get(kind)
    return Statement() if read is None else read(event)


def error_of(frame: Frame, event: Mapping[str, Any]) -> str | None:
    """The code or type of an error inside a stream; "error" where it has none that is one word."""
    error = event.get("error") or get(event.get("response"), "error")
    of_aws = frame.name.startswith("error ") or frame.name.lower().endswith("exception")
    exception = frame.name.removeprefix("error ") if of_aws else None
    if not error and exception is None and event.get("type") != "error" and frame.name != "error":
        return None
    for word in (get(error, "code"), get(error, "type"), get(error, "status"), event.get("code"), exception):
        if isinstance(word, str | int) and _CODE.fullmatch(str(word)):
            return str(word)
    return "error"


def _of_messages(event: Mapping[str, Any], first: Mapping[str, Any]) -> Statement:
    if event["type"] == "message_start":
        message = event.get("message")
        return Statement({"usage": get(message, "usage"), "model": get(message, "model")})
    usage = event.get("usage")
    if usage is None:
        return Statement()
    # Without a count of the output the first one, of the beginning, would pass for the last.
    known = get(usage, "output_tokens") is not None
    return Statement({**first, "usage": merged(first.get("usage"), usage) if known else None}, ended=True)


def _of_chat(event: Any) -> Statement:
    choices = event.get("choices")
    stated = {"usage": chat_usage(event), "model": event.get("model")} if chat_usage(event) else _NO_EVENT
    last = choices[-1] if isinstance(choices, list) and choices else None
    return Statement(stated, bool(get(last, "finish_reason")) or (last is None and bool(stated)))


def _of_responses(event: Any) -> Statement:
    response = event.get("response")
    usage = get(response, "usage")
    if not usage:
        return Statement()
    return Statement({"usage": usage, "model": get(response, "model"), "status": get(response, "status")}, ended=True)


def _of_gemini(event: Any) -> Statement:
    candidates = event.get("candidates")
    blocked = get(event.get("promptFeedback"), "blockReason")
    reasons = [get(part, "finishReason") for part in candidates] if isinstance(candidates, list) else []
    states = get(event.get("usageMetadata"), "promptTokenCount") is not None
    return Statement(event if states else _NO_EVENT, any(reasons) or bool(blocked))


def _of_interactions(event: Any) -> Statement:
    interaction = event.get("interaction")
    usage = get(interaction, "usage")
    return Statement({"usage": usage, "model": get(interaction, "model")}, ended=True) if usage else Statement()


def _of_converse(event: Any) -> Statement:
    return Statement(event, ended=True) if event.get("usage") else Statement()


def _of_cohere(event: Any) -> Statement:
    ending = event.get("delta") if event.get("type") == "message-end" else event.get("response")
    usage = get(ending, "usage", "meta")
    return Statement({"usage": usage}, ended=True) if usage else Statement()


def _of_ollama(event: Any) -> Statement:
    return Statement(event, ended=True) if event.get("done") is True else Statement()


_READERS: Mapping[Kind, Callable[[Any], Statement]] = {
    "chat": _of_chat,
    "completions": _of_chat,
    "responses": _of_responses,
    "generateContent": _of_gemini,
    "interactions": _of_interactions,
    "converse": _of_converse,
    "cohere_chat": _of_cohere,
    "cohere_chat_v1": _of_cohere,
    "ollama_chat": _of_ollama,
    "ollama_generate": _of_ollama,
}
