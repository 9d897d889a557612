"""Clients of the OpenAI and Anthropic SDKs, async and sync, as one kind of thing: tests are run on each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
from guard_kit import MODEL, World
from replay_kit import Reply, json_reply, sse_reply
from store_kit import rows

import budgetguard as bg

openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")

MESSAGES = [{"role": "user", "content": "Say hello."}]
CHAT = {
    "id": "c-1", "object": "chat.completion", "created": 1, "model": MODEL,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 500, "completion_tokens": 100, "total_tokens": 600},
}  # fmt: skip
MESSAGE = {
    "id": "m-1", "type": "message", "role": "assistant", "model": MODEL,
    "content": [{"type": "text", "text": "Hello!"}], "stop_reason": "end_turn", "stop_sequence": None,
    "usage": {"input_tokens": 500, "output_tokens": 100},
}  # fmt: skip


def chat_chunks(words: int, usage: bool = True) -> list[Any]:
    """The events of a chat stream."""
    envelope = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    delta = {"index": 0, "delta": {"role": "assistant", "content": "hello "}, "finish_reason": None}
    last = [{**envelope, "choices": [], "usage": CHAT["usage"]}] if usage else []
    return [*({**envelope, "choices": [delta]} for _ in range(words)), *last, "[DONE]"]


def message_events(words: int) -> list[Any]:
    """The events of a message stream."""
    start = {**MESSAGE, "content": [], "stop_reason": None, "usage": {"input_tokens": 500, "output_tokens": 1}}
    return [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello "}}
            for _ in range(words)
        ),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 100},
        },
        {"type": "message_stop"},
    ]


class Sdk(NamedTuple):
    """One class of client: how it is made, called and read."""

    kind: Any
    is_async: bool
    base: type[Exception]
    options: Mapping[str, Any]
    plain: Reply
    stream: Callable[[int], Reply]

    def client(self, url: str, **options: Any) -> Any:
        """A client of a server."""
        place = {"azure_endpoint": url} if "zure" in self.kind.__name__ else {"base_url": url}
        return self.kind(api_key="canary-key", **place, **self.options, **options)

    def create(self, client: Any, **options: Any) -> Any:
        """Ask for one answer; a stream is read to its end, and its events returned."""
        if options.get("stream"):
            events: list[Any] = []
            self.read(client, events, **options)
            return events
        return self.run(self.resource(client).create(**{**self.request, **options}))

    def read(self, client: Any, events: list[Any], **options: Any) -> None:
        """Read a stream to its end, its events into a list: they stay where it ends with an error."""
        stream = self.run(self.resource(client).create(**{**self.request, **options, "stream": True}))
        if not self.is_async:
            for event in stream:
                events.append(event)
            return

        async def read() -> None:
            async for event in stream:
                events.append(event)

        self.run(read())

    def run(self, found: Any) -> Any:
        """What a method of the client returns, awaited where it is async."""
        return loop().run(found) if self.is_async else found

    @property
    def request(self) -> dict[str, Any]:
        return {"model": MODEL, "messages": MESSAGES, "max_tokens": 20}

    def resource(self, client: Any) -> Any:
        """What answers chats."""
        return client.chat.completions if hasattr(client, "chat") else client.messages

    def close(self, client: Any) -> None:
        """Close a client."""
        self.run(client.close())

    def text(self, answer: Any) -> str:
        """What a plain answer says."""
        return str(answer.choices[0].message.content if hasattr(answer, "choices") else answer.content[0].text)


_loops: list[asyncio.Runner] = []
_AZURE = {"api_version": "2024-10-21", "azure_deployment": "acme-1"}
SDKS = [
    Sdk(kind, "Async" in kind.__name__, base, options, json_reply(body), stream)
    for kind, base, options, body, stream in (
        (openai.OpenAI, openai.OpenAIError, {}, CHAT, lambda words: sse_reply(*chat_chunks(words))),
        (openai.AsyncOpenAI, openai.OpenAIError, {}, CHAT, lambda words: sse_reply(*chat_chunks(words))),
        (openai.AzureOpenAI, openai.OpenAIError, _AZURE, CHAT, lambda words: sse_reply(*chat_chunks(words))),
        (openai.AsyncAzureOpenAI, openai.OpenAIError, _AZURE, CHAT, lambda words: sse_reply(*chat_chunks(words))),
        (anthropic.Anthropic, anthropic.AnthropicError, {}, MESSAGE, lambda words: sse_reply(*message_events(words))),
        (anthropic.AsyncAnthropic, anthropic.AnthropicError, {}, MESSAGE,
         lambda words: sse_reply(*message_events(words))),
    )
]  # fmt: skip
FOUR = [sdk for sdk in SDKS if "Azure" not in sdk.kind.__name__]
four_sdks = pytest.mark.parametrize("sdk", FOUR, ids=[sdk.kind.__name__ for sdk in FOUR])
each_sdk = pytest.mark.parametrize("sdk", SDKS, ids=[sdk.kind.__name__ for sdk in SDKS])


def loop() -> asyncio.Runner:
    """The event loop of the test that runs."""
    if not _loops:
        _loops.append(asyncio.Runner())
    return _loops[0]


@contextmanager
def closing(guard: bg.Guard) -> Iterator[bg.Guard]:
    """A guard that is closed in the end, and with it the test's event loop and portal."""
    try:
        yield guard
    finally:
        if _loops:
            loop().run(guard.aclose())
            _loops.pop().close()
        guard.sync.close()


def ledger_rows(world: World, after: int = 0) -> list[dict[str, Any]]:
    """The rows of the ledger, in the order of their calls; without so many of the first."""
    names = [row[1] for row in rows(world.path, "PRAGMA table_xinfo(token_usage)")]
    if not names:
        return []  # nothing has been asked of the store yet
    found = rows(world.path, f"SELECT {', '.join(names)} FROM token_usage ORDER BY rowid LIMIT -1 OFFSET ?", after)
    return [dict(zip(names, row, strict=True)) for row in found]
