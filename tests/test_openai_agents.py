"""The OpenAI Agents SDK on a guarded client: runs, streams, labels; a refusal ends the run, no websocket is opened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from agent_kit import MODEL, POOR, Agents, agents, tool_call
from guard_kit import World
from sdk_kit import ledger_rows, loop

import budgetguard as bg
from budgetguard.events import Refused

sdk = pytest.importorskip("agents", reason="openai-agents is not installed")
retry = pytest.importorskip("agents.retry", reason="openai-agents is not installed")


@pytest.fixture
def run(world: World) -> Iterator[Agents]:
    with agents(world) as found:
        sdk.set_tracing_disabled(True)
        sdk.set_default_openai_client(found.client)
        sdk.set_default_openai_api("chat_completions")
        sdk.set_default_openai_responses_transport("http")
        yield found


def ran(agent: Any, stream: bool = False) -> Any:
    """What an agent says."""

    async def read() -> Any:
        if not stream:
            return (await sdk.Runner.run(agent, "Say hello.")).final_output
        result = sdk.Runner.run_streamed(agent, "Say hello.")
        async for _ in result.stream_events():
            pass
        return result.final_output

    return loop().run(read())


def delegating() -> Any:
    """An agent whose tool is another, which has no room. The SDK tells the model of errors of tools."""
    poor = sdk.Agent(name="poor", model=MODEL)

    @sdk.function_tool
    async def ask_poor() -> str:
        with bg.acting_as(agent=POOR):
            return str((await sdk.Runner.run(poor, "Say hello.")).final_output)

    return sdk.Agent(name="main", model=MODEL, tools=[ask_poor])


streamed = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


@streamed
def test_every_call_of_a_run_is_counted_under_the_labels_around_it(stream: bool, world: World, run: Agents) -> None:
    lookups = []

    @sdk.function_tool
    async def look_up() -> str:
        lookups.append(1)
        return "found"

    run.provider.reply_next(tool_call("look_up", stream))
    with bg.acting_as(team="search", agent="crawler", session="s-17"):
        assert ran(sdk.Agent(name="a", model=MODEL, tools=[look_up]), stream)
    assert (lookups, run.is_counted(2)) == ([1], True)
    found = {(row["team"], row["agent"], row["session_id"], row["usage_source"]) for row in ledger_rows(world)}
    assert found == {("search", "crawler", "s-17", "reported")}


@streamed
def test_a_refusal_ends_the_run_at_the_first_attempt_whatever_it_would_try_again(stream: bool, run: Agents) -> None:
    policy = retry.ModelRetrySettings(max_retries=3, policy=retry.retry_policies.http_status([429]))
    agent = sdk.Agent(name="a", model=MODEL, model_settings=sdk.ModelSettings(retry=policy))
    with bg.acting_as(agent=POOR), pytest.raises(bg.BudgetExceeded, match="poor refused this call"):
        ran(agent, stream)
    assert (run.provider.received, len(run.world.heard.of(Refused))) == (0, 1)


@streamed
def test_a_refusal_inside_a_tool_stops_the_run_instead_of_being_told_to_the_model(stream: bool, run: Agents) -> None:
    run.provider.reply_next(tool_call("ask_poor", stream))
    with pytest.raises(bg.BudgetExceeded, match="poor refused this call"), bg.stop_at_refusal():
        ran(delegating(), stream)
    assert run.is_counted(1), "the model is not asked again"


def test_without_that_the_sdk_tells_the_model(run: Agents) -> None:
    """Why the block above is needed; where this fails, it is needed no more."""
    run.provider.reply_next(tool_call("ask_poor"))
    assert ran(delegating())
    assert run.is_counted(2)


def test_the_websocket_transport_is_refused(run: Agents) -> None:
    sdk.set_default_openai_api("responses")
    sdk.set_default_openai_responses_transport("websocket")
    with pytest.raises(bg.UnguardedApi, match="websocket"):
        ran(sdk.Agent(name="a", model=MODEL))
    assert run.provider.requests == []
