"""Inputs that were weighed by their bytes are held as what came back of inputs like them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from guard_kit import MODEL, World
from test_forecasting import ASKED, guard_of
from transport_kit import JSON, Play, Player, heard, ledger_rows, request

import budgetguard as bg
from budgetguard.estimates.tokenizers import counter
from budgetguard.integrations.httpx import BudgetTransport


def told_input(prompt_tokens: int) -> Play:
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": 70}
    body = {"model": MODEL, "choices": [{"message": {"content": "Hello"}}], "usage": usage}
    return Play([json.dumps(body).encode()], JSON)


@pytest.mark.parametrize(("calls", "expected"), [(18, 1.0), (60, 0.5)])
def test_inputs_are_held_as_what_came_back_once_enough_is_known(
    world: World, tmp_path: Path, calls: int, expected: float
) -> None:
    """They are weighed by their bytes, and half of that comes back; the bound of their output is 1."""
    asked = {**ASKED, "messages": [{"role": "user", "content": "words of a prompt " * 500}], "max_tokens": 1}

    async def main() -> list[int]:
        async with guard_of(world, tmp_path) as guard:
            await heard(BudgetTransport(guard, Player(Play(status=400))), request(asked))
            with bg.acting_as(agent="a"):
                await heard(BudgetTransport(guard, Player(told_input(1))), request(asked))
            weighed = int(ledger_rows(world)[-1]["estimated_tokens"]) - 1
            for _ in range(calls):
                with bg.acting_as(agent="b"):
                    await heard(BudgetTransport(guard, Player(told_input(weighed // 2))), request(asked))
            with bg.acting_as(agent="b"):
                await heard(BudgetTransport(guard, Player(told_input(weighed // 2))), request(asked))
            return [weighed, int(ledger_rows(world)[-1]["estimated_tokens"]) - 1]

    weighed, last = asyncio.run(main())
    assert last == pytest.approx(expected * weighed, rel=0.06)


def last_input(world: World, folder: Path, first: dict[str, Any], last: dict[str, Any], times: int) -> list[int]:
    """What is held for the input of a call at first, and after sixty whose input came back as so many times that."""

    async def main() -> list[int]:
        async with guard_of(world, folder) as guard:

            async def held_for(asked: dict[str, Any], tokens: int) -> int:
                await heard(BudgetTransport(guard, Player(told_input(tokens))), request(asked))
                return int(ledger_rows(world)[-1]["estimated_tokens"]) - 1

            with bg.acting_as(agent="a"):
                before = [await held_for(last, 1), await held_for(first, 1)]
            with bg.acting_as(agent="b"):
                for _ in range(60):
                    await held_for(first, times * before[1])
                return [before[0], await held_for(last, 1)]

    return asyncio.run(main())


SHORT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Say hello to them all."}], "max_tokens": 1}
LONG_ONE = {**SHORT, "messages": [{"role": "user", "content": "words of a prompt " * 500}]}
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


@pytest.mark.skipif(counter("o200k_base") is None, reason="no tokenizer is at hand: pip install rs-bpe")
@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (SHORT, SHORT, 1.0),
        (SHORT, LONG_ONE, 1.0),
        (LONG_ONE, SHORT, 1.0),
        (LONG_ONE, LONG_ONE, 3.0),
        ({**SHORT, "tools": TOOLS}, LONG_ONE, 3.0),
    ],
)
def test_what_a_tokenizer_has_counted_teaches_nothing_and_stays_as_it_is(
    world: World, tmp_path: Path, first: dict[str, Any], last: dict[str, Any], expected: float
) -> None:
    """A short prompt to a model that adds its own would otherwise raise all long ones, by up to four times."""
    before, after = last_input(world, tmp_path, first, last, 3)
    assert after == pytest.approx(expected * before, rel=0.06)
