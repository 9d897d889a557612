"""What LiteLLM does under `guard_litellm`, in a process of its own: its openai is another. Prints a line for each play.

python litellm_plays.py STORE
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import litellm

import budgetguard as bg
from budgetguard.integrations.litellm import guard_litellm
from budgetguard.testing import FakeProvider, ProviderPrice, Reply

MODEL = "acme-1"
MESSAGE = {
    "id": "m-1", "type": "message", "role": "assistant", "model": MODEL, "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "Hello!"}], "usage": {"input_tokens": 5, "output_tokens": 3},
}  # fmt: skip
BUDGETS = [
    bg.Budget("all", limits=["1M tokens/day"]),
    bg.Budget("poor", where={"agent": "poor"}, limits=["1 tokens/day"]),
]
litellm.suppress_debug_info = True


class Played:
    """A provider, the guard, and what they have counted since the last look."""

    def __init__(self, guard: bg.Guard, provider: FakeProvider) -> None:
        self.guard, self.provider = guard, provider
        self._spent = self._billed = self._received = 0

    def asked(self, model: str = f"openai/{MODEL}", **options: Any) -> dict[str, Any]:
        base = self.provider.url if model.startswith("anthropic") else self.provider.base_url
        messages = [{"role": "user", "content": "Say hello."}]
        return {"model": model, "api_base": base, "api_key": "k", "messages": messages, "max_tokens": 9, **options}

    async def _settled(self) -> Any:
        """What stands on the account, once nothing is held: some streams are settled when LiteLLM drops them."""
        ends = time.monotonic() + 30
        while True:
            (row,) = [row for row in await self.guard.status() if row.budget == "all"]
            if not row.reserved or time.monotonic() > ends:
                return row
            gc.collect()
            await asyncio.sleep(0.05)

    async def tell(self, name: str, play: Callable[[], Awaitable[Any]]) -> None:
        """Run one; say how it ended, and whether what was billed is what was counted."""
        try:
            await play()
            ended = "done"
        except Exception as error:  # noqa: BLE001 - that is the question
            ended = type(error).__name__
        row = await self._settled()
        billed = sum(call.input_tokens + call.output_tokens for call in self.provider.bill)
        told = [ended, row.spent - self._spent, billed - self._billed, self.provider.received - self._received]
        self._spent, self._billed, self._received = row.spent, billed, self.provider.received
        print(json.dumps([name, *told, row.reserved]), flush=True)


async def read(stream: Any) -> None:
    async for _ in stream:
        pass


async def calls(played: Played) -> None:
    """Every way to call, over each kind of HTTP client."""
    for model in (f"openai/{MODEL}", f"hosted_vllm/{MODEL}", f"anthropic/{MODEL}"):
        asked = played.asked(model)
        if model.startswith("anthropic"):
            played.provider.reply_next(Reply.json(MESSAGE), Reply.json(MESSAGE))
        await played.tell(f"{model} async", lambda a=asked: litellm.acompletion(**a))
        await played.tell(f"{model} sync", lambda a=asked: asyncio.to_thread(litellm.completion, **a))
        if model.startswith("anthropic"):
            continue

        async def stream(a: Any = asked) -> None:
            await read(await litellm.acompletion(**a, stream=True))

        await played.tell(f"{model} stream", stream)
        await played.tell(
            f"{model} sync stream",
            lambda a=asked: asyncio.to_thread(lambda: list(litellm.completion(**a, stream=True)) and None),
        )


async def refusals(played: Played) -> None:
    """Those of a budget: at the first attempt, as they are."""
    asked = played.asked(num_retries=3)
    with bg.acting_as(agent="poor"):
        await played.tell("refused async", lambda: litellm.acompletion(**asked))
        await played.tell("refused sync", lambda: asyncio.to_thread(litellm.completion, **asked))
        await played.tell("refused stream", lambda: litellm.acompletion(**asked, stream=True))
        await played.tell("refused anthropic", lambda: litellm.acompletion(**played.asked(f"anthropic/{MODEL}")))
    params = {"model": f"openai/{MODEL}", "api_key": "k", "api_base": played.provider.base_url}
    models = [{"model_name": name, "litellm_params": params} for name in ("one", "two")]
    router = litellm.Router(model_list=models, num_retries=3, fallbacks=[{"one": ["two"]}], retry_after=0)
    messages = [{"role": "user", "content": "Say hello."}]
    with bg.acting_as(agent="poor"):
        await played.tell("refused router", lambda: router.acompletion(model="one", messages=messages))
    await played.tell("router", lambda: router.acompletion(model="one", messages=messages))


async def ways_around(played: Played) -> None:
    """What would go past the HTTP clients, or to where nothing can be counted."""
    asked = played.asked()
    await played.tell("aiohttp", lambda: litellm.acompletion(**{**asked, "model": f"aiohttp_openai/{MODEL}"}))
    place = {"websocket": None, "api_key": "k", "api_base": played.provider.url}
    await played.tell("realtime", lambda: litellm._arealtime(model="openai/gpt-realtime", **place))
    await played.tell("responses websocket", lambda: litellm._aresponses_websocket(model=f"openai/{MODEL}", **place))
    ocr = {"model": "mistral/ocr", "document": {"type": "document_url", "document_url": "http://127.0.0.1:9"}}
    await played.tell("native", lambda: litellm.aocr(**ocr, api_key="k", api_base=played.provider.url))
    image = {"model": "openai/dall-e-3", "prompt": "hello", "api_key": "k", "api_base": played.provider.base_url}
    await played.tell("unknown api", lambda: litellm.aimage_generation(**image))


async def main() -> None:
    async with FakeProvider({MODEL: ProviderPrice(1_000_000, 2_000_000)}) as provider:
        guard = bg.Guard(budgets=BUDGETS, store=sys.argv[1])
        guard_litellm(guard, team="search")
        played = Played(guard, provider)
        with bg.acting_as(agent="crawler"):
            await calls(played)
        await refusals(played)
        await ways_around(played)
        try:
            guard_litellm(guard)
        except TypeError as error:
            print(json.dumps(["twice", str(error)]))
        await guard.aclose()
        guard.sync.close()


asyncio.run(main())
