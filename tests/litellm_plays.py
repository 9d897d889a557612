"""What LiteLLM does under `guard_litellm`, in a process of its own: its openai is another. Prints a line for each play.

python litellm_plays.py STORE
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import litellm

import budgetguard as bg
from budgetguard.events import Refused
from budgetguard.integrations.litellm import guard_litellm
from budgetguard.testing import FakeProvider, ProviderPrice, Reply, sse_event

MODEL = "acme-1"
MESSAGE = {
    "id": "m-1", "type": "message", "role": "assistant", "model": MODEL, "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "Hello!"}], "usage": {"input_tokens": 5, "output_tokens": 3},
}  # fmt: skip
BUDGETS = [
    bg.Budget("all", limits=["1M tokens/day"]),
    bg.Budget("poor", where={"agent": "poor"}, limits=["1 tokens/day"]),
    bg.Budget("short", where={"agent": "short"}, per=["session"], limits=["300 tokens/day"]),
]
SAID = "hello there my good old friend "
"""Of a stream, again and again."""
litellm.suppress_debug_info = True


class Refusals:
    """An observer that counts how often a budget was asked in vain."""

    count = 0

    def on_event(self, event: bg.Event) -> None:
        self.count += isinstance(event, Refused)


class Played:
    """A provider, the guard, and what they have counted since the last look."""

    def __init__(self, guard: bg.Guard, provider: FakeProvider, refusals: Refusals) -> None:
        self.guard, self.provider, self.refusals = guard, provider, refusals
        self._spent = self._refused = 0
        self._billed, self._received = self._of_provider()
        self.place = {"api_base": provider.base_url, "api_key": "k"}

    def _of_provider(self) -> tuple[int, int]:
        """Tokens billed, and requests received."""
        return sum(call.input_tokens + call.output_tokens for call in self.provider.bill), self.provider.received

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
            found = await play()
            ended = "done" if not isinstance(found, list) else " ".join(type(one).__name__ for one in found)
        except Exception as error:  # noqa: BLE001 - that is the question
            ended = type(error).__name__
        row = await self._settled()
        billed, received = self._of_provider()
        told = [ended, row.spent - self._spent, billed - self._billed, received - self._received]
        self._spent, self._billed, self._received = row.spent, billed, received
        refused, self._refused = self.refusals.count - self._refused, self.refusals.count
        print(json.dumps([name, *told, row.reserved, refused]), flush=True)


async def read(stream: Any) -> None:
    async for _ in stream:
        pass


async def used_before(provider: FakeProvider) -> None:
    """LiteLLM keeps the clients that it has made: those from before it is guarded are guarded, too."""
    for kind in ("openai", "hosted_vllm"):
        asked: dict[str, Any] = {"model": f"{kind}/{MODEL}", "messages": [{"role": "user", "content": "hello"}]}
        place = {"api_base": provider.base_url, "api_key": "k"}
        await litellm.acompletion(**asked, **place)
        await asyncio.to_thread(litellm.completion, **asked, **place)


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


async def kinds(played: Played) -> None:
    """Other kinds of calls, for which LiteLLM has other clients."""
    text = {"model": f"text-completion-openai/{MODEL}", "prompt": "hello", "max_tokens": 9, **played.place}
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    choice = {"index": 0, "text": "hello", "finish_reason": "stop", "logprobs": None}
    completed = {"id": "c-1", "object": "text_completion", "created": 1, "model": MODEL, "choices": [choice]}
    whole = Reply.json({**completed, "usage": usage})
    parts = [completed, {**completed, "choices": [], "usage": usage}, "[DONE]"]
    streamed = Reply.stream([sse_event(part) for part in parts])
    vector = {"object": "embedding", "index": 0, "embedding": [0.5]}
    embedded = Reply.json({"object": "list", "data": [vector], "model": MODEL, "usage": usage})
    played.provider.reply_next(whole, whole, streamed, streamed, embedded, embedded)
    await played.tell("text sync", lambda: asyncio.to_thread(litellm.text_completion, **text))
    await played.tell("text async", lambda: litellm.atext_completion(**text))
    await played.tell(
        "text sync stream",
        lambda: asyncio.to_thread(lambda: [None for _ in litellm.text_completion(**text, stream=True)] and None),
    )

    async def stream() -> None:
        await read(await litellm.atext_completion(**text, stream=True))

    await played.tell("text stream", stream)
    asked = {"model": f"openai/{MODEL}", "input": ["hello"], **played.place}
    await played.tell("embedding sync", lambda: asyncio.to_thread(litellm.embedding, **asked))
    await played.tell("embedding async", lambda: litellm.aembedding(**asked))


async def signed_in(played: Played) -> None:
    """Azure, after a login that LiteLLM does over the same HTTP client."""
    own = {
        "AZURE_AUTHORITY_HOST": played.provider.url,
        "AZURE_CLIENT_ID": "c",
        "AZURE_TENANT_ID": "t",
        "MY_OIDC": "jwt",
    }
    os.environ.update(own)
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    said = {"id": "c-1", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice], "usage": usage}
    played.provider.reply_next(Reply.json({"access_token": "t", "expires_in": 3600}), Reply.json(said))
    place = {"api_base": played.provider.url, "api_version": "2024-10-21", "azure_ad_token": "oidc/env/MY_OIDC"}
    asked = {"model": f"azure/{MODEL}", "messages": [{"role": "user", "content": "Say hello."}], **place}
    await played.tell("login", lambda: asyncio.to_thread(litellm.completion, **asked))  # it would block the provider


async def mirrored(played: Played) -> None:
    """A call that a Router makes a second time, on the side, in a thread of its own."""
    params = {"model": f"openai/{MODEL}", **played.place}
    names = {"one": {**params, "silent_model": "two"}, "two": params}
    router = litellm.Router(model_list=[{"model_name": name, "litellm_params": own} for name, own in names.items()])
    twice = played.provider.received + 2

    async def play() -> None:
        await asyncio.to_thread(router.completion, "one", [{"role": "user", "content": "Say hello."}], max_tokens=9)
        await played.provider.wait_received(twice)

    with bg.acting_as(agent="mirrored"):
        await played.tell("mirrored", play)


def stream_of(words: int) -> Reply:
    """A chat stream that says far more than it was asked for."""
    chunk = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    delta = {"index": 0, "delta": {"role": "assistant", "content": SAID}, "finish_reason": None}
    return Reply.stream(sse_event({**chunk, "choices": [delta]}) for _ in range(words))


async def refusals(played: Played) -> None:
    """Those of a budget: at the first attempt, as they are."""
    asked = played.asked(num_retries=3)
    model, messages = asked["model"], asked["messages"]
    params = {"model": model, **played.place}
    models = [{"model_name": name, "litellm_params": params} for name in ("one", "two")]
    router = litellm.Router(model_list=models, num_retries=3, fallbacks=[{"one": ["two"]}], retry_after=0)
    two = [messages, messages]
    plays: dict[str, Callable[[], Any]] = {
        "async": lambda: litellm.acompletion(**asked),
        "sync": lambda: asyncio.to_thread(litellm.completion, **asked),
        "stream": lambda: litellm.acompletion(**asked, stream=True),
        "anthropic": lambda: litellm.acompletion(**played.asked(f"anthropic/{MODEL}")),
        "fallbacks": lambda: litellm.acompletion(**asked, fallbacks=[model, model]),
        "sync fallbacks": lambda: asyncio.to_thread(litellm.completion, **asked, fallbacks=[model]),
        "retries": lambda: asyncio.to_thread(litellm.completion_with_retries, **asked),
        "async retries": lambda: litellm.acompletion_with_retries(**asked),
        "router": lambda: router.acompletion(model="one", messages=messages),
        "sync router": lambda: asyncio.to_thread(router.completion, model="one", messages=messages),
        "batch": lambda: asyncio.to_thread(litellm.batch_completion, model, two, **played.place),
    }
    with bg.acting_as(agent="poor"):
        for name, play in plays.items():
            await played.tell(f"refused {name}", play)
        # Were it sent, nobody would answer it: the provider's loop is this one.
        in_loop = {**played.asked(timeout=3, max_retries=0), "fallbacks": [model]}

        async def called_in_a_loop() -> None:
            litellm.completion(**in_loop)

        await played.tell("refused sync fallbacks in a loop", called_in_a_loop)
    await played.tell("router", lambda: router.acompletion(model="one", messages=messages))
    await cut_off(played, router)


async def cut_off(played: Played, router: Any) -> None:
    """Streams for which a budget has no more, when they have begun."""
    asked = played.asked(num_retries=3, stream=True)

    async def direct() -> None:
        await read(await litellm.acompletion(**asked))

    async def routed() -> None:
        await read(await router.acompletion(model="one", messages=asked["messages"], max_tokens=9, stream=True))

    plays: dict[str, Callable[[], Any]] = {
        "async": direct,
        "sync": lambda: asyncio.to_thread(lambda: list(litellm.completion(**asked))),
        "router": routed,
    }
    for name, play in plays.items():
        played.provider.reply_next(stream_of(500))
        with bg.acting_as(agent="short", session=name):
            await played.tell(f"cut off {name}", play)


async def ways_around(played: Played) -> None:
    """What would go past the HTTP clients, or to where nothing can be counted."""
    asked, place = played.asked(), played.place
    socket = {"websocket": None, "api_key": "k", "api_base": played.provider.url}
    ocr = {"model": "mistral/ocr", "document": {"type": "document_url", "document_url": "http://127.0.0.1:9"}}
    aws = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "aws_region_name": "us-east-1"}
    batch: dict[str, Any] = {"completion_window": "24h", "endpoint": "/v1/chat/completions", "input_file_id": "f-1"}
    openai = {"custom_llm_provider": "openai", **place}
    plays: dict[str, Callable[[], Any]] = {
        "aiohttp": lambda: litellm.acompletion(**{**asked, "model": f"aiohttp_openai/{MODEL}"}),
        "realtime": lambda: litellm._arealtime(model="openai/gpt-realtime", **socket),
        "responses websocket": lambda: litellm._aresponses_websocket(model=f"openai/{MODEL}", **socket),
        "native": lambda: litellm.aocr(**ocr, api_key="k", api_base=played.provider.url),
        "image": lambda: litellm.aimage_generation(model="openai/dall-e-3", prompt="hello", **place),
        "speech": lambda: litellm.aspeech(model="openai/tts-1", input="hello", voice="alloy", **place),
        "variation": lambda: asyncio.to_thread(litellm.image_variation, b"x", "openai/dall-e-2", **place),
        "fallbacks": lambda: litellm.acompletion(**{**asked, "model": "cohere_chat/a"}, fallbacks=["cohere_chat/b"]),
        "batch job": lambda: litellm.acreate_batch(**batch, **openai),
        "sync batch job": lambda: asyncio.to_thread(litellm.create_batch, **batch, **openai),
        "fine-tuning": lambda: litellm.acreate_fine_tuning_job(model=MODEL, training_file="f-1", **openai),
        "assistant": lambda: litellm.arun_thread(thread_id="t-1", assistant_id="a-1", **openai),
        "boto3": lambda: litellm.aembedding(model="sagemaker/acme", input=["hello"], **aws),
    }
    for name, play in plays.items():
        await played.tell(name, play)


async def main() -> None:
    async with FakeProvider({MODEL: ProviderPrice(1_000_000, 2_000_000)}) as provider:
        await used_before(provider)
        refused = Refusals()
        guard = bg.Guard(budgets=BUDGETS, store=sys.argv[1], observers=[refused])
        guard_litellm(guard, team="search")
        played = Played(guard, provider, refused)
        with bg.acting_as(agent="crawler"):
            await calls(played)
            await kinds(played)
            await signed_in(played)
        await mirrored(played)
        await refusals(played)
        await ways_around(played)
        try:
            guard_litellm(guard)
        except TypeError as error:
            print(json.dumps(["twice", str(error)]))
        await guard.aclose()
        guard.sync.close()


asyncio.run(main())
