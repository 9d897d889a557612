"""`refuse_websockets(guard)`: what opens websockets on an API key alone, past every client, reaches no provider."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from guard_kit import World
from replay_kit import Replay, json_reply
from sdk_kit import closing, loop

import budgetguard as bg
from budgetguard.integrations.websockets import refuse_websockets

websockets = pytest.importorskip("websockets.asyncio.client", reason="websockets is not installed")
sync = pytest.importorskip("websockets.sync.client", reason="websockets is not installed")
protocol = pytest.importorskip("websockets.client", reason="websockets is not installed")
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    legacy = pytest.importorskip("websockets.legacy.client", reason="this websockets has no old clients")


@pytest.fixture(autouse=True)
def _as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is replaced is put back."""
    for kind in (websockets.connect, protocol.ClientProtocol, legacy.Connect):
        monkeypatch.setattr(kind, "__init__", kind.__init__)


@pytest.fixture
def server() -> Iterator[Replay]:
    with Replay(json_reply({}, 403)) as found:
        yield found


def declared(server: Replay) -> list[bg.Host]:
    return [bg.Host(server.host, provider="acme", api="openai")]


async def opened(url: str) -> None:
    async with websockets.connect(url):
        raise AssertionError("no such server")


async def realtime(url: str) -> None:
    """A session of the Agents SDK's, which knows an API key and nothing else."""
    sdk = pytest.importorskip("agents.realtime.openai_realtime", reason="openai-agents is not installed")
    await sdk.OpenAIRealtimeWebSocketModel().connect({"api_key": "k", "url": url, "initial_model_settings": {}})


def opened_sync(url: str) -> None:
    with sync.connect(url):
        raise AssertionError("no such server")


async def opened_as_of_old(url: str) -> None:
    async with legacy.connect(url):
        raise AssertionError("no such server")


OPENERS = {
    "async": opened,
    "legacy": opened_as_of_old,
    "agents realtime": realtime,
    "sync": lambda url: asyncio.to_thread(opened_sync, url),
}


@pytest.mark.parametrize("opener", OPENERS.values(), ids=OPENERS)
def test_none_reaches_a_provider_that_is_declared(opener: Any, server: Replay, world: World) -> None:
    with closing(world.guard("9k tokens/day", hosts=declared(server))) as guard:
        refuse_websockets(guard)
        with pytest.raises(bg.UnguardedApi, match="past the guard"):
            loop().run(opener(f"ws://{server.host}/v1/realtime"))
    assert server.asked == []


def test_none_reaches_a_provider_that_is_known(world: World) -> None:
    with closing(world.guard("9k tokens/day")) as guard:
        refuse_websockets(guard)
        for host in ("api.openai.com", "generativelanguage.googleapis.com", "user:secret@eu.api.openai.com:443"):
            with pytest.raises(bg.UnguardedApi) as info:
                loop().run(opened(f"wss://{host}/v1/realtime"))
            assert "secret" not in str(info.value)


def test_others_pass_and_all_of_them_where_nothing_is_refused(server: Replay, world: World) -> None:
    with closing(world.guard("9k tokens/day")) as guard:
        refuse_websockets(guard)
        with pytest.raises(Exception, match="403"):
            loop().run(opened(f"ws://{server.host}/socket"))
    with closing(world.guard("9k tokens/day", hosts=declared(server), mode="shadow")) as guard:
        refuse_websockets(guard)
        with pytest.raises(Exception, match="403"):
            loop().run(opened(f"ws://{server.host}/v1/realtime"))
    assert len(server.asked) == 2
