"""`guard.wrap(genai.Client())`: sync and async, plain and streamed, for Gemini; what goes past it is not opened."""

from __future__ import annotations

import gc
import pickle
from typing import Any

import pytest
from guard_kit import MODEL, World
from replay_kit import Replay, json_reply, sse_reply
from sdk_kit import closing, ledger_rows, loop
from test_sdk_http_clients import GEMINI, LIMIT

import budgetguard as bg
from budgetguard.events import Refused

genai = pytest.importorskip("google.genai", reason="google-genai is not installed")
ASKED = {"model": MODEL, "contents": "Say hello."}


def made(url: str) -> Any:
    retries = genai.types.HttpRetryOptions(attempts=5)
    options = genai.types.HttpOptions(base_url=url, retry_options=retries)
    return genai.Client(api_key="k", vertexai=False, http_options=options)


def sync(client: Any) -> Any:
    return client.models.generate_content(**ASKED)


def sync_stream(client: Any) -> Any:
    return list(client.models.generate_content_stream(**ASKED))[-1]


def sync_chat(client: Any) -> Any:
    return client.chats.create(model=MODEL).send_message("Say hello.")


def concurrent(client: Any) -> Any:
    async def ask() -> Any:
        async with client.aio as aio:
            return await aio.models.generate_content(**ASKED)

    return loop().run(ask())


def concurrent_stream(client: Any) -> Any:
    async def read() -> Any:
        async with client.aio as aio:
            return [event async for event in await aio.models.generate_content_stream(**ASKED)][-1]

    return loop().run(read())


WAYS = [sync, sync_stream, sync_chat, concurrent, concurrent_stream]
each_way = pytest.mark.parametrize("ask", WAYS, ids=[way.__name__ for way in WAYS])


@each_way
def test_a_call_is_counted_under_the_labels_around_it(ask: Any, world: World) -> None:
    reply = GEMINI["stream" in ask.__name__]
    with Replay(reply) as server, closing(world.guard(LIMIT)) as guard:
        client = guard.wrap(made(server.url), team="search")
        with bg.acting_as(agent="crawler"):
            assert ask(client).text == "Hello!"
        (row,) = ledger_rows(world)
        assert (row["prompt_tokens"], row["completion_tokens"], row["usage_source"]) == (500, 100, "reported")
        assert (row["team"], row["agent"], world.reserved()) == ("search", "crawler", 0)


@each_way
def test_a_refusal_ends_the_call_at_the_first_attempt(ask: Any, world: World) -> None:
    with Replay(GEMINI[0]) as server, closing(world.guard("10 tokens/day")) as guard:
        with pytest.raises(bg.BudgetExceeded, match="default refused this call") as info:
            ask(guard.wrap(made(server.url)))
        assert (len(world.heard.of(Refused)), server.asked) == (1, [])
        assert str(pickle.loads(pickle.dumps(info.value))) == str(info.value)  # noqa: S301 - our own


