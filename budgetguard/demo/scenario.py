"""Who spends in the demonstration, against which budgets, and what each agent does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion

from budgetguard.core.amounts import format_usd
from budgetguard.errors import BudgetExceeded
from budgetguard.events import AlertReached, Delayed, Event
from budgetguard.guard import Guard
from budgetguard.policy import Budget, Policy
from budgetguard.price import Price
from budgetguard.store import Store
from budgetguard.testing import ProviderPrice, count_input_tokens
from budgetguard.usage import Usage

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

Messages = list[dict[str, str]]


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
        """Guarded by `reserve`: a refusal ends the agent's work."""
        for number in range(CALLS_PER_AGENT):
            messages = _messages(agent, number)
            try:
                async with self.guard.reserve(
                    team="search", agent=agent, task="crawl", model=MODEL, estimate=_estimate(messages)
                ) as hold:
                    hold.record(await self._ask(messages, hold.id))
            except BudgetExceeded as refusal:
                self.calls[agent]["refused"] += 1
                if self.refusal is None:
                    self.refusal = refusal
                    self._tell(f"BudgetExceeded: {refusal}")
                return
            self.calls[agent]["calls"] += 1

    async def _support_agent(self, agent: str) -> None:
        """Guarded by `budgeted`: the function says nothing of budgets."""

        @self.guard.budgeted(team="support", agent=agent, task="reply", model=MODEL, estimate=_estimate)
        async def reply(messages: Messages) -> ChatCompletion:
            return await self._ask(messages, agent)

        for number in range(CALLS_PER_AGENT):
            await reply(_messages(agent, number))
            self.calls[agent]["calls"] += 1

    async def _ask(self, messages: Messages, request_id: str) -> ChatCompletion:
        return await self._client.chat.completions.create(
            model=MODEL,
            messages=messages,  # type: ignore[arg-type]  # plain dicts are what the API takes
            max_tokens=MOST_OUTPUT_TOKENS,
            extra_headers={"x-request-id": request_id},
        )


def _messages(agent: str, number: int) -> Messages:
    return [{"role": "user", "content": f"This is task {number} of {agent}: say in a few words what to do next."}]


def _estimate(messages: Messages) -> Usage:
    """What the request bounds: its prompt, and the most that it lets the model write."""
    return Usage(count_input_tokens(messages), MOST_OUTPUT_TOKENS)
