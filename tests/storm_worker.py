"""One process of a storm: it makes its tasks' calls through a guard, all at once, and tells each step in a line.

Started by `storm_fleet` with a JSON object: folder, seed, worker, count, numbers (of the tasks to do), at_once (so many
of them), guard (options of `storm_guard`), witness (the URL of a Redis for the witness; "" for a file, None for no
witness) and base_url (of a real HTTP provider, asked with the OpenAI client; else the provider is in this process).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any, Protocol

from storm_world import (
    MODEL,
    TEAM,
    BillingProvider,
    CheckThenAct,
    RedisCheckThenAct,
    Task,
    storm_guard,
    tasks_of,
    team_tokens_of,
)

import budgetguard as bg
from budgetguard.testing import count_input_tokens

WITNESS_AT_ONCE = 3


class Provider(Protocol):
    async def answer(self, task: Task, reservation_id: str) -> Any: ...


class HttpProvider:
    """The real OpenAI client, against a server that bills."""

    def __init__(self, base_url: str) -> None:
        import openai

        self._client = openai.AsyncOpenAI(base_url=base_url, api_key="any", max_retries=0)

    async def answer(self, task: Task, reservation_id: str) -> Any:
        messages: list[Any] = [{"role": "user", "content": "word" * task.input_tokens}]
        assert count_input_tokens(messages) == task.input_tokens
        hints = {"x-request-id": reservation_id, "x-output-tokens": str(task.output_tokens)}
        response = await self._client.chat.completions.create(
            model=MODEL, messages=messages, max_tokens=task.most_output_tokens, extra_headers=hints
        )
        tell("billed", task, reservation_id)
        return response


class Told:
    """Counts the events of the guard by name."""

    def __init__(self) -> None:
        self.events: dict[str, int] = {}

    def on_event(self, event: bg.Event) -> None:
        self.events[event.name] = self.events.get(event.name, 0) + 1


def tell(step: str, task: Task, reservation_id: str) -> None:
    """One line, in one write: a killed process leaves whole lines."""
    os.write(1, f"{step} {task.number} {reservation_id}\n".encode())


async def guarded(guard: bg.Guard, task: Task, provider: Provider) -> None:
    try:
        async with guard.reserve(team=TEAM, agent=task.agent, model=MODEL, estimate=task.estimate) as hold:
            tell("admitted", task, hold.id)
            hold.record(await provider.answer(task, hold.id))
            tell("recorded", task, hold.id)
    except bg.BudgetExceeded as refusal:
        tell("refused", task, refusal.reservation_id)
    except bg.StoreError as error:
        logging.exception("the store was away for %s", task)
        tell("away", task, type(error).__name__)
    else:
        tell("settled", task, hold.id)


async def work(
    folder: str, seed: int, worker: int, count: int, numbers: list[int], at_once: int, guard: dict[str, Any],
    witness: str | None, base_url: str,
) -> None:  # fmt: skip
    told, path = Told(), Path(folder)
    tasks = [task for task in tasks_of(seed, worker, count) if task.number in numbers]
    provider: Provider = HttpProvider(base_url) if base_url else BillingProvider(path / "bill.jsonl", _billed)
    opened, turns = storm_guard(path, observer=told, **guard), asyncio.Semaphore(at_once)
    async with asyncio.TaskGroup() as group:
        for task in tasks:
            group.create_task(in_turn(turns, guarded(opened, task, provider)))
        if witness is not None:
            group.create_task(witnessed(path, witness, tasks, team_tokens_of(guard["calls"])))
    left = await opened.aclose()
    os.write(1, f"done {left} {json.dumps(told.events)}\n".encode())


async def in_turn(turns: asyncio.Semaphore, doing: Coroutine[Any, Any, None]) -> None:
    async with turns:
        await doing


async def witnessed(path: Path, url: str, tasks: list[Task], limit_tokens: int) -> None:
    """The same tasks by check-then-act, with a bill of its own."""
    provider = BillingProvider(path / "witness.jsonl")
    if not url:
        in_file = CheckThenAct(path / "witness", limit_tokens, WITNESS_AT_ONCE)
        await asyncio.gather(*(in_file.call(task, provider) for task in tasks))
        return
    async with aclosing(RedisCheckThenAct(url, limit_tokens, WITNESS_AT_ONCE)) as in_redis:
        await asyncio.gather(*(in_redis.call(task, provider) for task in tasks))


def _billed(task: Task, reservation_id: str) -> None:
    tell("billed", task, reservation_id)


if __name__ == "__main__":
    logging.getLogger("budgetguard").setLevel(logging.ERROR)
    asyncio.run(work(**json.loads(sys.argv[1])))
