"""The paths of requests: which of them is which kind, which are free, and which names its model.

A path is told by its end, because gateways put their own beginnings before it. Sources: the providers' API references.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

Kind = Literal[
    "chat", "completions", "responses", "embeddings", "messages", "complete", "generateContent", "embedContent",
    "interactions", "converse", "invoke", "cohere_chat", "cohere_chat_v1", "cohere_embed", "rerank",
    "ollama_chat", "ollama_generate", "ollama_embed",
]  # fmt: skip
"""The shape of a request and its response, whoever serves it: `chat` is OpenAI's chat completions, `messages`
Anthropic's, `generateContent` Gemini's, `converse` and `invoke` Bedrock's."""

FREE: Final = "free"
"""What is known to bill nothing: counting, listing, fetching, the administration of models and files."""

Shape = Kind | Literal["free"]

_ANYWHERE: Mapping[str, Shape] = {
    # Ends of one or two segments that mean the same wherever they occur.
    "chat/completions": "chat",
    "completions": "completions",
    "responses": "responses",
    "responses/compact": "responses",
    "responses/input_tokens": FREE,
    "embeddings": "embeddings",
    "v1/messages": "messages",
    "messages/count_tokens": FREE,
    "v1/complete": "complete",
    "v1beta/interactions": "interactions",
    "v2/chat": "cohere_chat",
    "v1/embed": "cohere_embed",
    "v2/embed": "cohere_embed",
    "rerank": "rerank",
    "api/chat": "ollama_chat",
    "api/generate": "ollama_generate",
    "api/embed": "ollama_embed",
    "api/embeddings": "ollama_embed",
    "tokenize": FREE,
    "detokenize": FREE,
    # Logins, which some SDKs do through the client that they are given, and LiteLLM through its own.
    "oauth/token": FREE,
    "oauth2/token": FREE,
    "oauth/access_token": FREE,
    "device/code": FREE,
    "identity/token": FREE,  # IBM's
    "v2.0/token": FREE,  # Microsoft's
    "v2/oauth": FREE,  # GigaChat's
}
_COHERE: Mapping[str, Shape] = {"v1/chat": "cohere_chat_v1", "check-api-key": FREE}
_OLLAMA: Mapping[str, Shape] = {f"api/{end}": FREE for end in ("show", "pull", "push", "create", "copy")}
_GOOGLE: Mapping[str, Shape] = {"interactions": "interactions"}

AT_PROVIDER: Mapping[str, Mapping[str, Shape]] = {
    # Ends that mean something else, or are known to bill nothing, only at one provider.
    "openai": {"v1/moderations": FREE, "v1/files": FREE, "v1/uploads": FREE, "v1/conversations": FREE},
    "anthropic": {"v1/files": FREE},
    "azure_openai": {"v1/chat": "cohere_chat_v1"},
    "cohere": _COHERE,
    "gemini": {**_GOOGLE, "v1beta/files": FREE},
    "mistral": {"agents/completions": "chat"},
    "moonshot": {"tokenizers/estimate-token-count": FREE},
    "ollama": _OLLAMA,
    "perplexity": {"v1/agent": "responses", "v1/sonar": "chat"},
    "vertex": _GOOGLE,
    "writer": {"v1/chat": "chat"},
    "xai": {"tokenize-text": FREE},
}
AT_FAMILY: Mapping[str, Mapping[str, Shape]] = {
    # Ends that need no version or folder before them at a host that is declared to speak one family.
    "anthropic": {"messages": "messages", "complete": "complete"},
    "gemini": _GOOGLE,
    "cohere": {**_COHERE, "chat": "cohere_chat", "embed": "cohere_embed"},
    "ollama": {**_OLLAMA, "chat": "ollama_chat", "generate": "ollama_generate", "embed": "ollama_embed"},
}
# Of jobs that answer later, the answer's usage is on no response that is seen: perplexity's async/chat/completions.
_LATER = {"async"}
_CANCEL = re.compile(r"/(?:responses|interactions|batches)/[^/]+/cancel$")
# Mistral bills what stands at the same paths of conversations.
_OPENAI_STEP = re.compile(r"/v1/(?:uploads/[^/]+/(?:parts|complete|cancel)|conversations/[^/]+(?:/items)?)$")
_DEPLOYMENT = re.compile(r"/(?:deployments|engines)/([^/]+)/")
_BEDROCK = re.compile(r"/model/(.+)/(converse|invoke|count-tokens)(-stream|-with-response-stream)?$")
_METHODS: Mapping[str, Shape] = {
    "generateContent": "generateContent",
    "streamGenerateContent": "generateContent",
    "embedContent": "embedContent",
    "batchEmbedContents": "embedContent",
    "countTokens": FREE,
    "computeTokens": FREE,
}
_RAW = {"rawPredict", "streamRawPredict"}
_RAW_KINDS: Mapping[str, Kind] = {"anthropic": "messages", "mistralai": "chat", "ai21": "chat"}


def shape_of(path: str, provider: str | None, family: str | None) -> tuple[Shape, str | None, bool] | None:
    """What a POST to a path is: its kind or "free", the model that the path names, whether the path asks for a stream.

    Args:
        path: decoded, without the query, without a slash at its end.
        provider: who answers at the host; None where nobody is known to.
        family: what the host is declared to speak; None where it is not.
    """
    segments = path.rsplit("/", 3)
    last, two = segments[-1], "/".join(segments[-2:])
    if ":" in last or "/model/" in path:
        named = _of_google(path, *last.rpartition(":")[::2]) or _of_bedrock(path)
        if named is not None:
            return named
    for table in (AT_FAMILY.get(family or "", {}), AT_PROVIDER.get(provider or "", {}), _ANYWHERE):
        shape = table.get(two) or table.get(last)
        if shape is not None and _LATER.isdisjoint(segments[-3:-1]):
            found = None if shape == FREE else _DEPLOYMENT.search(path)
            return shape, found[1] if found else None, False
    free = _CANCEL.search(path) or (provider == "openai" and _OPENAI_STEP.search(path))
    return (FREE, None, False) if free else None


def _of_google(path: str, model: str, method: str) -> tuple[Shape, str | None, bool] | None:
    """Gemini's and Vertex's: `.../models/gemini-x:generateContent`, `.../publishers/anthropic/models/x:rawPredict`."""
    shape = _METHODS.get(method)
    if method in _RAW:
        publisher = path.rpartition("/models/")[0].rpartition("/")[2]
        shape = FREE if model == "count-tokens" else _RAW_KINDS.get(publisher)
    if shape is None:
        return None
    return shape, model or None, method.startswith("stream")


def _of_bedrock(path: str) -> tuple[Shape, str | None, bool] | None:
    """Bedrock's: `/model/{id or ARN}/converse` and its sisters."""
    found = _BEDROCK.search(path)
    if found is None:
        return None
    model, verb, stream = found.groups()
    if stream is not None and verb + stream not in ("converse-stream", "invoke-with-response-stream"):
        return None
    kinds: Mapping[str, Shape] = {"converse": "converse", "invoke": "invoke", "count-tokens": FREE}
    return kinds[verb], model, stream is not None
