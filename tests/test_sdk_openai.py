"""The OpenAI SDK over the recorded exchanges of all who speak its API: the same with a guard, and the truth in the
ledger.

Of Gemini and Cohere only their chats are of this API.
"""

from __future__ import annotations

import inspect
from collections import Counter
from typing import Any

import httpx2
import pytest
from guard_kit import World
from sdk_kit import MESSAGES, closing, loop
from sdk_replay_kit import Played, answered, arguments, place_of
from wire_kit import Exchange, exchanges

from budgetguard.testing import FakeProvider

openai = pytest.importorskip("openai")
LIMIT = "1000000000 tokens/day"


def chat(client: Any, row: Exchange) -> Any:
    create = client.chat.completions.create
    asked_for = {"stream_options": {"include_usage": True}} if row["stream"] and not row["request"] else {}
    needed = {"model": row["model"] or "acme-1", "messages": MESSAGES, **asked_for}
    return answered(create(**arguments(create, row, **needed)))


def completion(client: Any, row: Exchange) -> Any:
    create = client.completions.create
    return answered(create(**arguments(create, row, model=row["model"] or "acme-1", prompt="Say hello.")))


def response(client: Any, row: Exchange) -> Any:
    create = client.responses.compact if row["api"] == "responses_compact" else client.responses.create
    return answered(create(**arguments(create, row, model=row["model"] or "acme-1", input="Say hello.")))


def embedding(client: Any, row: Exchange) -> Any:
    create = client.embeddings.create
    return answered(create(**arguments(create, row, model=row["model"] or "acme-1", input="Say hello.")))


CALLS = {
    ("chat",): (chat, "/chat/completions"), ("completions",): (completion, "/completions"),
    ("responses", "responses_compact"): (response, "/responses"), ("embeddings",): (embedding, "/embeddings"),
}  # fmt: skip


def play(apis: tuple[str, ...], rows: list[Exchange], kinds: tuple[Any, Any], world: World) -> Counter[str]:
    """All rows through clients of one kind, on one HTTP client that has the fake provider as its proxy."""
    call, end = CALLS[apis]
    with FakeProvider.in_thread() as provider, closing(world.guard(LIMIT)) as guard:
        http = kinds[1](proxy=provider.url)
        original = kinds[0](api_key="k", max_retries=0, timeout=20, http_client=http)
        wrapped = guard.wrap(original)
        played = Played(
            provider, world,
            lambda row: original.with_options(base_url=place_of(row, end)),
            lambda row: wrapped.with_options(base_url=place_of(row, end)),
        )  # fmt: skip
        played.play(rows, call)
        closed = original.close()
        if inspect.isawaitable(closed):
            loop().run(closed)
        assert world.reserved() == 0
    print(kinds[0].__name__, apis[0], dict(played.counts))
    return played.counts


@pytest.mark.parametrize("apis", CALLS, ids=lambda apis: apis[0])
def test_what_the_sdk_returns_is_the_same_and_the_ledger_holds_the_truth(apis: tuple[str, ...], world: World) -> None:
    rows = [row for row in exchanges(*apis) if "chat" in apis or row["provider"] not in ("gemini", "cohere")]
    counts = play(apis, rows, (openai.OpenAI, httpx2.Client), world)
    assert counts["stated"] > 15 and counts.total() >= len(rows)


@pytest.mark.parametrize("apis", CALLS, ids=lambda apis: apis[0])
def test_so_it_is_with_the_async_client(apis: tuple[str, ...], world: World) -> None:
    rows = [row for row in exchanges(*apis) if "chat" in apis or row["provider"] not in ("gemini", "cohere")]
    counts = play(apis, rows[::7], (openai.AsyncOpenAI, httpx2.AsyncClient), world)
    assert counts["stated"] > 0
