"""`guard.wrap`: a client of the same type and options, on the same connections; the one given stays as it is."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from guard_kit import World, until
from replay_kit import Replay, json_reply
from sdk_kit import Sdk, closing, each_sdk, four_sdks, ledger_rows, loop, openai

import budgetguard as bg

LIMIT = "9k tokens/day"


def wait_until(sdk: Sdk, condition: Callable[[], Any], what: str) -> None:
    """Wait for a condition; fail if it does not come."""
    if sdk.is_async:
        loop().run(until(condition, what))
    else:
        asyncio.run(until(condition, what))


def state(client: Any) -> dict[str, Any]:
    """What a client is made of."""
    return {**vars(client), "http": dict(vars(client._client))}


@each_sdk
def test_each_call_of_a_wrapped_client_is_reserved_and_settled_at_what_it_used(sdk: Sdk, world: World) -> None:
    with Replay(sdk.plain) as server, closing(world.guard(LIMIT)) as guard:
        client = guard.wrap(sdk.client(server.url), team="search")
        assert isinstance(client, sdk.kind)
        assert sdk.text(sdk.create(client)) == "Hello!"
        assert (world.spent(), world.reserved(), world.statuses()) == (600, 0, ["settled"])
        assert "canary-key" in str(server.asked[0].headers)
        sdk.close(client)


@each_sdk
def test_a_stream_is_settled_at_what_it_used(sdk: Sdk, world: World) -> None:
    with Replay(sdk.stream(5)) as server, closing(world.guard(LIMIT)) as guard:
        client = guard.wrap(sdk.client(server.url))
        assert len(sdk.create(client, stream=True)) >= 5
        assert (world.spent(), world.reserved(), world.statuses()) == (600, 0, ["settled"])
        sdk.close(client)


@each_sdk
def test_the_wrapped_client_has_the_options_of_the_one_given_which_is_not_changed(sdk: Sdk, world: World) -> None:
    options = {
        "timeout": 7.5, "max_retries": 5, "default_headers": {"x-team": "search"}, "default_query": {"trace": "1"},
    }  # fmt: skip
    with Replay(sdk.plain) as server, closing(world.guard(LIMIT)) as guard:
        original = sdk.client(server.url, **options)
        before = state(original)
        client = guard.wrap(original)
        for name in ("timeout", "max_retries", "_custom_headers", "default_query", "base_url", "api_key"):
            assert getattr(client, name) == getattr(original, name), name
        sdk.create(client)
        assert server.asked[0].headers["x-team"] == "search" and "trace=1" in server.asked[0].target
        assert "x-stainless-retry-count" in server.asked[0].headers
        assert {name: before[name] for name in before if name != "http"} == vars(original)
        assert original._client is not client._client
        assert (before["http"]["_transport"], before["http"]["_mounts"]) == (
            original._client._transport, original._client._mounts,
        )  # fmt: skip
        sdk.create(original)
        assert world.statuses() == ["settled"], "the one given is not guarded"
        sdk.close(original)


@four_sdks
def test_clients_made_from_a_wrapped_one_are_guarded(sdk: Sdk, world: World) -> None:
    with Replay(sdk.plain) as server, closing(world.guard(LIMIT)) as guard:
        client = guard.wrap(sdk.client(server.url), team="search").with_options(timeout=3).copy(max_retries=0)
        assert (client.timeout, client.max_retries) == (3, 0)
        sdk.create(client)
        assert (world.spent(), len(server.asked)) == (600, 1)
        sdk.close(client)


@each_sdk
def test_so_are_those_that_are_given_an_http_client_of_their_own(sdk: Sdk, world: World) -> None:
    kind: Any = httpx2.AsyncClient if sdk.is_async else httpx2.Client
    with Replay(sdk.plain) as server, closing(world.guard(LIMIT, labels=bg.LabelRules(required=["team"]))) as guard:
        wrapped = guard.wrap(sdk.client(server.url), team="search")
        client = wrapped.with_options(http_client=kind(headers={"x-own": "1"})).copy(max_retries=1)
        sdk.create(client)
        assert (world.spent(), server.asked[0].headers["x-own"], ledger_rows(world)[0]["team"]) == (600, "1", "search")
        assert client.copy(http_client=wrapped._client)._client is wrapped._client
        sdk.close(client)
        assert not wrapped.is_closed()
        sdk.close(wrapped)


@four_sdks
@pytest.mark.parametrize("mode", ["off", "shadow"])
def test_a_guard_that_refuses_nothing_lets_everything_through(sdk: Sdk, mode: Any, world: World) -> None:
    with Replay(sdk.plain) as server, closing(world.guard("1 tokens/day", mode=mode)) as guard:
        client = guard.wrap(sdk.client(server.url))
        assert sdk.text(sdk.create(client)) == "Hello!"
        assert sdk.run(client.post("/v1/audio/speech", body={}, cast_to=object))
        assert len(ledger_rows(world)) == (1 if mode == "shadow" else 0)
        sdk.close(client)


@four_sdks
def test_what_is_wrapped_already_is_refused_by_name(sdk: Sdk, world: World) -> None:
    with closing(world.guard(LIMIT)) as guard:
        client = sdk.client("http://127.0.0.1:9")
        with pytest.raises(TypeError, match="guarded already"):
            guard.wrap(guard.wrap(client))
        sdk.close(client)


def test_what_is_no_client_is_refused_by_name(world: World) -> None:
    with closing(world.guard(LIMIT)) as guard, openai.OpenAI(api_key="k") as client:
        with pytest.raises(TypeError, match="not a Chat"):
            guard.wrap(client.chat)
        with pytest.raises(TypeError, match=r"guard\.http_client"):
            guard.wrap(object())
        with pytest.raises(bg.InvalidLabel, match="teem"):
            guard.wrap(client, teem="search")


@four_sdks
def test_hooks_cookies_and_methods_of_the_users_own_http_client_stay(sdk: Sdk, world: World) -> None:
    seen: list[str] = []

    def hook(request: Any) -> None:
        seen.append(f"hook {request.method}")

    async def async_hook(request: Any) -> None:
        hook(request)

    base: Any = httpx2.AsyncClient if sdk.is_async else httpx2.Client

    class Own(base):
        def build_request(self, *args: Any, **options: Any) -> Any:
            seen.append("built")
            return super().build_request(*args, **options)

    own = Own(
        event_hooks={"request": [async_hook if sdk.is_async else hook]}, cookies={"route": "7"},
        default_encoding="latin-1", max_redirects=3,
    )  # fmt: skip
    with Replay(sdk.plain) as server, closing(world.guard(LIMIT)) as guard:
        client = guard.wrap(sdk.client(server.url, http_client=own))
        assert isinstance(client._client, Own)
        sdk.create(client)
        assert (seen, server.asked[0].headers["cookie"]) == (["built", "hook POST"], "route=7")
        sdk.close(client)
        assert own.is_closed


@four_sdks
@pytest.mark.parametrize("through", ["proxy", "mounts"])
def test_proxies_and_mounts_stay(sdk: Sdk, through: str, world: World) -> None:
    kind: Any = httpx2.AsyncClient if sdk.is_async else httpx2.Client
    transport: Any = httpx2.AsyncHTTPTransport if sdk.is_async else httpx2.HTTPTransport
    with Replay(sdk.plain) as server, closing(world.guard(LIMIT)) as guard:
        own = kind(proxy=server.url)
        if through == "mounts":
            own = kind(mounts={"http://llm.example": transport(proxy=server.url)})
        client = guard.wrap(sdk.client("http://llm.example", http_client=own))
        sdk.create(client)
        assert server.asked[0].target.startswith("http://llm.example/")
        assert world.spent() == 600
        sdk.close(client)


@four_sdks
def test_a_dropped_client_leaves_the_connections_to_the_other(sdk: Sdk, world: World) -> None:
    with Replay(sdk.plain) as server, closing(world.guard(LIMIT)) as guard:
        original = sdk.client(server.url)
        client = guard.wrap(original)
        sdk.create(client)
        del client
        settle(sdk)
        sdk.create(original)
        client = guard.wrap(original)
        del original
        settle(sdk)
        sdk.create(client)
        assert (server.accepted, server.open, world.spent()) == (1, 1, 1_200), "the same connection all the time"
        if sdk.is_async:  # asyncio complains of clients that nobody closes, guarded or not
            sdk.close(client)
        del client
        settle(sdk)
        wait_until(sdk, lambda: server.open == 0, "it is closed when nobody has it any more, as without a guard")


def settle(sdk: Sdk) -> None:
    """Collect what nobody has, and let the event loop do what that begins."""

    async def collect() -> None:
        gc.collect()
        await asyncio.sleep(0)

    if sdk.is_async:  # whose clients close themselves only where their loop runs
        loop().run(collect())
    else:
        gc.collect()


@four_sdks
@pytest.mark.parametrize("closed", ["original", "wrapped"])
def test_closing_either_client_closes_the_connections_that_they_share(sdk: Sdk, closed: str, world: World) -> None:
    with Replay(sdk.plain) as server, closing(world.guard(LIMIT)) as guard:
        original = sdk.client(server.url, max_retries=0)
        client = guard.wrap(original)
        sdk.create(client)
        first, second = (original, client) if closed == "original" else (client, original)
        entered(sdk, first)
        assert first.is_closed() and second.is_closed()
        wait_until(sdk, lambda: server.open == 0, "the connection is closed")
        with pytest.raises((RuntimeError, sdk.base)):
            sdk.create(client)
        assert (world.spent(), world.reserved(), len(server.asked)) == (600, 0, 1)


def entered(sdk: Sdk, client: Any) -> None:
    """Enter a client, and leave it."""

    async def enter() -> None:
        async with client as same:
            assert same is client

    if sdk.is_async:
        loop().run(enter())
    else:
        with client as same:
            assert same is client


@four_sdks
def test_what_the_sdk_sends_again_has_a_row_for_each_attempt_and_one_operation(sdk: Sdk, world: World) -> None:
    failed = json_reply({"error": {"message": "try later", "type": "server_error"}}, status=500)
    failed = failed._replace(headers={**failed.headers, "retry-after-ms": "1", "retry-after": "0.001"})
    with Replay(failed, failed, sdk.plain) as server, closing(world.guard(LIMIT)) as guard:
        client = guard.wrap(sdk.client(server.url, max_retries=4))
        assert sdk.text(sdk.create(client)) == "Hello!"
        rows = ledger_rows(world)
        assert sorted(row["status"] for row in rows) == ["assumed", "assumed", "settled"]
        assert [row["error_type"] for row in rows].count("http_500") == 2
        assert len({row["operation_id"] for row in rows}) == 1
        assert len({row["reservation_id"] for row in rows}) == len(server.asked) == 3
        sdk.close(client)
