"""What a wrapped client adds to its calls, by what a bare reserve and settle takes: `benchmarks/bench_transport.py`.

The same client asks the same local provider with and without a guard, plain and streamed, in turn with a reserve and a
settle of the same guard by hand. Prints a table with commit and versions; exits with 1 if a figure misses its bound.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from figures import Figure, Sizes, at_most, fresh_folder, heading, median, progress, show
from local_provider import MODEL, local_provider
from openai import AsyncOpenAI

from budgetguard.guard import Guard
from budgetguard.usage import Usage

BOUND = 1.5
LIMITS = ("5M tokens/hour", "$900/month", "100k requests/minute")
MESSAGES: Any = [{"role": "user", "content": "Say in a few words what to do next. " * 20}]
Call = Callable[[], Awaitable[None]]


def figures(sizes: Sizes) -> list[Figure]:
    """Plain and streamed calls, each at the median and at the slowest hundredth."""
    with fresh_folder(sizes) as folder, local_provider() as base_url:
        return [figure for kind in (_plain, _streamed) for figure in asyncio.run(_of(kind, folder, base_url, sizes))]


async def _of(ask: Callable[[AsyncOpenAI], Awaitable[None]], folder: Path, base_url: str, sizes: Sizes) -> list[Figure]:
    name = ask.__name__.strip("_")
    store = f"sqlite:///{folder / name}.db"
    async with (
        AsyncOpenAI(base_url=base_url, api_key="any", max_retries=0) as bare,
        Guard(*LIMITS, store=store) as guard,
    ):
        turns: list[Call] = [partial(ask, bare), partial(ask, guard.wrap(bare)), partial(_by_hand, guard)]
        rounds = []
        for number in range(sizes.rounds):
            progress(f"{name} calls: {number + 1} of {sizes.rounds}")
            rounds.append(await _in_turn(turns, max(10, sizes.calls // 10)))
    return [
        _figure(f"a {name} call, p{percent}: what the guard adds, by a reserve and settle", rounds, percent)
        for percent in (50, 99)
    ]


async def _in_turn(turns: list[Call], count: int) -> list[list[float]]:
    """How long each of the turns takes, in us."""
    took_us: list[list[float]] = [[] for _ in turns]
    for number in range(count + 3):
        for took, call in zip(took_us, turns, strict=True):
            started = time.perf_counter()
            await call()
            if number >= 3:  # connections stand by then
                took.append((time.perf_counter() - started) * 1e6)
    return took_us


def _figure(what: str, rounds: list[list[list[float]]], percent: int) -> Figure:
    at = [[sorted(took)[len(took) * percent // 100] for took in turns] for turns in rounds]
    bare, guarded, by_hand = (median([row[column] for row in at]) for column in range(3))
    ratio = median([(row[1] - row[0]) / row[2] for row in at])
    return at_most(what, ratio, BOUND, f"{guarded:.0f} us by {bare:.0f} us; by hand {by_hand:.0f} us")


async def _plain(client: AsyncOpenAI) -> None:
    await client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=100)


async def _streamed(client: AsyncOpenAI) -> None:
    async for _ in await client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=100, stream=True):
        pass


async def _by_hand(guard: Guard) -> None:
    async with guard.reserve(model=MODEL, provider="openai", estimate=Usage(400, 100)) as hold:
        hold.record(Usage(380, 60))


def main() -> int:
    """Measure it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often it is measured (default: 5)")
    parser.add_argument("--quick", action="store_true", help="once, and small: shows that it runs, measures nothing")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="where files are made (default: here)")
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    sizes = Sizes(rounds=1, calls=50, folder=folder) if asked.quick else Sizes(rounds=asked.rounds, folder=folder)
    print(heading(sizes), end="\n\n", flush=True)
    found = figures(sizes)
    show(found)
    return int(any(figure.met is False for figure in found))


if __name__ == "__main__":
    sys.exit(main())
