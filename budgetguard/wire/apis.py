"""Which API a request goes to: told by its method, host and path."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal[
    "chat", "completions", "responses", "embeddings", "messages", "complete", "generateContent", "embedContent",
    "interactions", "converse", "invoke", "cohere_chat", "cohere_chat_v1", "cohere_embed", "rerank",
    "ollama_chat", "ollama_generate", "ollama_embed",
]  # fmt: skip
"""The shape of a request and its response, whoever serves it: `chat` is OpenAI's chat completions, `messages`
Anthropic's, `generateContent` Gemini's, `converse` and `invoke` Bedrock's."""


class Api(NamedTuple):
    """One kind of request of one provider. `model` where the path names it, else None."""

    kind: Kind
    provider: str
    model: str | None = None
