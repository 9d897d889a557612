"""What the tests of the transport share: an inner transport that plays answers and breaks them off, and what is left.

A `Play` is one answer. `Player` is the inner transport that plays them in order, the last one again and again.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
import httpx2
from guard_kit import MODEL, World
from store_kit import rows

import budgetguard as bg
from budgetguard.integrations.httpx import BudgetTransport

URL = "https://api.openai.com/v1/chat/completions"
URLS = {
    "chat": URL,
    "completions": "https://api.openai.com/v1/completions",
    "responses": "https://api.openai.com/v1/responses",
    "embeddings": "https://api.openai.com/v1/embeddings",
    "messages": "https://api.anthropic.com/v1/messages",
    "complete": "https://api.anthropic.com/v1/complete",
    "generateContent": "https://generativelanguage.googleapis.com/v1beta/models/m:streamGenerateContent?alt=sse",
    "interactions": "https://generativelanguage.googleapis.com/v1beta/interactions",
    "converse": "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse-stream",
    "invoke": "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/invoke-with-response-stream",
    "cohere_chat": "https://api.cohere.com/v2/chat",
    "cohere_chat_v1": "https://api.cohere.com/v1/chat",
    "ollama_chat": "http://localhost:11434/api/chat",
    "ollama_generate": "http://localhost:11434/api/generate",
}
"""A place where each kind of API streams."""
SSE = {"content-type": "text/event-stream"}
JSON = {"content-type": "application/json"}
ASKED: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 100}
STREAMED = {**ASKED, "stream": True, "stream_options": {"include_usage": True}}
"""A request whose caller wants to see the usage."""
HIDDEN = {**ASKED, "stream": True}
"""One whose caller has not asked for it."""
HANG = "hang"
"""An answer that never goes on."""
USAGE = {"prompt_tokens": 500, "completion_tokens": 70, "total_tokens": 570}
COLUMNS = (
    "reservation_id", "operation_id", "revision", "prompt_tokens", "completion_tokens", "total_tokens",
    "usage_source", "status", "error_type", "estimated_tokens", "session_id",
)  # fmt: skip


def event(body: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + (body if isinstance(body, bytes) else json.dumps(body).encode()) + b"\n\n"


def word(text: str, **more: Any) -> bytes:
    """A chunk of chat that says something."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return event({"id": "c-1", "model": MODEL, "choices": [choice], **more})


