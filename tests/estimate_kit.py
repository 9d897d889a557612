"""The recorded requests that an estimate is held to: those whose text is all that is billed as input."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

from wire_kit import Exchange

from budgetguard.wire.apis import Api, Kind

EXCLUDED = Path(__file__).parent / "data" / "estimate_excluded.toml"

_KINDS = {
    "chat_v2": "cohere_chat",
    "chat_v1": "cohere_chat_v1",
    "native_chat": "ollama_chat",
    "native_generate": "ollama_generate",
    "responses_compact": "responses",
}
"""Where the recordings have another name for it."""
_EMBEDDINGS = {"cohere": "cohere_embed", "gemini": "embedContent"}
_TOOLS = {
    "tools", "functions", "toolConfig", "additional_tools", "tool_use", "tool_result", "tool_calls", "function_call",
    "function_call_output", "functionCall", "functionResponse", "toolUse", "toolResult",
}  # fmt: skip
_SCHEMAS = {"response_format", "output_format", "responseSchema", "responseJsonSchema", "json_schema"}
_MEDIA = {
    "image", "image_url", "input_image", "images", "file", "input_file", "document", "document_url", "audio",
    "input_audio", "video", "inlineData", "inline_data", "fileData", "file_data",
}  # fmt: skip
_STATE = {"previous_response_id", "conversation", "cachedContent", "agent"}


def api_of(row: Exchange) -> Api:
    """Where a recorded request goes; the model is in its path where the body has none."""
    name = _EMBEDDINGS.get(row["provider"], "embeddings") if row["api"] == "embeddings" else row["api"]
    model = None if "model" in row["request"]["json"] else row["model"]
    return Api(cast(Kind, _KINDS.get(name, name)), row["provider"], model)


def body_of_request(row: Exchange) -> dict[str, Any] | None:
    """Its JSON; None where the recording has none, or the request is one that only counts."""
    request = row["request"]
    body = request["json"] if request and row["api"] != "count_tokens" else None
    return body if isinstance(body, dict) else None


def billed_input(row: Exchange) -> int | None:
    """The input tokens that are billed: of Cohere less than what its models read."""
    said = row["usage_truth"] or {}
    return cast("int | None", said.get("input") if said.get("billed_input") is None else said["billed_input"])


def group(row: Exchange) -> str:
    """ "text" where nothing but the text of the request is billed as input, else what else there is."""
    body = body_of_request(row)
    if body is None or not billed_input(row):
        return "nothing to compare"
    named = {key for key, value in _members(body) if value}
    if named & _TOOLS:
        return "tools"
    if named & _SCHEMAS or isinstance(body.get("text"), dict) or "format" in (body.get("output_config") or {}):
        return "schema"
    if named & _MEDIA or row.get("request_media_omitted_chars"):
        return "media"
    if (
        named & _STATE
        or body.get("web_search_options") is not None
        or isinstance(body.get("prompt"), dict)
        or body.get("background")
    ):
        return "state"
    return "text"


@cache
def excluded() -> dict[str, str]:
    """The reason for each request that is left out by its id."""
    tables = tomllib.loads(EXCLUDED.read_text(encoding="utf-8"))
    return {row_id: f"{name}: {reason}" for name, table in tables.items() for row_id, reason in table.items()}


def _members(body: Any) -> Iterator[tuple[str, Any]]:
    """Every member of every object, and the `type` of each as one."""
    stack = [body]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            yield from node.items()
            if isinstance(node.get("type"), str):
                yield node["type"], node
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)
