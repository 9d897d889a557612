"""The text that an event of a stream carries: content, arguments of tools and reasoning that is shown.

Not what tools of the provider found, signatures, citations, and sounds or images in base64: none of it is output that
is counted by its text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from budgetguard.wire.apis import Kind
from budgetguard.wire.counts import get

CALL = object()
"""Stands for the beginning of a call of a tool, which costs tokens beside its text."""
Texts = Iterator[Any]
"""Texts and CALLs, and whatever a hostile event has in their place."""


class Streamed(NamedTuple):
    """The text of an event: its `size_bytes` in UTF-8, and how many calls of tools begin in it."""

    size_bytes: int
    calls: int


def streamed(kind: Kind, event: Mapping[str, Any]) -> Streamed:
    """The text that an event carries."""
    read = _READERS.get(kind)
    texts = [] if read is None else list(read(event))
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts if isinstance(text, str))
    return Streamed(size, texts.count(CALL))


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _named(tool: Any) -> Texts:
    name = get(tool, "name")
    if name:
        yield CALL
        yield name


def _called(function: Any) -> Texts:
    """A call of a tool: its arguments are text, or an object where they came in one piece."""
    arguments = get(function, "arguments", "args")
    yield from _named(function)
    yield json.dumps(arguments, ensure_ascii=False) if isinstance(arguments, Mapping) else arguments


def _chat(event: Any) -> Texts:
    for choice in _items(get(event, "choices")):
        delta = get(choice, "delta")
        yield get(choice, "text")
        yield from _content(get(delta, "content"))
        yield get(delta, "reasoning_content", "reasoning")  # some send both, and they are the same
        yield get(delta, "refusal")
        yield get(get(delta, "audio"), "transcript")
        yield from _called(get(delta, "function_call"))
        for call in _items(get(delta, "tool_calls")):
            yield from _called(get(call, "function"))


def _content(content: Any) -> Texts:
    """Text, or Mistral's parts, of which thoughts have parts again."""
    yield content
    for part in _items(content):
        yield get(part, "text")
        for thought in _items(get(part, "thinking")):
            yield get(thought, "text")


def _responses(event: Any) -> Texts:
    kind = get(event, "type")
    if kind == "response.output_item.added":
        yield from _named(get(event, "item"))
    elif isinstance(kind, str) and kind.endswith(".delta") and "audio.delta" not in kind:
        yield get(event, "delta")


def _messages(event: Any) -> Texts:
    yield get(get(event, "delta"), "text", "partial_json", "thinking")
    block = get(event, "content_block")
    yield from _named(block)


def _gemini(event: Any) -> Texts:
    for candidate in _items(get(event, "candidates")):
        for part in _items(get(get(candidate, "content"), "parts")):
            yield get(part, "text")
            yield get(get(part, "executableCode"), "code")
            yield from _called(get(part, "functionCall"))


def _interactions(event: Any) -> Texts:
    delta = get(event, "delta")
    yield get(delta, "text", "code")
    yield get(get(delta, "content"), "text")  # a summary of thoughts
    yield from _called(delta)
    yield from _named(get(event, "step"))


def _converse(event: Any) -> Texts:
    delta = get(event, "delta")
    yield get(delta, "text")
    yield get(get(delta, "toolUse"), "input")
    yield get(get(delta, "reasoningContent"), "text")
    yield from _named(get(get(event, "start"), "toolUse"))


def _invoke(event: Any) -> Texts:
    """Whatever the vendor: Anthropic, Nova, Titan, Llama, Cohere, Mistral, and those who copy OpenAI."""
    yield from _messages(event)
    yield from _converse(get(event, "contentBlockDelta") or get(event, "contentBlockStart"))
    yield get(event, "outputText", "generation", "text")
    for output in _items(get(event, "outputs")):
        yield get(output, "text")
    yield from _chat(event)


def _cohere(event: Any) -> Texts:
    if get(event, "type") in ("content-delta", "tool-plan-delta", "tool-call-start", "tool-call-delta"):
        message = get(get(event, "delta"), "message")
        content = get(message, "content")
        yield get(content, "text")
        yield get(content, "thinking")
        yield get(message, "tool_plan")
        yield from _called(get(get(message, "tool_calls"), "function"))


def _cohere_v1(event: Any) -> Texts:
    if get(event, "event_type") == "text-generation":
        yield get(event, "text")
    elif get(event, "event_type") == "tool-calls-chunk":
        yield get(get(event, "tool_call_delta"), "parameters")


def _ollama(event: Any) -> Texts:
    message = get(event, "message")
    yield get(event, "response")
    yield get(event, "thinking")
    yield get(message, "content")
    yield get(message, "thinking")
    for call in _items(get(message, "tool_calls")):
        yield from _called(get(call, "function"))


def _complete(event: Any) -> Texts:
    yield get(event, "completion")


_READERS: Mapping[Kind, Callable[[Any], Texts]] = {
    "chat": _chat,
    "completions": _chat,
    "responses": _responses,
    "messages": _messages,
    "complete": _complete,
    "generateContent": _gemini,
    "interactions": _interactions,
    "converse": _converse,
    "invoke": _invoke,
    "cohere_chat": _cohere,
    "cohere_chat_v1": _cohere_v1,
    "ollama_chat": _ollama,
    "ollama_generate": _ollama,
}
