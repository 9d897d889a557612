"""Whether a body holds an answer that a model wrote: text, thoughts, calls of tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from budgetguard.wire.apis import Kind

_ANSWERS: Mapping[Kind, tuple[str, ...]] = {
    # Not of Gemini, which leaves out counts that are zero, those of free models too (recorded of Gemma).
    "chat": ("choices",),
    "completions": ("choices",),
    "responses": ("output",),
    "messages": ("content",),
    "complete": ("completion",),
    "interactions": ("steps", "outputs"),
    "converse": ("output",),
    "invoke": ("content", "output", "completion", "generation", "results", "choices", "outputs", "text"),
    "cohere_chat": ("message",),
    "cohere_chat_v1": ("text", "tool_calls"),
    "ollama_chat": ("message",),
    "ollama_generate": ("response", "thinking"),
}
"""Where a body has it."""
_TEXTS = (
    "content", "text", "outputText", "completion", "generation", "response", "refusal", "thinking", "reasoning",
    "reasoning_content", "tool_plan", "arguments", "name",
)  # fmt: skip
"""What it is named there; a `name` is that of a tool."""


def has_answer(kind: Kind, body: Mapping[str, Any]) -> bool:
    """Whether a body holds anything that takes output."""
    waiting: list[Any] = [{name: body.get(name) for name in _ANSWERS.get(kind, ())}]
    while waiting:
        found = waiting.pop()
        if isinstance(found, list):
            waiting.extend(found)
        elif isinstance(found, dict):
            if any(isinstance(text := found.get(name), str) and text for name in _TEXTS):
                return True
            waiting.extend(found.values())
    return False
