"""The google-genai SDK, on a guarded HTTP client, over Gemini's and Vertex's recorded exchanges."""

from __future__ import annotations

from functools import cache
from typing import Any

import httpx2
import pytest
from guard_kit import World
from sdk_kit import closing, loop
from sdk_replay_kit import Played, answered
from test_wire_apis import HOSTS
from wire_kit import Exchange, exchanges

import budgetguard as bg
from budgetguard.integrations.httpx import BudgetTransport
from budgetguard.testing import FakeProvider

genai = pytest.importorskip("google.genai")
types = pytest.importorskip("google.genai.types")


@cache
def sdk(provider: str, clients: tuple[Any, Any]) -> Any:
    """A client of Gemini's or Vertex's API, on these HTTP clients."""
    options = types.HttpOptions(
        httpx_client=clients[0], httpx_async_client=clients[1], base_url=f"http://{HOSTS[provider]}"
    )
    return genai.Client(api_key="k", vertexai=provider == "vertex", http_options=options)


def generated(clients: tuple[Any, Any], row: Exchange) -> Any:
    """What a client on these HTTP clients says to a recorded request."""
    return _generated(sdk(row["provider"], clients).models, row)


def generated_async(clients: tuple[Any, Any], row: Exchange) -> Any:
    """As `generated`."""
    return _generated(sdk(row["provider"], clients).aio.models, row)


def _generated(models: Any, row: Exchange) -> Any:
    body = (row["request"] or {}).get("json") or {"contents": [{"role": "user", "parts": [{"text": "Say hello."}]}]}
    config = types.GenerateContentConfig(http_options=types.HttpOptions(extra_body=body))
    ask = models.generate_content_stream if row["stream"] else models.generate_content
    return answered(ask(model=row["model"] or "gemini-2.5-flash", contents="", config=config))


def is_readable(row: Exchange) -> bool:
    """Not one of four streams that are arrays of JSON, for this SDK asks for server-sent events; nor one of those whose
    base64 the recording has left out, in the middle of which this SDK gives up."""
    return row.get("stream_format") in (None, "sse") and not (row["stream"] and "response_media_omitted_chars" in row)


def through(provider: FakeProvider, guard: bg.Guard | None) -> tuple[Any, Any]:
    """HTTP clients with the fake provider as their proxy; guarded, if there is a guard."""
    transports = httpx2.HTTPTransport(proxy=provider.url), httpx2.AsyncHTTPTransport(proxy=provider.url)
    if guard is not None:
        transports = tuple(BudgetTransport(guard, inner) for inner in transports)
    return httpx2.Client(transport=transports[0]), httpx2.AsyncClient(transport=transports[1])


@pytest.mark.parametrize(("call", "step"), [(generated, 1), (generated_async, 4)], ids=["sync", "async"])
def test_what_the_sdk_returns_is_the_same_and_the_ledger_holds_the_truth(call: Any, step: int, world: World) -> None:
    rows = [row for row in exchanges("generateContent") if is_readable(row)][::step]
    with FakeProvider.in_thread() as provider, closing(world.guard("1000000000 tokens/day")) as guard:
        plain, guarded = through(provider, None), through(provider, guard)
        played = Played(provider, world, lambda _: plain, lambda _: guarded)
        played.play(rows, call)
        for sync, concurrent in (plain, guarded):
            sync.close()
            loop().run(concurrent.aclose())
        assert world.reserved() == 0
    sdk.cache_clear()
    print(call.__name__, dict(played.counts))
    assert played.counts["stated"] > len(rows) / 2
