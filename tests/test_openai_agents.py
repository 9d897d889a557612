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


def ran(agent: Any, stream: bool = False, stops: bool = False) -> Any:
    """What an agent says; with `stops` inside `bg.stop_at_refusal()`."""

    async def read() -> Any:
        if stops:
            with bg.stop_at_refusal():
                return await asked()
        return await asked()

    async def asked() -> Any:
        if not stream:
            return (await sdk.Runner.run(agent, "Say hello.")).final_output
        result = sdk.Runner.run_streamed(agent, "Say hello.")
        async for _ in result.stream_events():
            pass
        return result.final_output

    return loop().run(read())


@sdk.function_tool
async def ask_poor() -> str:
    """An agent that has no room. The SDK tells the model of errors of tools."""
    with bg.acting_as(agent=POOR):
        return str((await sdk.Runner.run(sdk.Agent(name="poor", model=MODEL), "Say hello.")).final_output)


@sdk.function_tool
async def ask_rich() -> str:
    """One that has."""
    return str((await sdk.Runner.run(sdk.Agent(name="rich", model=MODEL), "Say hello.")).final_output)


@sdk.input_guardrail
async def judge(*_: Any) -> Any:
    """A guardrail that asks a model."""
    with bg.acting_as(agent=POOR):
        await sdk.Runner.run(sdk.Agent(name="judge", model=MODEL), "Is that harmless?")
    return sdk.GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)


def agent(**options: Any) -> Any:
    return sdk.Agent(name="main", model=MODEL, **options)


def delegating() -> Any:
    return agent(tools=[ask_poor])


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
    with pytest.raises(bg.BudgetExceeded, match="poor refused this call"):
        ran(delegating(), stream, stops=True)
    assert run.is_counted(1), "the model is not asked again"


def sub_agents(kind: str) -> tuple[Any, list[str]]:
    """An agent that asks another in some way, and the tools that its models call one after the other."""
    helper = sdk.Agent(name="helper", model=MODEL, tools=[ask_poor])
    if kind == "parallel tools":
        return agent(tools=[ask_poor, ask_rich]), ["ask_rich ask_poor"]
    if kind == "agent as tool":
        return agent(tools=[helper.as_tool("ask_helper", "It helps.")]), ["ask_helper", "ask_poor"]
    return agent(handoffs=[helper]), ["transfer_to_helper", "ask_poor"]


@streamed
@pytest.mark.parametrize("kind", ["parallel tools", "agent as tool", "handoff"])
def test_so_does_one_of_a_sub_agent(kind: str, stream: bool, run: Agents) -> None:
    main, called = sub_agents(kind)
    within = 1 if kind == "agent as tool" else len(called)  # a tool's run is not streamed
    answers = [tool_call(name, stream and at < within, '{"input": "Go on."}') for at, name in enumerate(called)]
    run.provider.reply_next(*answers)
    with pytest.raises(bg.BudgetExceeded, match="poor refused this call"):
        ran(main, stream, stops=True)
    assert len(run.provider.bill) <= len(called) + (kind == "parallel tools"), "the model is not asked again"
    assert len(run.world.heard.of(Refused)) == 1


@streamed
def test_so_does_one_of_a_guardrail(stream: bool, run: Agents) -> None:
    with pytest.raises(bg.BudgetExceeded, match="poor refused this call"):
        ran(agent(input_guardrails=[judge]), stream)
    assert len(run.provider.bill) <= 1


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


def test_voice_is_refused(run: Agents) -> None:
    """It is nothing that can be counted; a transcription that streams would go over a websocket."""
    pytest.importorskip("numpy")
    voice = pytest.importorskip("agents.voice")
    models = voice.OpenAIVoiceModelProvider()

    async def said() -> None:
        async for _ in models.get_tts_model("tts-1").run("hello", voice.TTSModelSettings()):
            pass

    async def heard() -> None:
        settings = (voice.STTModelSettings(), False, False)
        session = await models.get_stt_model("whisper-1").create_session(voice.StreamedAudioInput(), *settings)
        async for _ in session.transcribe_turns():
            pass

    for play in (said, heard):
        with pytest.raises(bg.UnguardedApi):
            loop().run(play())
    assert run.provider.requests == []