CALLED = {"content": {"role": "model", "parts": [{"functionCall": {"name": "ask_poor", "args": {}}}]}}
CALLING = {
    "candidates": [{**CALLED, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 50, "candidatesTokenCount": 10, "totalTokenCount": 60},
}
BUDGETS = [
    bg.Budget("all", limits=["1M tokens/day"]),
    bg.Budget("poor", where={"agent": "poor"}, limits=["1 tokens/day"]),
]


def asked_with(client: Any, tool: Any, way: str) -> Any:
    """Ask in one way, with a function as a tool: the SDK calls it, and tells the model what it raises."""
    config = genai.types.GenerateContentConfig(tools=[tool])

    async def concurrent() -> Any:
        with bg.stop_at_refusal():
            async with client.aio:
                return await answered()

    async def answered() -> Any:
        if way == "async":
            return await client.aio.models.generate_content(**ASKED, config=config)
        return [part async for part in await client.aio.models.generate_content_stream(**ASKED, config=config)]

    if way.startswith("async"):
        return loop().run(concurrent())
    with bg.stop_at_refusal():
        if way == "chat":
            return client.chats.create(model=MODEL, config=config).send_message("Say hello.")
        return client.models.generate_content(**ASKED, config=config)


@pytest.mark.parametrize("way", ["sync", "chat", "async", "async stream"])
def test_a_refusal_inside_a_tool_stops_the_run_instead_of_being_told_to_the_model(way: str, world: World) -> None:
    reply = sse_reply(CALLING) if way == "async stream" else json_reply(CALLING)
    with Replay(reply, GEMINI[0]) as server, closing(world.guard(budgets=BUDGETS)) as guard:
        client = guard.wrap(made(server.url))

        def ask_poor() -> str:
            """Ask an agent without room."""
            with bg.acting_as(agent="poor"):
                return str(client.models.generate_content(**ASKED).text)

        async def ask_poor_async() -> str:
            """Ask an agent without room."""
            with bg.acting_as(agent="poor"):
                return str((await client.aio.models.generate_content(**ASKED)).text)

        ask_poor_async.__name__ = ask_poor.__name__
        with pytest.raises(bg.BudgetExceeded, match="poor refused this call"):
            asked_with(client, ask_poor_async if way.startswith("async") else ask_poor, way)
        assert len(server.asked) == 1, "the model is not asked again"
        assert world.reserved() == 0


def test_embeddings_are_counted_and_batch_jobs_refused(world: World) -> None:
    embedded = json_reply({"embeddings": [{"values": [0.5]}], "usageMetadata": {"promptTokenCount": 5}})
    job = {"model": MODEL, "src": [genai.types.InlinedRequest(contents="Say hello.")]}
    with Replay(embedded) as server, closing(world.guard(LIMIT)) as guard:
        client = guard.wrap(made(server.url))
        client.models.embed_content(**ASKED)
        with pytest.raises(bg.UnguardedApi, match="batchGenerateContent"):
            client.batches.create(**job)

        async def concurrent() -> None:
            async with client.aio as aio:
                await aio.models.embed_content(**ASKED)
                with pytest.raises(bg.UnguardedApi, match="batchGenerateContent"):
                    await aio.batches.create(**job)

        loop().run(concurrent())
        assert [row["model"] for row in ledger_rows(world)] == [MODEL] * 2
        assert len(server.asked) == 2


def test_live_sessions_are_not_opened_but_by_the_client_that_was_given(world: World) -> None:
    with Replay(GEMINI[0]) as server, closing(world.guard(LIMIT)) as guard:
        original = made(server.url)
        client = guard.wrap(original)
        for live in (client.aio.live, client.aio.live.music):
            with pytest.raises(bg.UnguardedApi, match="live session"):
                live.connect(model=MODEL)
        assert original.aio.live.connect(model=MODEL) is not None
        assert server.asked == []


def test_aiohttp_is_not_sent_over_where_it_is_installed(world: World) -> None:
    with Replay(GEMINI[0]) as server, closing(world.guard(LIMIT)) as guard:
        client = guard.wrap(made(server.url))
        assert not client._api_client._use_aiohttp()
        assert not client.aio._api_client._use_aiohttp()


def test_the_given_client_stays_unguarded_and_may_be_dropped(world: World) -> None:
    with Replay(GEMINI[0]) as server, closing(world.guard(LIMIT)) as guard:
        original = made(server.url)
        client = guard.wrap(original)
        assert type(client) is type(original)
        assert sync(original).text == "Hello!"
        assert ledger_rows(world) == []
        del original
        gc.collect()
        assert sync(client).text == concurrent(client).text == "Hello!"
        assert len(ledger_rows(world)) == 2
        client.close()
        with pytest.raises(RuntimeError, match="closed"):
            sync(client)


def test_a_guarded_client_is_not_guarded_twice(world: World) -> None:
    with Replay(GEMINI[0]) as server, closing(world.guard(LIMIT)) as guard:
        client = guard.wrap(made(server.url))
        with pytest.raises(TypeError, match="guarded already"):
            guard.wrap(client)
        with pytest.raises(TypeError, match="HTTP clients"):
            guard.wrap(client.models)
