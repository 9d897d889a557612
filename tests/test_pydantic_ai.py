"""pydantic-ai on a guarded client: runs, streams, labels; a refusal ends the run, websockets are not opened."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from agent_kit import MODEL, POOR, Agents, agents, tool_call
from guard_kit import World, until
from sdk_kit import ledger_rows, loop

import budgetguard as bg
from budgetguard.integrations.websockets import refuse_websockets
from budgetguard.testing import Reply

pydantic_ai = pytest.importorskip("pydantic_ai", reason="pydantic-ai-slim[openai] is not installed")
models = pytest.importorskip("pydantic_ai.models.openai", reason="pydantic-ai-slim[openai] is not installed")

from pydantic_ai.models.fallback import FallbackModel  # noqa: E402 - where it is there
from pydantic_ai.providers.openai import OpenAIProvider  # noqa: E402


@pytest.fixture
def run(world: World) -> Iterator[Agents]:
    with agents(world) as found:
        yield found


def model_of(run: Agents) -> Any:
    return models.OpenAIChatModel(MODEL, provider=OpenAIProvider(openai_client=run.client))


def ran(agent: Any, stream: bool = False) -> Any:
    """What an agent says."""

    async def read() -> Any:
        if not stream:
            return (await agent.run("Say hello.")).output
        async with agent.run_stream("Say hello.") as result:
            return await result.get_output()

    return loop().run(read())


streamed = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


@streamed
def test_every_call_of_a_run_is_counted_under_the_labels_around_it(stream: bool, world: World, run: Agents) -> None:
    agent = pydantic_ai.Agent(model_of(run))

    @agent.tool_plain
    async def look_up() -> str:
        return "found"

    run.provider.reply_next(tool_call("look_up", stream))
    with bg.acting_as(team="search", agent="crawler", session="s-17"):
        assert ran(agent, stream)
    assert run.is_counted(2)
    found = {(row["team"], row["agent"], row["session_id"], row["usage_source"]) for row in ledger_rows(world)}
    assert found == {("search", "crawler", "s-17", "reported")}


@streamed
def test_a_refusal_ends_the_run_and_no_other_model_is_fallen_back_on(stream: bool, run: Agents) -> None:
    agent = pydantic_ai.Agent(FallbackModel(model_of(run), model_of(run)), retries=3)
    with bg.acting_as(agent=POOR), pytest.raises(bg.BudgetExceeded, match="poor refused this call"):
        ran(agent, stream)
    assert run.provider.received == 0


def test_a_fallback_on_everything_is_stopped_too(run: Agents) -> None:
    fallback = FallbackModel(model_of(run), model_of(run), fallback_on=(Exception,))
    with bg.acting_as(agent=POOR), pytest.raises(ExceptionGroup) as info, bg.stop_at_refusal():
        ran(pydantic_ai.Agent(fallback))
    assert bg.refusal_in(info.value) is not None
    assert run.provider.received == 0


@streamed
def test_a_refusal_inside_a_tool_stops_the_run(stream: bool, run: Agents) -> None:
    poor, main = pydantic_ai.Agent(model_of(run)), pydantic_ai.Agent(model_of(run))

    @main.tool_plain
    async def ask_poor() -> str:
        with bg.acting_as(agent=POOR):
            return str((await poor.run("Say hello.")).output)

    run.provider.reply_next(tool_call("ask_poor", stream))
    with pytest.raises(bg.BudgetExceeded, match="poor refused this call"):
        ran(main, stream)
    assert run.is_counted(1)


@streamed
def test_parallel_tools_and_their_runs_are_stopped_too(stream: bool, run: Agents) -> None:
    sub, main = pydantic_ai.Agent(model_of(run)), pydantic_ai.Agent(model_of(run))

    @main.tool_plain
    async def ask_poor() -> str:
        with bg.acting_as(agent=POOR):
            return str((await sub.run("Say hello.")).output)

    @main.tool_plain
    async def ask_rich() -> str:
        return str((await sub.run("Say hello.")).output)

    run.provider.reply_next(tool_call("ask_rich ask_poor", stream))
    with pytest.raises(bg.BudgetExceeded, match="poor refused this call"):
        ran(main, stream)
    assert run.provider.received <= 2, "the model is not asked again"
    loop().run(until(lambda: not run.world.reserved(), "what was cancelled is settled"))


def test_embeddings_are_counted(world: World, run: Agents) -> None:
    embeddings = pytest.importorskip("pydantic_ai.embeddings.openai", reason="this pydantic-ai has none")
    usage = {"prompt_tokens": 5, "total_tokens": 5}
    data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
    run.provider.reply_next(Reply.json({"object": "list", "data": data, "model": MODEL, "usage": usage}))
    model = embeddings.OpenAIEmbeddingModel(MODEL, provider=OpenAIProvider(openai_client=run.client))
    loop().run(model.embed("hello", input_type="query"))
    assert world.spent() == 5

    @bg.acting_as(agent=POOR)
    async def poor() -> None:
        await model.embed("hello, world: that is more than one token", input_type="query")

    with pytest.raises(bg.BudgetExceeded):
        loop().run(poor())
    assert run.provider.received == 1


def test_realtime_models_are_refused(run: Agents, monkeypatch: pytest.MonkeyPatch) -> None:
    realtime = pytest.importorskip("pydantic_ai.realtime.openai", reason="this pydantic-ai has none")
    connect = pytest.importorskip("websockets.asyncio.client").connect
    for kind in (connect, pytest.importorskip("websockets.client").ClientProtocol):
        monkeypatch.setattr(kind, "__init__", kind.__init__)  # put back afterwards
    refuse_websockets(run.guard)

    async def talk() -> None:
        async with pydantic_ai.Agent().realtime(realtime.OpenAIRealtimeModel("gpt-realtime")).session():
            raise AssertionError("it must not be opened")

    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with pytest.raises(bg.UnguardedApi, match="past the guard"):
        loop().run(talk())


def test_plain_functions_are_refused_alike(run: Agents) -> None:
    agent = pydantic_ai.Agent(model_of(run))

    @bg.acting_as(agent=POOR)
    def in_a_thread() -> None:
        with asyncio.Runner() as own:
            asyncio.set_event_loop(own.get_loop())  # it would make one, and leave it open
            with pytest.raises(bg.BudgetExceeded):
                agent.run_sync("Say hello.")

    loop().run(asyncio.to_thread(in_a_thread))
    assert run.provider.received == 0


def test_the_websocket_transport_is_refused(run: Agents) -> None:
    model = models.OpenAIResponsesModel(MODEL, provider=OpenAIProvider(openai_client=run.client))
    settings = models.OpenAIResponsesModelSettings(openai_transport="websocket")

    async def main() -> None:
        await pydantic_ai.Agent(model, model_settings=settings).run("Say hello.")

    with pytest.raises(bg.UnguardedApi, match="websocket"):
        loop().run(main())
    assert run.provider.requests == []
