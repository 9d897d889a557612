"""What the tests of agents' frameworks share: a provider that answers with tool calls, and a poor agent's budget."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from guard_kit import MODEL, World
from sdk_kit import closing, loop, openai

import budgetguard as bg
from budgetguard.testing import FakeProvider, ProviderPrice, Reply, sse_event

POOR = "poor"
BUDGETS = [
    bg.Budget("all", limits=["1M tokens/day"]),
    bg.Budget("poor", where={"agent": POOR}, limits=["1 tokens/day"]),
]
_ids = count()  # some frameworks take a call with an id that they have seen for one that is done
_USAGE = {"prompt_tokens": 50, "completion_tokens": 10, "total_tokens": 60}


def tool_call(names: str, stream: bool = False, arguments: str = "{}") -> Reply:
    """An answer of chat completions that calls one tool, or several at once: their names, with spaces between."""
    calls = [
        {
            "index": index,
            "id": f"call-{next(_ids)}",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }
        for index, name in enumerate(names.split())
    ]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    about = {"id": "c-1", "created": 1, "model": MODEL}
    if not stream:
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        return Reply.json({**about, "object": "chat.completion", "choices": [choice], "usage": _USAGE})
    chunk = {**about, "object": "chat.completion.chunk"}
    first = {**chunk, "choices": [{"index": 0, "delta": message, "finish_reason": None}]}
    last = {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}], "usage": None}
    usage = {**chunk, "choices": [], "usage": _USAGE}
    return Reply.stream(sse_event(event) for event in (first, last, usage, "[DONE]"))


class Agents:
    """A provider, a guard whose agent "poor" has no room, and a guarded client."""

    def __init__(self, world: World, guard: bg.Guard, provider: FakeProvider) -> None:
        self.world, self.guard, self.provider = world, guard, provider
        self.client = guard.wrap(openai.AsyncOpenAI(api_key="k", base_url=provider.base_url, max_retries=5))

    @property
    def billed(self) -> int:
        """Tokens."""
        return sum(call.input_tokens + call.output_tokens for call in self.provider.bill)

    def is_counted(self, calls: int) -> bool:
        """Exactly what was billed is counted, for so many calls, and nothing is held any more."""
        world = self.world
        return (len(self.provider.bill), world.spent(), world.reserved()) == (calls, self.billed, 0)


@contextmanager
def agents(world: World) -> Iterator[Agents]:
    """All that, closed in the end."""
    prices = {MODEL: ProviderPrice(1_000_000, 2_000_000)}
    with FakeProvider.in_thread(prices) as provider, closing(world.guard(budgets=BUDGETS)) as guard:
        made = Agents(world, guard, provider)
        yield made
        loop().run(made.client.close())
