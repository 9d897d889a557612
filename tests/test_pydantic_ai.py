"""pydantic-ai on a guarded client: runs, streams, labels; a refusal ends the run, websockets are not opened."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from agent_kit import MODEL, POOR, Agents, agents, tool_call
from guard_kit import World
from sdk_kit import ledger_rows, loop

import budgetguard as bg

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
