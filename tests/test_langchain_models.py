"""LangChain's models of other providers, guarded as docs/recipes/langchain.md says: plain, streamed, async."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import pytest
from guard_kit import MODEL, World
from replay_kit import Replay, Reply, json_reply
from sdk_kit import MESSAGE, closing, ledger_rows, loop, message_events, sse_reply

import budgetguard as bg
from budgetguard.events import Refused

LIMIT = "9k tokens/day"
CONVERSED = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Hello!"}]}}, "stopReason": "end_turn",
    "usage": {"inputTokens": 500, "outputTokens": 100, "totalTokens": 600}, "metrics": {"latencyMs": 1},
}  # fmt: skip


def claude(guard: bg.Guard, url: str) -> Any:
    """As the recipe has it."""
    kind = pytest.importorskip("langchain_anthropic", reason="langchain-anthropic is not installed").ChatAnthropic

    class Claude(kind):  # type: ignore[misc, valid-type]
        _client = cached_property(lambda self: guard.wrap(super()._client, team="search"))
        _async_client = cached_property(lambda self: guard.wrap(super()._async_client, team="search"))

    return Claude(model=MODEL, base_url=url, api_key="k", max_tokens=20, max_retries=5)


def bedrock(guard: bg.Guard, url: str) -> Any:
    aws = pytest.importorskip("langchain_aws", reason="langchain-aws is not installed")
    boto3 = pytest.importorskip("boto3")
    place = {"region_name": "us-east-1", "endpoint_url": url, "aws_access_key_id": "a", "aws_secret_access_key": "b"}
    client = guard.wrap(boto3.client("bedrock-runtime", **place), team="search")
    return aws.ChatBedrockConverse(
        model=MODEL, provider="acme", client=client, bedrock_client=boto3.client("bedrock", **place)
    )


def invoked(llm: Any) -> Any:
    return llm.invoke("Say hello.")


def ainvoked(llm: Any) -> Any:
    return loop().run(llm.ainvoke("Say hello."))


def streamed(llm: Any) -> Any:
    return list(llm.stream("Say hello."))


def astreamed(llm: Any) -> Any:
    async def read() -> Any:
        return [chunk async for chunk in llm.astream("Say hello.")]

    return loop().run(read())


WAYS = [
    (claude, json_reply(MESSAGE), (invoked, ainvoked)),
    (claude, sse_reply(*message_events(3)), (streamed, astreamed)),
    (bedrock, json_reply(CONVERSED), (invoked, ainvoked)),
]
each_way = pytest.mark.parametrize(
    ("make", "reply", "ask"),
    [(make, reply, ask) for make, reply, asks in WAYS for ask in asks],
    ids=[f"{make.__name__} {ask.__name__}" for make, _, asks in WAYS for ask in asks],
)


@each_way
def test_a_call_is_counted_under_the_labels_around_it(make: Any, reply: Reply, ask: Any, world: World) -> None:
    with Replay(reply) as server, closing(world.guard(LIMIT)) as guard:
        llm = make(guard, server.url)
        with bg.acting_as(agent="crawler"):
            assert ask(llm)
        (row,) = ledger_rows(world)
        assert (row["prompt_tokens"], row["completion_tokens"], row["usage_source"]) == (500, 100, "reported")
        assert (row["team"], row["agent"], world.reserved()) == ("search", "crawler", 0)


@each_way
def test_a_refusal_ends_the_call_at_the_first_attempt(make: Any, reply: Reply, ask: Any, world: World) -> None:
    with Replay(reply) as server, closing(world.guard("10 tokens/day")) as guard:
        with pytest.raises(bg.BudgetExceeded, match="default refused this call"):
            ask(make(guard, server.url))
        assert (len(world.heard.of(Refused)), server.asked) == (1, [])


def test_what_langchain_makes_of_a_claude_is_guarded_too(world: World) -> None:
    runnables = pytest.importorskip("langchain_core.runnables", reason="langchain is not installed")
    with Replay(json_reply(MESSAGE)) as server, closing(world.guard(LIMIT)) as guard:
        llm = claude(guard, server.url)
        field = runnables.ConfigurableField(id="bound")
        invoked(llm.configurable_fields(max_tokens=field).with_config(configurable={"bound": 30}))
        invoked(llm.with_fallbacks([llm]).with_config(tags=["t"]))
        assert len(ledger_rows(world)) == 2
