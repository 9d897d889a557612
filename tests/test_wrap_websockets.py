"""What would go past the guarded HTTP client raises UnguardedApi on a wrapped client, wherever the SDK has it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from functools import cache, cached_property
from typing import Any

import pytest
from guard_kit import World
from sdk_kit import closing, openai

import budgetguard as bg
from budgetguard.events import Refused

KINDS = [openai.OpenAI, openai.AsyncOpenAI, openai.AzureOpenAI, openai.AsyncAzureOpenAI]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def made(kind: Any) -> Any:
    place = {"azure_endpoint": "http://127.0.0.1:9", "api_version": "1"} if "Azure" in kind.__name__ else {}
    return kind(api_key="k", http_client=openai.DefaultHttpxClient() if "Async" not in kind.__name__ else None, **place)


@cache
def connecting_classes() -> frozenset[str]:
    """The classes of the SDK's resources that have a method called `connect`, found in every module of them."""
    package = importlib.import_module("openai.resources")
    names = [module.name for module in pkgutil.walk_packages(package.__path__, "openai.resources.")]
    found = set()
    for module in map(importlib.import_module, names):
        for name, kind in inspect.getmembers(module, inspect.isclass):
            if kind.__module__ == module.__name__ and inspect.isfunction(getattr(kind, "connect", None)):
                found.add(name)
    return frozenset(found)


def resources(found: Any, path: str = "client", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every resource that a client leads to, with its path; the raw and streaming views of them, too."""
    yield path, found
    if depth < 5:
        for name in sorted({name for base in type(found).__mro__ for name in vars(base)}):
            is_part = any(isinstance(vars(base).get(name), cached_property) for base in type(found).__mro__)
            if is_part and not (name.startswith("with_") and depth > 1):
                yield from resources(getattr(found, name), f"{path}.{name}", depth + 1)


@each_kind
def test_every_connect_of_the_installed_sdk_raises(kind: Any, world: World) -> None:
    with closing(world.guard("9k tokens/day")) as guard:
        original = made(kind)
        before = {path for path, found in resources(original) if hasattr(found, "connect")}
        client = guard.wrap(original, team="search")
        reached = {path: found for path, found in resources(client) if hasattr(found, "connect")}
        assert reached.keys() == before
        classes = {base.__name__ for found in reached.values() for base in type(found).__mro__}
        mine = {name for name in connecting_classes() if name.startswith("Async") == kind.__name__.startswith("Async")}
        assert mine and mine <= classes, "the walk reaches all that there are"
        for found in reached.values():
            with pytest.raises(bg.UnguardedApi, match="not wrapped") as info:
                found.connect(model="gpt-realtime")
            assert isinstance(info.value, openai.OpenAIError)
        told = [(event.cause, event.subject) for event in world.heard.of(Refused)]
        assert told == [("UnguardedApi", {"team": "search"})] * len(reached)
        assert all("connect" not in vars(found) for _, found in resources(original)), "the one given keeps its own"
        assert not world.path.exists(), "nothing was asked of the store"


@each_kind
def test_so_do_those_of_clients_made_from_a_wrapped_one(kind: Any, world: World) -> None:
    with closing(world.guard("9k tokens/day")) as guard:
        client = guard.wrap(made(kind)).with_options(timeout=3)
        assert isinstance(client, kind) and isinstance(client.with_options(timeout=4), kind)
        for found in (client.responses, client.realtime, client.with_options(timeout=4).beta.responses):
            with pytest.raises(bg.UnguardedApi):
                found.connect()


@each_kind
def test_the_resources_of_a_wrapped_client_are_what_they_were_otherwise(kind: Any, world: World) -> None:
    with closing(world.guard("9k tokens/day")) as guard:
        original = made(kind)
        client = guard.wrap(original)
        for name in ("chat", "responses", "embeddings", "realtime"):
            assert isinstance(getattr(client, name), type(getattr(original, name)))
            assert getattr(client, name) is getattr(client, name)
        client.chat = replaced = object()
        assert client.chat is replaced, "tests put their own in the place of a resource"


@pytest.mark.parametrize("mode", ["off", "shadow"])
def test_a_guard_that_refuses_nothing_lets_them_be_opened(mode: Any, world: World) -> None:
    with closing(world.guard("9k tokens/day", mode=mode)) as guard:
        client = guard.wrap(made(openai.OpenAI))
        assert type(client.realtime.connect(model="gpt-realtime")).__name__ == "RealtimeConnectionManager"


@each_kind
def test_nor_is_the_address_told_to_who_would_open_one_for_the_client(kind: Any, world: World) -> None:
    """The Agents SDK's websocket models ask for it first."""
    address = "wss://llm.example/v1"
    with closing(world.guard("9k tokens/day")) as guard:
        client = guard.wrap(made(kind).with_options(websocket_base_url=address))
        for found in (client, client.with_options(timeout=3), client.copy(max_retries=0)):
            with pytest.raises(bg.UnguardedApi, match="not wrapped"):
                getattr(found, "websocket_base_url")  # noqa: B009 - whether it is told
    with closing(world.guard("9k tokens/day", mode="shadow")) as guard:
        assert guard.wrap(made(kind).with_options(websocket_base_url=address)).copy().websocket_base_url == address
