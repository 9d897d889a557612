"""A process of its own that uses a store, for the tests of the file: `python sqlite_worker.py TASK PATH [...]`.

Each line that it prints is a fact: an id that was acknowledged, or the kind of an error and its text.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from typing import Any

from store_kit import amounts, ask, ask_one, plan, release, reserve, settle, stands

from budgetguard.core.model import Plan
from budgetguard.errors import StoreError
from budgetguard.stores.sqlite import SQLiteStore


def limited(tokens: str = "300") -> Plan:
    return plan(f"{tokens} tokens/total", "1000000 requests/total", "64 concurrent", name="shared")


def say(*words: Any) -> None:
    print(*words, flush=True)


async def calls(path: str, name: str, count: str, tokens: str) -> None:
    """So many calls, 16 at once: each reserves 3 tokens and settles 2, or releases; until the limit refuses."""
    shared = limited(tokens)
    store = SQLiteStore(path, timeout_ms=60_000)
    now_ms = await store.open()

    async def call(number: int) -> None:
        id = f"{name}-{number}"
        verdict = await ask_one(store, reserve(id, shared, amounts(3), now_ms, lease_ms=3_600_000))
        if verdict.word != "granted":
            say(verdict.word, id)
            return
        op: Any = settle(id, shared, amounts(2), amounts(3), admitted_ms=verdict.admitted_ms, tried_since_ms=now_ms)
        answer = await ask_one(store, release(id) if number % 5 == 4 else op)
        say(answer.word, id)

    for first in range(0, int(count), 16):
        await asyncio.gather(*(call(number) for number in range(first, min(first + 16, int(count)))))
    await store.aclose()


async def probe(path: str) -> None:
    """Open the store and reserve once."""
    store = SQLiteStore(path)
    now_ms = await store.open()
    say((await ask_one(store, reserve("probe", limited(), amounts(1), now_ms))).word)
    await store.aclose()


async def full(path: str) -> None:
    """A disk without room while a batch is written: the batch is undone, and the next finds everything as it was."""
    store = SQLiteStore(path)
    now_ms = await store.open()
    await ask_one(store, reserve("a", limited(), amounts(3), now_ms))
    before = await stands(store)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        await ask(store, *(reserve(f"b{n}", limited(), amounts(3), now_ms) for n in range(20)))
    except StoreError as error:
        say(type(error).__name__, error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    say(await stands(store) == before)
    op = settle("a", limited(), amounts(2), amounts(3), admitted_ms=now_ms, tried_since_ms=now_ms)
    say((await ask_one(store, op)).word)
    await store.aclose()


if __name__ == "__main__":
    try:
        asyncio.run({"calls": calls, "probe": probe, "full": full}[sys.argv[1]](*sys.argv[2:]))
    except StoreError as error:
        say(type(error).__name__, error)
