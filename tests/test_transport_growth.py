"""A stream that passes its estimate takes more in steps ahead of it, and ends where a budget has no room for more."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from guard_kit import LossyStore, World
from store_kit import rows
from transport_kit import (
    CHAT,
    DONE,
    HIDDEN,
    STOP,
    STREAMED,
    Heard,
    Play,
    Player,
    event,
    guard_of,
    heard,
    heard_sync,
    only_row,
    request,
    word,
)  # fmt: skip

import budgetguard as bg
from budgetguard.answer import DOUBT
from budgetguard.events import Overage, Refused, WouldRefuse
from budgetguard.exchange import STEP_LEAST
from budgetguard.integrations.httpx import BudgetTransport
from budgetguard.stores.sqlite import SQLiteStore

WORDS = 40
TOKENS = 100
"""Of each word, about: a text of 350 bytes."""
SHORT = {**STREAMED, "max_tokens": 100}
"""Its bound is soon passed so far that nobody believes in it."""
TEXT = [word("x" * 350) for _ in range(WORDS)]
USAGE = {"prompt_tokens": 20, "completion_tokens": 4_000}
LONG = [*TEXT, STOP, event({"choices": [], "usage": USAGE}), DONE]


def played(world: World, way: str, *limits: str, play: Play | None = None, **settings: Any) -> Heard:
    guard, player = guard_of(world, *limits, **settings), Player(play or Play(LONG))
    transport = BudgetTransport(guard, player)

    async def main() -> Heard:
        async with guard:
            return await heard(transport, request(SHORT))

    if way == "async":
        return asyncio.run(main())
    outcome = heard_sync(transport, request(SHORT))
    guard.sync.close()
    return outcome


BOTH_WAYS = pytest.mark.parametrize("way", ["async", "sync"])


def test_what_is_held_stays_ahead_of_what_has_come_and_grows_in_steps(world: World) -> None:
    held: list[int] = []

    def look(_: int) -> None:
        held.append(world.reserved())

    async def main() -> None:
        async with guard_of(world) as guard:
            await heard(BudgetTransport(guard, Player(Play(LONG, on_chunk=look))), request(SHORT))

    asyncio.run(main())
    came = [number * TOKENS for number in range(WORDS)]
    doubted = [(reserved, tokens) for reserved, tokens in zip(held, came, strict=False) if tokens >= DOUBT * 100]
    assert len(doubted) > WORDS / 2 and all(reserved > tokens for reserved, tokens in doubted)
    assert held[0] < 200 and held == sorted(held)
    steps = [more - less for less, more in itertools.pairwise(held) if more > less]
    assert 4 < len(steps) < WORDS // 2 and min(steps) >= STEP_LEAST
    assert max(held) < 2 * WORDS * TOKENS
    assert only_row(world)["completion_tokens"] == 4_000


def test_a_stream_that_keeps_to_the_bound_of_its_request_is_never_stopped_nor_held_for_more(world: World) -> None:
    """What is counted in a stream is rather too much; no call takes more than its own bound."""
    bound = WORDS * TOKENS * 2 // 3
    asked = {**STREAMED, "max_tokens": bound}
    held: list[int] = []
    usage = event({"choices": [], "usage": {"prompt_tokens": 14, "completion_tokens": bound}})
    play = Play([*TEXT, STOP, usage, DONE], on_chunk=lambda _: held.append(world.reserved()))

    async def main() -> Heard:
        async with guard_of(world, f"{bound + 100} tokens/day") as guard:
            return await heard(BudgetTransport(guard, Player(play)), request(asked))

    outcome = asyncio.run(main())
    assert outcome.error is None and set(held) == {held[0]}
    assert only_row(world)["completion_tokens"] == bound


def test_a_stream_that_is_cut_is_charged_at_most_its_bound(world: World) -> None:
    bound = WORDS * TOKENS * 2 // 3

    async def main() -> None:
        async with guard_of(world) as guard:
            play = Play(TEXT, ending=httpx2.ReadError("reset"))
            await heard(BudgetTransport(guard, Player(play)), request({**STREAMED, "max_tokens": bound}))

    asyncio.run(main())
    assert only_row(world)["completion_tokens"] == bound


def test_a_store_that_is_away_for_a_moment_ends_no_growth(world: World) -> None:
    """The stream goes on, and is stopped where a budget refuses it later."""
    asks = 0

    class Away(SQLiteStore):
        async def grow(self, ops: Any) -> Any:
            nonlocal asks
            asks += 1
            if asks == 1:
                raise bg.StoreAway("for a moment")
            return await super().grow(ops)

    async def main() -> Heard:
        store = Away(str(world.path), clock=world.clock)
        async with world.guard("1000 tokens/day", store=store) as guard:
            return await heard(BudgetTransport(guard, Player(Play(LONG))), request(SHORT))

    assert isinstance(asyncio.run(main()).error, bg.BudgetExceeded)
    assert asks > 2


@BOTH_WAYS
def test_a_stream_ends_where_a_budget_refuses_after_what_was_paid_for_was_passed_on(world: World, way: str) -> None:
    outcome = played(world, way, "1000 tokens/day")
    assert isinstance(outcome.error, bg.BudgetExceeded)
    assert outcome.error.violations[0].limit == 1_000
    passed = outcome.passed.count(b'xxx"')
    assert 6 <= passed < WORDS and outcome.passed == b"".join(LONG[:passed])
    row = only_row(world)
    assert (row["usage_source"], row["status"], row["error_type"]) == ("counted", "error", "BudgetExceeded")
    assert 100 * (passed - 1) <= row["completion_tokens"] <= 110 * passed + 10


@BOTH_WAYS
@pytest.mark.parametrize("rule", ["release", "input", "estimate"])
def test_what_came_before_a_budget_stopped_the_stream_is_charged_whatever_the_settings(
    world: World, way: str, rule: Any
) -> None:
    settings = dict.fromkeys(("on_cancel", "on_error", "on_unknown_outcome"), rule)
    outcome = played(world, way, "1000 tokens/day", **settings)
    assert isinstance(outcome.error, bg.BudgetExceeded)
    assert only_row(world)["completion_tokens"] > 500


@BOTH_WAYS
def test_a_stream_may_end_and_its_overage_is_recorded(world: World, way: str) -> None:
    outcome = played(world, way, "1000 tokens/day", on_stream_exceed="finish")
    assert (outcome.error, outcome.passed) == (None, b"".join(LONG))
    row = only_row(world)
    assert (row["prompt_tokens"], row["completion_tokens"], row["status"]) == (20, 4_000, "settled")
    (told,) = world.heard.of(Overage)
    assert told.overage.tokens > 3_000
    assert [event.budgets for event in world.heard.of(WouldRefuse)] == [("default",)]
    assert world.heard.of(Refused) == []


def test_in_shadow_no_stream_is_stopped(world: World) -> None:
    async def main() -> Heard:
        guard = world.guard("1000 tokens/day", mode="shadow")
        async with guard:
            return await heard(BudgetTransport(guard, Player(Play(LONG))), request(SHORT))

    assert asyncio.run(main()).passed == b"".join(LONG)
    assert only_row(world)["completion_tokens"] == 4_000


def test_a_stream_goes_on_where_the_store_is_away_when_it_would_grow(world: World) -> None:
    async def main() -> Heard:
        guard = world.guard("1M tokens/day", store=world.store(timeout_ms=20))
        player = Player(Play(LONG, on_chunk=lambda number: away.__enter__() if number == 1 else None))
        async with guard:
            call = await heard(BudgetTransport(guard, player), request(SHORT))
            away.__exit__(None, None, None)
        return call

    away = world.away()
    outcome = asyncio.run(main())
    assert (outcome.error, outcome.passed) == (None, b"".join(LONG))
    assert only_row(world)["completion_tokens"] == 4_000


def test_a_stream_goes_on_where_its_hold_has_expired_meanwhile_and_is_charged_late(world: World) -> None:
    def expire(number: int) -> None:
        if number == 1:
            rows(world.path, "UPDATE reservations SET lease_end_ms = 0")

    async def main() -> Heard:
        async with guard_of(world) as guard, guard_of(world) as other:
            transport = BudgetTransport(guard, Player(Play(LONG, on_chunk=expire), rounds=1))
            asked = request(SHORT)
            response = await transport.handle_async_request(asked)
            found, chunks = Heard(response=response), aiter(response.stream)
            found.passed += await anext(chunks)
            engine = other._engines.current()
            await engine.open()
            world.clock.advance(10 * 60_000)
            await engine.sweep()
            assert world.states() == ["expired"]
            found.passed += b"".join([chunk async for chunk in chunks])
            return found

    outcome = asyncio.run(main())
    assert outcome.passed == b"".join(LONG)
    ((tokens, revision),) = rows(world.path, "SELECT completion_tokens, revision FROM token_usage")
    assert (tokens, revision) == (4_000, 2)
    assert (world.reserved(), world.spent()) == (0, 4_020)


def test_a_delaying_budget_does_not_make_a_stream_wait(world: World) -> None:
    async def main() -> Heard:
        budget = bg.Budget("slow", ["1000 tokens/day"], on_exceed="delay", max_delay="1h")
        guard = world.guard(budgets=[budget])
        async with guard, asyncio.timeout(60):
            return await heard(BudgetTransport(guard, Player(Play(LONG))), request(SHORT))

    assert isinstance(asyncio.run(main()).error, bg.BudgetExceeded)


async def note(stream: Any, found: list[str]) -> None:
    async for chunk in stream:
        found.append(chunk.choices[0].delta.content)


def test_the_sdk_of_openai_raises_the_stop_as_its_own_error_and_ours(world: World) -> None:
    async def main() -> list[str]:
        found: list[str] = []
        async with guard_of(world, "1000 tokens/day") as guard:
            http: Any = httpx2.AsyncClient(transport=BudgetTransport(guard, Player(Play(LONG))))
            client = openai.AsyncOpenAI(api_key="sk-1", http_client=http)
            stream = await client.chat.completions.create(stream=True, model="acme-1", messages=[], max_tokens=100)
            with pytest.raises(openai.OpenAIError) as refused:
                await note(stream, found)
        assert isinstance(refused.value, bg.BudgetExceeded) and isinstance(refused.value, anthropic.AnthropicError)
        assert getattr(refused.value, "status_code", None) == 429
        return found

    assert 6 <= len(asyncio.run(main())) < WORDS
    assert only_row(world)["error_type"] == "BudgetExceeded"


def test_a_stream_within_its_estimate_does_not_grow(world: World) -> None:
    async def main() -> list[str]:
        store = LossyStore(world.store())
        async with world.guard("1M tokens/day", store=store) as guard:
            await heard(BudgetTransport(guard, Player(Play(CHAT))), request(STREAMED))
        return store.asked

    assert [verb for verb in asyncio.run(main()) if verb in ("reserve", "grow", "settle")] == ["reserve", "settle"]


def test_the_bound_that_the_guard_writes_is_the_estimate(world: World) -> None:
    async def main() -> Player:
        player = Player(Play(CHAT))
        asked = {name: value for name, value in HIDDEN.items() if name != "max_tokens"}
        async with guard_of(world, inject_max_tokens=True) as guard:
            await heard(BudgetTransport(guard, player), request(asked))
        return player

    sent = asyncio.run(main()).sent
    ((estimated, prompt),) = rows(world.path, "SELECT estimated_tokens, prompt_tokens FROM token_usage")
    bound = sent.get("max_tokens") or sent["max_completion_tokens"]
    assert 0 < estimated - bound < 100 and prompt == 500
