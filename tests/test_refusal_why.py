"""A refusal of a request that does not bound its output says that this is why so much was asked, and what to set."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest
from guard_kit import World
from transport_kit import JSON, PLAIN, URLS, Play, Player, guard_of, heard, request

import budgetguard as bg
from budgetguard.integrations.httpx import BudgetTransport

MESSAGES = {"messages": [{"role": "user", "content": "Say hello."}]}


def refused(world: World, limit: str, asked: Any, url: str = URLS["chat"], **settings: Any) -> bg.BudgetExceeded:
    async def main() -> BaseException | None:
        async with guard_of(world, limit, estimate="ceiling", **settings) as guard:
            return (await heard(BudgetTransport(guard, Player(Play([PLAIN], JSON))), request(asked, url))).error

    error = asyncio.run(main())
    assert isinstance(error, bg.BudgetExceeded)
    return error


@pytest.mark.parametrize(
    ("kind", "asked", "why"),
    [
        ("chat", {"model": "gpt-4o"}, "16,384 output tokens are this model's maximum: set max_completion_tokens"),
        ("chat", {"model": "gpt-4o", "n": 3},
         "3 x 16,384 output tokens are this model's maximum: set max_completion_tokens"),
        ("chat", {"model": "my-own"},
         "4,096 output tokens are what [estimate] default_output_tokens says: set max_completion_tokens"),
        ("generateContent", {"contents": []},
         "4,096 output tokens are what [estimate] default_output_tokens says: set generationConfig.maxOutputTokens"),
        ("converse", {}, "4,096 output tokens are what [estimate] default_output_tokens says: "
         "set inferenceConfig.maxTokens"),
    ],
)  # fmt: skip
def test_it_says_what_the_output_was_taken_for_and_what_bounds_it(
    world: World, kind: str, asked: dict[str, Any], why: str
) -> None:
    error = refused(world, "100 tokens/day", {**MESSAGES, **asked}, URLS[kind])
    first, *_, last = str(error).splitlines()
    assert first.startswith("default refused this call: ") and last == f"  {why}"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 - our own


@pytest.mark.parametrize(
    ("limit", "kind", "asked"),
    [
        ("100 tokens/day", "chat", {"model": "gpt-4o", "max_tokens": 4_000}),
        ("1 input_tokens/day", "chat", {"model": "gpt-4o"}),
        ("1 tokens/day", "embeddings", {"model": "text-embedding-3-small", "input": "Some words."}),
    ],
)
def test_it_says_nothing_of_it_where_that_is_not_the_cause(
    world: World, limit: str, kind: str, asked: dict[str, Any]
) -> None:
    error = refused(world, limit, {**MESSAGES, **asked}, URLS[kind])
    assert "output tokens are" not in str(error)
    assert str(error).splitlines()[-1].endswith(error.reservation_id)
