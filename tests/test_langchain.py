"""LangChain's and LangGraph's models on guarded HTTP clients: calls, streams, labels; a refusal ends the run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from agent_kit import MODEL, POOR, Agents, agents, tool_call
from guard_kit import World
from sdk_kit import ledger_rows, loop

import budgetguard as bg
from budgetguard.events import Refused
from budgetguard.testing import Reply

langchain_openai = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")


@pytest.fixture
def run(world: World) -> Iterator[Agents]:
    with agents(world) as found:
        yield found


@pytest.fixture
def options(run: Agents) -> Iterator[dict[str, Any]]:
    """What guards any of its OpenAI models: both HTTP clients, for each has calls of its own."""
    sync, concurrent = run.guard.http_clients(team="search")
    yield {
        "model": MODEL, "base_url": run.provider.base_url, "api_key": "k", "max_retries": 5,
        "http_client": sync, "http_async_client": concurrent,
    }  # fmt: skip
    sync.close()
    loop().run(concurrent.aclose())


@pytest.fixture
def llm(options: dict[str, Any]) -> Any:
    return langchain_openai.ChatOpenAI(**options)


def invoked(llm: Any) -> Any:
    return llm.invoke("Say hello.")


def streamed(llm: Any) -> Any:
    return list(llm.stream("Say hello."))


def batched(llm: Any) -> Any:
    """In threads."""
    return llm.batch(["Say hello."])


def ainvoked(llm: Any) -> Any:
    return loop().run(llm.ainvoke("Say hello."))


def astreamed(llm: Any) -> Any:
    async def read() -> Any:
        return [chunk async for chunk in llm.astream("Say hello.")]

    return loop().run(read())


each_way = pytest.mark.parametrize(
    "ask", [invoked, streamed, batched, ainvoked, astreamed], ids=lambda ask: ask.__name__
)


@each_way
def test_a_call_is_counted_under_the_labels_around_it(ask: Any, world: World, run: Agents, llm: Any) -> None:
    with bg.acting_as(agent="crawler", session="s-17"):
        assert ask(llm)
    assert run.is_counted(1)
    (row,) = ledger_rows(world)
    assert (row["team"], row["agent"], row["session_id"]) == ("search", "crawler", "s-17")


@each_way
def test_a_refusal_ends_the_call_at_the_first_attempt(ask: Any, run: Agents, llm: Any) -> None:
    with bg.acting_as(agent=POOR), pytest.raises(bg.BudgetExceeded, match="poor refused this call"):
        ask(llm)
    assert run.provider.received == 0


@each_way
def test_retries_and_fallbacks_send_nothing(ask: Any, run: Agents, llm: Any) -> None:
    trying = llm.with_retry(stop_after_attempt=3, wait_exponential_jitter=False).with_fallbacks([llm])
    with bg.acting_as(agent=POOR), pytest.raises(bg.BudgetExceeded), bg.stop_at_refusal():
        ask(trying)
    assert run.provider.received == 0


def test_embeddings_are_counted(world: World, run: Agents, options: dict[str, Any]) -> None:
    data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
    usage = {"prompt_tokens": 5, "total_tokens": 5}
    run.provider.reply_next(*[Reply.json({"object": "list", "data": data, "model": MODEL, "usage": usage})] * 2)
    embeddings = langchain_openai.OpenAIEmbeddings(**options, check_embedding_ctx_length=False)
    assert embeddings.embed_query("hello") == loop().run(embeddings.aembed_query("hello")) == [0.5]
    assert world.spent() == 10


def graph(run: Agents, llm: Any) -> Any:
    """An agent of LangGraph's that tells the model of every error of its tools."""
    prebuilt = pytest.importorskip("langgraph.prebuilt", reason="langgraph is not installed")
    graphs = pytest.importorskip("langgraph.graph", reason="langgraph is not installed")

    def ask_poor() -> str:
        """Ask another agent."""
        with bg.acting_as(agent=POOR):
            return str(llm.invoke("Say hello.").content)

    builder = graphs.StateGraph(graphs.MessagesState)
    bound = llm.bind_tools([ask_poor])
    builder.add_node("model", lambda state: {"messages": [bound.invoke(state["messages"])]})
    builder.add_node("tools", prebuilt.ToolNode([ask_poor], handle_tool_errors=True))
    builder.add_edge(graphs.START, "model")
    builder.add_conditional_edges("model", prebuilt.tools_condition)
    builder.add_edge("tools", "model")
    return builder.compile()


def team(run: Agents, llm: Any, asks: str) -> Any:
    """A graph whose tools are run at once, one of them by an agent without room; its nodes are tried again."""
    prebuilt = pytest.importorskip("langgraph.prebuilt", reason="langgraph is not installed")
    graphs = pytest.importorskip("langgraph.graph", reason="langgraph is not installed")
    retry = pytest.importorskip("langgraph.types").RetryPolicy(max_attempts=4, initial_interval=0.0, retry_on=Exception)

    async def ask_poor() -> str:
        """Ask an agent without room."""
        with bg.acting_as(agent=POOR):
            return str((await llm.ainvoke("Say hello.")).content)

    async def ask_rich() -> str:
        """Ask another."""
        return str((await llm.ainvoke("Say hello.")).content)

    async def model(state: Any) -> Any:
        if asks == "node":
            await ask_poor()
        return {"messages": [await llm.bind_tools([ask_poor, ask_rich]).ainvoke(state["messages"])]}

    builder = graphs.StateGraph(graphs.MessagesState)
    builder.add_node("model", model, retry_policy=retry)
    builder.add_node("tools", prebuilt.ToolNode([ask_poor, ask_rich], handle_tool_errors=True), retry_policy=retry)
    builder.add_edge(graphs.START, "model")
    builder.add_conditional_edges("model", prebuilt.tools_condition)
    builder.add_edge("tools", "model")
    return builder.compile()


@pytest.mark.parametrize("asks", ["tools", "node"])
def test_neither_parallel_tools_nor_a_retry_policy_go_on(asks: str, run: Agents, llm: Any) -> None:
    if asks == "tools":
        run.provider.reply_next(tool_call("ask_rich ask_poor"))

    async def stopped() -> None:
        with bg.stop_at_refusal():
            await team(run, llm, asks).ainvoke({"messages": [("user", "Say hello.")]})

    with pytest.raises(bg.BudgetExceeded, match="poor refused this call"):
        loop().run(stopped())
    assert len(run.world.heard.of(Refused)) == 1
    assert run.provider.received <= (2 if asks == "tools" else 0), "the model is not asked again"


def test_a_refusal_inside_a_tool_stops_the_run_instead_of_being_told_to_the_model(run: Agents, llm: Any) -> None:
    agent, asked = graph(run, llm), {"messages": [("user", "Say hello.")]}
    run.provider.reply_next(tool_call("ask_poor"))
    with pytest.raises(bg.BudgetExceeded, match="poor refused this call"), bg.stop_at_refusal():
        agent.invoke(asked)
    assert run.is_counted(1), "the model is not asked again"
    run.provider.reply_next(tool_call("ask_poor"))
    assert agent.invoke(asked)["messages"][-1].content
    assert run.is_counted(3), "without that block it is told, and asked again"
