"""What of a request reaches the model: texts, media, token numbers; found without recursion and in bounded time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from budgetguard.estimates.media import Medium, medium_of, of_data_uri

LEAST_NODES, _BYTES_PER_NODE = 6_000, 160
"""So many members and items are looked at, and more of a body above a megabyte: some 2 ms for each megabyte. An
agent's request of 200 messages has about 2,000."""
_MEDIUM_NODES = 12
"""A medium takes as long as so many of them."""

# What is never a text for the model, whatever its API.
_SILENT = frozenset((
    "model", "models", "role", "type", "id", "user", "metadata", "cache_control", "cachePoint", "signature",
    "thoughtSignature", "thought_signature", "tool_call_id", "tool_use_id", "toolUseId", "call_id", "status",
    "previous_response_id", "prompt_cache_key", "safety_identifier", "service_tier", "safetySettings", "include",
    "encoding_format", "anthropic_version", "anthropic_beta", "schemaVersion", "guardrailConfig", "provider",
    "keep_alive", "stop", "stop_sequences", "stopSequences", "logit_bias", "responseMimeType",
))  # fmt: skip
# Whose every key reaches the model too: tools, schemas, arguments. Those of the second line are texts elsewhere.
_VERBATIM = frozenset((
    "tools", "functions", "toolConfig", "documents", "response_format", "output_format", "output_config", "parameters",
    "responseSchema", "responseJsonSchema", "response_schema", "input_schema", "schema", "additional_tools",
    "text", "input", "format", "args", "arguments", "response", "json",
))  # fmt: skip
_TEXT_OR_LIST = frozenset(("text", "input", "format", "args", "arguments", "response", "json"))
_TOOLS = ("tools", "functions", "toolConfig")
_SCHEMAS = frozenset(("response_format", "output_format", "responseSchema", "responseJsonSchema", "response_schema"))
_WITH_FORMAT = frozenset(("output_config", "text"))
# What the type of a tool begins with, or the only key of Gemini's, where the provider runs it.
_SERVER_TOOLS = (
    "web_search", "web_fetch", "code_", "codeExecution", "file_search", "fileSearch", "mcp", "advisor", "openrouter:",
    "browser_search", "x_search", "google", "url", "enterpriseWebSearch",
)  # fmt: skip
_MESSAGES = ("messages", "contents", "input", "chat_history")


class Content:
    """What was found in a request."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.media: list[Medium] = []
        self.token_ids = 0
        """Tokens that the request gives as numbers."""
        self.keys = 0
        """Members of schemas and arguments: each brings its punctuation."""
        self.messages = 1
        self.has_tools = self.has_server_tools = self.has_schema = False
        self.is_whole = True
        """Whether everything was looked at."""

    @property
    def is_only_text(self) -> bool:
        """Whether nothing else brings tokens, as far as is known."""
        others = self.media or self.keys or self.has_tools or self.has_server_tools or self.has_schema
        return self.is_whole and not others

    @property
    def seen_bytes(self) -> int:
        """About so much of the body has been looked at: no more than there was."""
        return sum(map(len, self.texts)) + sum(len(medium.data) for medium in self.media)


def read(body: Mapping[str, Any], raw_bytes: int) -> Content:
    """Whatever text the body holds, save what is known never to reach a model: a new field counts until it is known."""
    found = Content()
    lists = [value for key in _MESSAGES if isinstance(value := body.get(key), list)]
    found.messages = max(1, sum(map(len, lists)))
    found.has_tools = any(body.get(key) for key in _TOOLS)
    tools = body.get("tools")
    found.has_server_tools = body.get("web_search_options") is not None or (
        isinstance(tools, list) and any(_runs_at_server(tool) for tool in tools[:LEAST_NODES])
    )
    left, schemas = _read_messages(body, found, max(LEAST_NODES, raw_bytes // _BYTES_PER_NODE))
    if left > 0:
        left = _read_schemas(schemas, found, left)
    found.is_whole = left > 0
    return found


def _read_messages(body: Mapping[str, Any], found: Content, left: int) -> tuple[int, list[Any]]:
    """Collect what stands in messages; also says how many nodes may still be looked at, and which schemas to read."""
    stack: list[Any] = [body]
    schemas: list[Any] = []
    while stack and left > 0:
        node = stack.pop()
        if isinstance(node, str):
            _add_text(node, found)
        elif isinstance(node, list):
            left = _open_list(node, stack, found, left)
        elif isinstance(node, Mapping):
            left -= 1 + len(node)
            medium = medium_of(node) if left > 0 and node is not body else None
            if medium is not None:
                left -= _MEDIUM_NODES
                found.media.append(medium)
                continue
            for key, value in node.items() if left > 0 else ():
                if key in _SILENT:
                    continue
                if isinstance(value, str):
                    if key == "inputImage":  # Titan's
                        found.media.append(_image(value))
                    else:
                        _add_text(value, found)
                elif key in _VERBATIM and (key not in _TEXT_OR_LIST or isinstance(value, dict)):
                    schemas.append(value)
                    if key in _SCHEMAS or (key in _WITH_FORMAT and "format" in value):
                        found.has_schema = True
                elif key == "images" and isinstance(value, list):  # Ollama's, bare base64
                    left -= len(value) * _MEDIUM_NODES
                    found.media += [_image(image) for image in (value if left > 0 else ()) if isinstance(image, str)]
                elif isinstance(value, (dict, list)):
                    stack.append(value)
    return left, schemas


def _read_schemas(schemas: list[Any], found: Content, left: int) -> int:
    """Collect keys and values alike."""
    stack = schemas
    while stack and left > 0:
        node = stack.pop()
        if isinstance(node, str):
            _add_text(node, found)
        elif isinstance(node, list):
            left = _open_list(node, stack, found, left)
        elif isinstance(node, dict):
            left -= 1 + len(node)
            if left > 0:
                found.keys += len(node)
                found.texts.extend(key for key in node if isinstance(key, str))
                stack.extend(node.values())
        else:
            found.keys += 1  # a number, true, null
    return left


def _open_list(items: list[Any], stack: list[Any], found: Content, left: int) -> int:
    """Put the items on the stack; says how many nodes are left. Token numbers are only counted."""
    if items and type(items[0]) is int and type(items[-1]) is int:
        found.token_ids += len(items)
        return left - 1
    left -= 1 + len(items)
    if left > 0:
        stack.extend(items)
    return left


def _add_text(text: str, found: Content) -> None:
    if text.startswith("data:") and ";base64," in text[:200]:
        found.media.append(of_data_uri(text))
    else:
        found.texts.append(text)


def _image(text: str) -> Medium:
    return of_data_uri(text) if text.startswith("data:") else Medium("image", text)


def _runs_at_server(tool: Any) -> bool:
    if not isinstance(tool, dict) or not tool:
        return False
    kind = tool.get("type", next(iter(tool)))
    return isinstance(kind, str) and kind.startswith(_SERVER_TOOLS)