STOP = event({"id": "c-1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
TOLD = event({"id": "c-1", "model": MODEL, "choices": [], "usage": USAGE})
"""The chunk that `include_usage` asks for."""
DONE = event(b"[DONE]")
CHAT = (word("Hello"), word(" wörld, how"), word(" are you?"), STOP, TOLD, DONE)
PLAIN = json.dumps({"model": MODEL, "choices": [{"message": {"content": "Hello"}}], "usage": USAGE}).encode()


@dataclass(frozen=True)
class Play:
    """One answer: `before` is raised instead of it; `ending` comes after its chunks, an error or HANG."""

    chunks: Sequence[bytes] = ()
    headers: Mapping[str, str] = field(default_factory=lambda: SSE)
    status: int = 200
    ending: BaseException | str | None = None
    before: BaseException | str | None = None
    on_chunk: Callable[[int], None] = lambda number: None


class Player(httpx2.AsyncBaseTransport, httpx2.BaseTransport):
    """Plays answers, the beginning and each chunk after so many rounds of the event loop.

    `requests` are those that came; `hanging` is set once it waits for ever; `closed` counts bodies.
    """

    def __init__(self, *plays: Play, library: Any = httpx2, rounds: int = 0) -> None:
        self.plays = list(plays)
        self.rounds = rounds
        self.library = library
        self.requests: list[Any] = []
        self.hanging = asyncio.Event()
        self.closed = 0

    def _next(self, request: Any) -> Play:
        self.requests.append(request)
        return self.plays.pop(0) if len(self.plays) > 1 else self.plays[0]

    def _response(self, play: Play) -> Any:
        return self.library.Response(play.status, headers=dict(play.headers), stream=body(self, play))

    async def handle_async_request(self, request: Any) -> Any:
        play = self._next(request)
        for _ in range(self.rounds):
            await asyncio.sleep(0)
        await self.end(play.before)
        return self._response(play)

    def handle_request(self, request: Any) -> Any:
        play = self._next(request)
        if isinstance(play.before, BaseException):
            raise play.before
        return self._response(play)

    async def end(self, ending: BaseException | str | None) -> None:
        """The end of an answer, or what is in its place."""
        if ending == HANG:
            self.hanging.set()
            await asyncio.Event().wait()
        if isinstance(ending, BaseException):
            raise ending

    async def waits(self, call: asyncio.Task[Any]) -> None:
        """Until it hangs, or the call has ended before it could."""
        hanging = asyncio.create_task(self.hanging.wait())
        await asyncio.wait([hanging, call], return_when=asyncio.FIRST_COMPLETED)
        hanging.cancel()

    @property
    def sent(self) -> dict[str, Any]:
        """The body of the last request."""
        sent: dict[str, Any] = json.loads(self.requests[-1].content)
        return sent


class _Body:
    def __init__(self, player: Player, play: Play) -> None:
        self.player, self.play = player, play

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for number, chunk in enumerate(self.play.chunks):
            for _ in range(self.player.rounds):
                await asyncio.sleep(0)
            self.play.on_chunk(number)
            yield chunk
        await self.player.end(self.play.ending)

    def __iter__(self) -> Iterator[bytes]:
        for number, chunk in enumerate(self.play.chunks):
            self.play.on_chunk(number)
            yield chunk
        if isinstance(self.play.ending, BaseException):
            raise self.play.ending

    async def aclose(self) -> None:
        self.player.closed += 1

    def close(self) -> None:
        self.player.closed += 1


class _Httpx2Body(_Body, httpx2.AsyncByteStream, httpx2.SyncByteStream):
    pass


class _HttpxBody(_Body, httpx.AsyncByteStream, httpx.SyncByteStream):
    pass


def body(player: Player, play: Play) -> Any:
    """The body of an answer, for the library of the player."""
    return (_Httpx2Body if player.library is httpx2 else _HttpxBody)(player, play)


@dataclass
class Heard:
    """What a caller got: the bytes that were passed on, and the error that ended them."""

    passed: bytes = b""
    error: BaseException | None = None
    response: Any = None


def request(asked: Mapping[str, Any] | bytes = STREAMED, url: str = URL, library: Any = httpx2) -> Any:
    """A request as a client would make it, with a key."""
    content = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    headers = {"authorization": "Bearer sk-canary-key", "accept-encoding": "gzip, deflate", **JSON}
    return library.Request("POST", url, headers=headers, content=content)


async def heard(transport: BudgetTransport, asked: Any, most_chunks: int | None = None) -> Heard:
    """Send a request and read its answer, all of it or so many chunks, and close it, as a client does."""
    found = Heard()
    try:
        found.response = await transport.handle_async_request(asked)
        try:
            number = 0
            async for chunk in found.response.stream:
                found.passed += chunk
                number += 1
                if number == most_chunks:
                    break
        finally:
            await found.response.stream.aclose()
    except BaseException as error:  # noqa: BLE001 - it is what the test asks about
        found.error = error
    return found


def heard_sync(transport: BudgetTransport, asked: Any, most_chunks: int | None = None) -> Heard:
    """The same without an event loop."""
    found = Heard()
    try:
        found.response = transport.handle_request(asked)
        try:
            for number, chunk in enumerate(found.response.stream, 1):
                found.passed += chunk
                if number == most_chunks:
                    break
        finally:
            found.response.stream.close()
    except BaseException as error:  # noqa: BLE001 - it is what the test asks about
        found.error = error
    return found


def ledger_rows(world: World) -> list[dict[str, Any]]:
    """All rows of the ledger, the oldest first."""
    found = rows(world.path, f"SELECT {', '.join(COLUMNS)} FROM token_usage ORDER BY reservation_id")
    return [dict(zip(COLUMNS, row, strict=True)) for row in found]


def only_row(world: World) -> dict[str, Any]:
    """The one row of the ledger; nothing is held any more."""
    (found,) = ledger_rows(world)
    assert (world.reserved(), world.held(), found["revision"]) == (0, 0, 1)
    assert world.spent() == found["total_tokens"]
    return found


def guard_of(
    world: World, *limits: str, estimate: Literal["learned", "ceiling"] = "learned", **settings: Any
) -> bg.Guard:  # fmt: skip
    """A guard with a budget of tokens unless others are given, and with these settings."""
    estimates = bg.EstimateSettings(output=estimate)
    return world.guard(*(limits or ("100M tokens/day",)), settings=bg.GuardSettings(**settings), estimate=estimates)


class Endless:
    """A sequence of chunks that is made as it is read: `count` of them between a beginning and an end."""

    def __init__(self, chunk: bytes, count: int, end: bytes = b"", begun: bytes = b"") -> None:
        self.chunk, self.count, self.end, self.begun = chunk, count, end, begun

    def __iter__(self) -> Iterator[bytes]:
        return itertools.chain([self.begun], itertools.repeat(self.chunk, self.count), [self.end])


def peak(world: World, play: Play, asked: Any, url: str = URLS["chat"]) -> int:
    """The most memory that one exchange takes, in bytes; its answer is dropped as it comes."""

    async def main() -> int:
        async with guard_of(world, "9000B tokens/day", on_stream_exceed="finish") as guard:
            transport = BudgetTransport(guard, Player(play))
            await heard(BudgetTransport(guard, Player(Play(CHAT))), request(STREAMED))  # all is imported
            tracemalloc.start()
            response = await transport.handle_async_request(request(asked, url))
            async for _ in response.stream:
                pass
            await response.stream.aclose()
            return tracemalloc.get_traced_memory()[1]

    try:
        return asyncio.run(main())
    finally:
        tracemalloc.stop()
