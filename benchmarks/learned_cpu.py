"""What learned estimates add to the guard's CPU: a call through a transport, beside one that is held at its ceiling."""

from __future__ import annotations

import asyncio
import json
import time

import httpx2
from figures import Figure, Sizes, at_most, median, progress
from guard_cpu import SLICES, InstantStore
from workload import MODEL, PRICES, TEAMS, TWELVE_LIMITS, agent_name

import budgetguard as bg
from budgetguard.integrations.httpx import BudgetTransport

MOST_BY_CEILING = 1.20
AGENTS = 4
URL = "https://api.openai.com/v1/chat/completions"
ASKED = {"model": MODEL, "messages": [{"role": "user", "content": "What to do next? " * 100}], "max_tokens": 4_000}
USAGE = {"prompt_tokens": 420, "completion_tokens": 70}
ANSWER = json.dumps({"model": MODEL, "choices": [{"message": {"content": "Hello"}}], "usage": USAGE}).encode()


class _Instant(httpx2.AsyncBaseTransport):
    """A provider that answers at once."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "application/json"}, content=ANSWER)


class _Subject:
    def __init__(self, estimates: bg.EstimateSettings) -> None:
        self.guard = bg.Guard(budgets=TWELVE_LIMITS, prices=PRICES, store=InstantStore(), estimate=estimates)
        self.cpu_s: list[float] = []
        self._transport = BudgetTransport(self.guard, _Instant())

    async def calls(self, count: int) -> None:
        """So many, of several agents with three tasks each."""
        content = json.dumps(ASKED).encode()
        started = time.thread_time()
        for number in range(count):
            team, agent = f"team-{number % TEAMS}", agent_name(number % AGENTS)
            with bg.acting_as(team=team, agent=agent, task=f"task-{number % 3}"):
                response = await self._transport.handle_async_request(httpx2.Request("POST", URL, content=content))
                await response.aread()
                await response.aclose()
        self.cpu_s.append((time.thread_time() - started) / count)


def figures(sizes: Sizes) -> list[Figure]:
    """One: learned by ceiling, in turn in one process; the input is weighed, as it is where no tokenizer is at hand."""
    progress("the CPU of learned estimates")
    ceiling_us, learned_us, ratio = asyncio.run(_measured(sizes))
    what = "a call through a transport with learned estimates, by one with ceilings"
    return [at_most(what, ratio, MOST_BY_CEILING, f"{learned_us:.0f} us by {ceiling_us:.0f} us, CPU time")]


async def _measured(sizes: Sizes) -> tuple[float, float, float]:
    ceiling, learned = (
        _Subject(bg.EstimateSettings(tokenizer="bytes", output=output)) for output in ("ceiling", "learned")
    )
    async with ceiling.guard, learned.guard:
        for subject in (ceiling, learned):
            await subject.calls(sizes.calls)  # to warm up, and so that something is known
        # Short turns, so that whatever slows the machine meanwhile slows both.
        for _ in range(sizes.rounds * SLICES * 2):
            for subject in (ceiling, learned):
                await subject.calls(max(1, sizes.calls // SLICES // 4))
    pairs = list(zip(ceiling.cpu_s, learned.cpu_s, strict=True))[1:]
    ratio = median([learned_s / ceiling_s for ceiling_s, learned_s in pairs])
    return median(ceiling.cpu_s[1:]) * 1e6, median(learned.cpu_s[1:]) * 1e6, ratio
