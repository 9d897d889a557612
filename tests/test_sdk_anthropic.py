"""The Anthropic SDK over the recorded messages: the same with a guard, and the truth in the ledger."""

from __future__ import annotations

import inspect
from typing import Any

import httpx2
import pytest
from guard_kit import World
from sdk_kit import MESSAGES, closing, loop
from sdk_replay_kit import Played, answered, arguments, place_of
from wire_kit import Exchange, exchanges

from budgetguard.testing import FakeProvider

anthropic = pytest.importorskip("anthropic")


def message(client: Any, row: Exchange) -> Any:
    """The recorded message; beta ones through the resource that sends them to `?beta=true`."""
    is_beta = "beta=true" in ((row["request"] or {}).get("path") or "")
    create = client.beta.messages.create if is_beta else client.messages.create
    return answered(create(**arguments(create, row, model=row["model"] or "acme-1", messages=MESSAGES, max_tokens=99)))


@pytest.mark.parametrize(
    ("kind", "http_kind", "step"),
    [(anthropic.Anthropic, httpx2.Client, 1), (anthropic.AsyncAnthropic, httpx2.AsyncClient, 5)],
    ids=["sync", "async"],
)
def test_what_the_sdk_returns_is_the_same_and_the_ledger_holds_the_truth(
    kind: Any, http_kind: Any, step: int, world: World
) -> None:
    rows = exchanges("messages")[::step]
    with FakeProvider.in_thread() as provider, closing(world.guard("1000000000 tokens/day")) as guard:
        original = kind(api_key="k", max_retries=0, timeout=20, http_client=http_kind(proxy=provider.url))
        wrapped = guard.wrap(original)
        played = Played(
            provider, world,
            lambda row: original.with_options(base_url=place_of(row, "/v1/messages").removesuffix("/v1")),
            lambda row: wrapped.with_options(base_url=place_of(row, "/v1/messages").removesuffix("/v1")),
        )  # fmt: skip
        played.play(rows, message)
        closed = original.close()
        if inspect.isawaitable(closed):
            loop().run(closed)
        assert world.reserved() == 0
    print(kind.__name__, dict(played.counts))
    assert played.counts["stated"] > len(rows) / 2
