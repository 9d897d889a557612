"""Who spends in the demonstration, against which budgets, and what each agent does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from openai import AsyncOpenAI

from budgetguard.core.amounts import format_usd
from budgetguard.errors import BudgetExceeded
from budgetguard.events import AlertReached, Delayed, Event
from budgetguard.guard import Guard
from budgetguard.labels import acting_as
from budgetguard.policy import Budget, Policy
from budgetguard.price import Price
from budgetguard.store import Store
from budgetguard.testing import ProviderPrice

MODEL = "gpt-4o"
MOST_OUTPUT_TOKENS = 120
CALLS_PER_AGENT = 24
TEAMS = {"search": ("crawler", "ranker", "writer"), "support": ("triage", "answer", "follow-up")}
PROVIDER_PRICES = {MODEL: ProviderPrice(2_500_000_000, 10_000_000_000)}
PRICES = [Price(MODEL, {"input": "2.50", "output": "10.00"})]
BUDGETS = [
    Budget("company", ["$1/total", "1M tokens/total"]),
    Budget("search-team", ["$0.045/day"], where={"team": "search"}),
    Budget("support-team", ["2 concurrent"], where={"team": "support"}, on_exceed="delay", max_delay="15s"),
    Budget("each-agent", ["20k tokens/hour", "$0.10/day"], per=["agent"]),
]


class Scenario:
    """Six agents at work. `calls` counts what became of their calls, by agent; `tell` prints what is worth a line."""

    def __init__(
        self, store: Store, client: AsyncOpenAI, tell: Callable[[str], None], policy: Policy | None = None
    ) -> None:
        more = policy.budgets if policy is not None else ()
        self.guard = Guard(budgets=[*BUDGETS, *more], prices=PRICES, store=store, observers=[self])
        self.calls: dict[str, Counter[str]] = {agent: Counter() for agents in TEAMS.values() for agent in agents}
        self.refusal: BudgetExceeded | None = None
        self._client = client
        self._tell = tell

    def on_event(self, event: Event) -> None:
        """Show the first delayed call and each alert of money; count the delays."""
        if isinstance(event, AlertReached) and event.account.unit == "usd":
            spent, limit = format_usd(event.level_reached), format_usd(event.limit)
            self._tell(f"alert: {event.account.budget} has spent {spent} of {limit}")
        if isinstance(event, Delayed):
            agent = event.subject["agent"]
            if not any(counts["delayed"] for counts in self.calls.values()):
                self._tell(f"delayed: {agent} waited {event.waited_ms} ms for one of support's 2 concurrent calls")
            self.calls[agent]["delayed"] += 1

    async def run(self) -> None:
        """Let all agents work at once until each is done or its team's money is spent.

        Errors: the first that an agent met.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for agent in TEAMS["search"]:
                    group.create_task(self._search_agent(agent))
                for agent in TEAMS["support"]:
                    group.create_task(self._support_agent(agent))
        except ExceptionGroup as met:
            raise met.exceptions[0] from None

    async def _search_agent(self, agent: str) -> None:
        """A refusal ends the agent's work."""
        client = self.guard.wrap(self._client, team="search", agent=agent, task="crawl")
        for number in range(CALLS_PER_AGENT):
            try:
                await _ask(client, agent, number)
            except BudgetExceeded as refusal:
                self.calls[agent]["refused"] += 1
                if self.refusal is None:
                    self.refusal = refusal
                    self._tell(f"BudgetExceeded: {refusal}")
                return
            self.calls[agent]["calls"] += 1

    async def _support_agent(self, agent: str) -> None:
        """Who its calls are for is said around them; they wait for their turn."""
        client = self.guard.wrap(self._client)
        for number in range(CALLS_PER_AGENT):
            with acting_as(team="support", agent=agent, task="reply"):
                await _ask(client, agent, number)
            self.calls[agent]["calls"] += 1


async def _ask(client: AsyncOpenAI, agent: str, number: int) -> None:
    """Code that knows nothing of budgets."""
    await client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "user", "content": f"This is task {number} of {agent}: say in a few words what to do next."}
        ],
        max_tokens=MOST_OUTPUT_TOKENS,
    )
