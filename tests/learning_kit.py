"""Workers that learn together: guards on one store, of a file or of a Redis, and what the store then knows."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from guard_kit import MODEL, PATIENT_MS, PRICES, Heard, LossyStore
from transport_kit import JSON, Play, Player, request
from transport_kit import heard as heard_of

import budgetguard as bg
from budgetguard.integrations.httpx import BudgetTransport
from budgetguard.learning.sketch import EDGES
from budgetguard.store import OutputSet, Store
from budgetguard.stores import open_store

BOUND, INPUT, DAY_MS = 4_000, 12, 86_400_000
ASKED: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": BOUND}
WORKER = """
import asyncio, sys
from learning_kit import Fleet, call

async def main():
    async with Fleet(*sys.argv[1:]).guard() as guard:
        hear = lambda: asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        while calls := await hear():
            for _ in range(int(calls)):
                await call(guard, 70)
            print(calls.strip(), flush=True)

asyncio.run(main())
"""
"""Makes as many calls as a line says; its duties go on until the next one."""


class Fleet:
    """The store of some workers."""

    def __init__(self, url: str, namespace: str) -> None:
        self.url, self.namespace = url, namespace
        self.heard = Heard()

    def store(self, timeout_ms: int = PATIENT_MS) -> Store:
        return open_store(self.url, self.namespace, timeout_ms)

    def guard(self, *limits: str, **options: Any) -> bg.Guard:
        """Of a worker, with a store of its own; inputs are weighed, so that they are learned, too."""
        settings = {"prices": PRICES, "estimate": bg.EstimateSettings(tokenizer="bytes")}
        options = {"store": self.store(), "observers": [self.heard], **settings, **options}
        return bg.Guard(*(limits or ("100M tokens/day",)), **options)

    async def makes(self, count: int, output: int = 70) -> None:
        """A worker comes, makes so many calls, and goes."""
        async with self.guard() as guard:
            for _ in range(count):
                await call(guard, output)

    @property
    def problems(self) -> list[str]:
        """What was told of outputs that could not be shared."""
        return [event.error for event in self.heard.of(bg.events.StoreProblem) if event.verb == "share_outputs"]

    @property
    def estimates(self) -> list[int]:
        """The outputs for which calls held, in turn, about."""
        return [event.estimated_tokens - 20 for event in self.heard.of(bg.events.Settled)]

    async def knows(self, *key: str) -> int:
        """How many calls of a set the store knows."""
        async with contextlib.aclosing(self.store()) as store:
            return calls_of(await store.read_outputs([words_of(*key or (MODEL,))]))


def words_of(*key: str) -> str:
    """How the store calls a set of outputs, by the model, and names and values of labels."""
    return json.dumps(["out", DAY_MS, *key], separators=(",", ":"), ensure_ascii=False)


def calls_of(found: Sequence[OutputSet]) -> int:
    return sum(calls for row in found for _, place, calls in row.counts if place < len(EDGES))


def answer(output: int, prompt: int = INPUT) -> Play:
    usage = {"prompt_tokens": prompt, "completion_tokens": output}
    body = {"model": MODEL, "choices": [{"message": {"content": "Hello"}}], "usage": usage}
    return Play([json.dumps(body).encode()], JSON)


async def call(guard: bg.Guard, output: int, prompt: int = INPUT, **changes: Any) -> Any:
    """A call that writes so much; its error, if any."""
    asked = {name: value for name, value in (ASKED | changes).items() if value is not None}
    return (await heard_of(BudgetTransport(guard, Player(answer(output, prompt))), request(asked))).error


async def share(guard: bg.Guard, turns: int = 1) -> None:
    """The duty, now."""
    for _ in range(turns):
        await guard._engines.current().learning.share_outputs()


class Meanwhile(LossyStore):
    """While outputs are on their way from it, something else happens."""

    meanwhile: Callable[[], Awaitable[None]] | None = None

    def __getattr__(self, verb: str) -> Any:
        real = super().__getattr__(verb)

        async def ask(*args: Any, **options: Any) -> Any:
            found = await real(*args, **options)
            if verb == "read_outputs" and self.meanwhile is not None:
                happens, self.meanwhile = self.meanwhile, None
                await happens()
            return found

        return ask
