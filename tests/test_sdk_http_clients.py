"""`guard.http_client()` and `guard.http_clients()`, and the transport by hand, in SDKs that take an HTTP client."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
from guard_kit import MODEL, World
from replay_kit import SSE, Replay, Reply, json_reply, sse_reply
from sdk_kit import CHAT, MESSAGES, chat_chunks, closing, ledger_rows, loop
from wire_truth import counts_of

import budgetguard as bg
from budgetguard.events import Refused
from budgetguard.integrations.httpx import BudgetTransport

LIMIT = "9k tokens/day"
GENERATED = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "Hello!"}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 500, "candidatesTokenCount": 100, "totalTokenCount": 600},
}
COHERE = {
    "id": "c-1", "finish_reason": "COMPLETE",
    "message": {"role": "assistant", "content": [{"type": "text", "text": "Hello!"}]},
    "usage": {"billed_units": {"input_tokens": 500, "output_tokens": 100},
              "tokens": {"input_tokens": 990, "output_tokens": 101}},
}  # fmt: skip
COHERE_EVENTS = [
    {"type": "message-start", "id": "c-1", "delta": {"message": {"role": "assistant", "content": []}}},
    {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Hello!"}}}},
    {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": COHERE["usage"]}},
]


class Sdk(NamedTuple):
    """One SDK: what its server answers, and how it asks, plainly or for a stream, on a guarded HTTP client."""

    plain: Reply
    stream: Reply
    ask: Callable[[bg.Guard, str, bool], Any]


def _read(found: Any) -> list[Any]:
    """All events of a stream, or the one answer."""

    async def awaited(found: Any) -> list[Any]:
        if hasattr(found, "__await__"):
            found = await found
        return [event async for event in found] if hasattr(found, "__aiter__") else [found]

    if hasattr(found, "__await__") or hasattr(found, "__aiter__"):
        return loop().run(awaited(found))
    return list(found) if hasattr(found, "__next__") else [found]


@contextmanager
def http_of(guard: bg.Guard) -> Iterator[tuple[Any, Any]]:
    """The two HTTP clients of a guard, closed in the end."""
    sync, concurrent = guard.http_clients(team="search")
    try:
        yield sync, concurrent
    finally:
        sync.close()
        loop().run(concurrent.aclose())


def openai_sync(guard: bg.Guard, url: str, stream: bool) -> Any:
    openai = pytest.importorskip("openai")
    with http_of(guard) as (http, _):
        client = openai.OpenAI(api_key="k", base_url=url, max_retries=5, http_client=http)
        return _read(client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=20, stream=stream))


def openai_async(guard: bg.Guard, url: str, stream: bool) -> Any:
    openai = pytest.importorskip("openai")
    http = guard.http_client(team="search")
    client = openai.AsyncOpenAI(api_key="k", base_url=url, max_retries=5, http_client=http)
    try:
        return _read(client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=20, stream=stream))
    finally:
        loop().run(client.close())


def _genai(http: tuple[Any, Any], url: str) -> Any:
    genai = pytest.importorskip("google.genai")
    options = genai.types.HttpOptions(
        base_url=url, httpx_client=http[0], httpx_async_client=http[1],
        retry_options=genai.types.HttpRetryOptions(attempts=5),
    )  # fmt: skip
    return genai.Client(api_key="k", vertexai=False, http_options=options)


def genai_sync(guard: bg.Guard, url: str, stream: bool) -> Any:
    with http_of(guard) as http:
        models = _genai(http, url).models
        ask = models.generate_content_stream if stream else models.generate_content
        return _read(ask(model=MODEL, contents="Say hello."))


def genai_async(guard: bg.Guard, url: str, stream: bool) -> Any:
    with http_of(guard) as http:
        models = _genai(http, url).aio.models
        ask = models.generate_content_stream if stream else models.generate_content
        return _read(ask(model=MODEL, contents="Say hello."))


def _mistral(http: tuple[Any, Any], url: str) -> Any:
    mistral = pytest.importorskip("mistralai.client")
    retries = mistral.utils.RetryConfig("backoff", mistral.utils.BackoffStrategy(1, 5, 1.1, 5_000), True)
    return mistral.Mistral(api_key="k", client=http[0], async_client=http[1], server_url=url, retry_config=retries)


def mistral_sync(guard: bg.Guard, url: str, stream: bool) -> Any:
    with http_of(guard) as http:
        chat = _mistral(http, url).chat
        return _read((chat.stream if stream else chat.complete)(model=MODEL, messages=MESSAGES, max_tokens=20))


def mistral_async(guard: bg.Guard, url: str, stream: bool) -> Any:
    with http_of(guard) as http:
        chat = _mistral(http, url).chat
        ask = chat.stream_async if stream else chat.complete_async
        return _read(ask(model=MODEL, messages=MESSAGES, max_tokens=20))


def cohere_sync(guard: bg.Guard, url: str, stream: bool) -> Any:
    cohere, httpx = pytest.importorskip("cohere"), pytest.importorskip("httpx")
    with httpx.Client(transport=BudgetTransport(guard, httpx.HTTPTransport(), team="search")) as http:
        client = cohere.ClientV2(api_key="k", base_url=url, httpx_client=http)
        return _read((client.chat_stream if stream else client.chat)(model=MODEL, messages=MESSAGES, max_tokens=20))


def cohere_async(guard: bg.Guard, url: str, stream: bool) -> Any:
    cohere, httpx = pytest.importorskip("cohere"), pytest.importorskip("httpx")
    http = httpx.AsyncClient(transport=BudgetTransport(guard, httpx.AsyncHTTPTransport(), team="search"))
    client = cohere.AsyncClientV2(api_key="k", base_url=url, httpx_client=http)
    try:
        return _read((client.chat_stream if stream else client.chat)(model=MODEL, messages=MESSAGES, max_tokens=20))
    finally:
        loop().run(http.aclose())


def _sse(*events: Any) -> Reply:
    """Events without names, as Gemini and Cohere send them."""
    return Reply([f"data: {json.dumps(event)}\r\n\r\n".encode() for event in events], SSE)


CHATS = json_reply(CHAT), sse_reply(*chat_chunks(4))
GEMINI = json_reply(GENERATED), _sse(GENERATED, GENERATED)
COHERES = json_reply(COHERE), _sse(*COHERE_EVENTS)
SDKS = {
    "openai": Sdk(*CHATS, openai_sync), "openai async": Sdk(*CHATS, openai_async),
    "google-genai": Sdk(*GEMINI, genai_sync), "google-genai async": Sdk(*GEMINI, genai_async),
    "mistralai": Sdk(*CHATS, mistral_sync), "mistralai async": Sdk(*CHATS, mistral_async),
    "cohere": Sdk(*COHERES, cohere_sync), "cohere async": Sdk(*COHERES, cohere_async),
}  # fmt: skip
each_sdk = pytest.mark.parametrize("sdk", SDKS.values(), ids=SDKS)
streamed = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


@each_sdk
@streamed
def test_a_call_is_settled_at_what_it_used(sdk: Sdk, stream: bool, world: World) -> None:
    with Replay(sdk.stream if stream else sdk.plain) as server, closing(world.guard(LIMIT)) as guard:
        found = sdk.ask(guard, server.url, stream)
        assert "Hello!" in str(found) or "hello " in str(found)
        (row,) = ledger_rows(world)
        assert counts_of(row)[:2] == (500, 100)
        assert (row["usage_source"], row["team"], row["model"], world.reserved()) == ("reported", "search", MODEL, 0)


@each_sdk
@streamed
def test_a_refusal_ends_the_call_at_the_first_attempt(sdk: Sdk, stream: bool, world: World) -> None:
    with Replay(sdk.stream if stream else sdk.plain) as server, closing(world.guard("10 tokens/day")) as guard:
        with pytest.raises(bg.BudgetExceeded, match="default refused this call"):
            sdk.ask(guard, server.url, stream)
        assert (len(world.heard.of(Refused)), server.asked, world.statuses()) == (1, [], [])


def test_http_clients_go_through_the_proxies_of_the_environment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with Replay(CHATS[0]) as server, closing(world.guard(LIMIT)) as guard:
        monkeypatch.setenv("HTTP_PROXY", server.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with http_of(guard) as (sync, concurrent):
            asked = {"model": MODEL, "messages": MESSAGES, "max_tokens": 20}
            assert sync.post("http://llm.example/v1/chat/completions", json=asked).json() == CHAT
            answer = loop().run(concurrent.post("http://llm.example/v1/chat/completions", json=asked))
            assert answer.json() == CHAT
        assert [asked.target for asked in server.asked] == ["http://llm.example/v1/chat/completions"] * 2
        assert world.spent() == 1_200


def test_a_login_on_the_way_is_free(world: World) -> None:
    with Replay(json_reply({"access_token": "canary"})) as server, closing(world.guard("1 tokens/day")) as guard:
        with http_of(guard) as (sync, _):
            for login in (
                "oauth/token",
                "tenant/oauth2/v2.0/token",
                "identity/token",
                "api/v2/oauth",
                "login/device/code",
            ):
                assert sync.post(f"{server.url}/{login}", json={"grant_type": "jwt"}).status_code == 200
        assert world.heard.of(Refused) == []
