"""What the tests of a Redis connection share: one that ends with the test, scripts to ask, and ends that are timed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest
from fault_kit import PASS, Fault, Request

from budgetguard.errors import StoreError, StoreUnusable
from budgetguard.stores.redis.address import parse_address
from budgetguard.stores.redis.server import Server
from budgetguard.stores.redis.wire import Command

SHORT_MS, LONG_MS = 250, 20_000
SLACK_S, TICK_S = 0.25, 0.01
"""The first: how late an end may be beyond what held up this process; a try without its deadline would be later."""
ECHO = "return ARGV[1]"


@contextlib.asynccontextmanager
async def connected(url: str, timeout_ms: int = 5_000, **settings: Any) -> AsyncIterator[Server]:
    """A server, closed at the end."""
    server = Server(parse_address(url), timeout_ms, **settings)
    try:
        yield server
    finally:
        await server.aclose()


def echo(text: str) -> tuple[str, str, int, str]:
    """A script that answers this."""
    return ("EVAL", ECHO, 0, text)


@contextlib.contextmanager
def stalls() -> Iterator[Callable[[], float]]:
    """Tells for how many seconds a busy machine has held up this event loop, by a clock that should tick in it."""
    loop, late_s = asyncio.get_running_loop(), 0.0

    def tick(due_s: float) -> None:
        nonlocal late_s, timer
        late_s += loop.time() - due_s
        timer = loop.call_later(TICK_S, tick, loop.time() + TICK_S)

    timer = loop.call_later(TICK_S, tick, loop.time() + TICK_S)
    yield lambda: late_s
    timer.cancel()


async def ends_in_time(asking: Coroutine[Any, Any, Any], timeout_ms: int) -> StoreError:
    """The error with which it ends, by its deadline."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    with stalls() as stalled_s, pytest.raises(StoreError) as caught:
        await asking
    assert loop.time() - began < timeout_ms / 1000 + SLACK_S + stalled_s()
    return caught.value


async def told_unusable(ask: Callable[[int], Coroutine[Any, Any, Any]]) -> StoreUnusable:
    """The error that says what must be mended, from whoever asks with that timeout.

    Most are told at the deadline; with the long one where a busy machine has heard nothing by the short one.
    """
    for timeout_ms in (SHORT_MS, LONG_MS):
        with pytest.raises(StoreError) as caught:
            await ask(timeout_ms)
        if isinstance(caught.value, StoreUnusable):
            return caught.value
    raise caught.value


async def unusable(url: str, *commands: Command) -> StoreUnusable:
    """The same of one server that is asked these, or an echo; each time it ends in time."""

    async def asked(timeout_ms: int) -> None:
        async with connected(url, timeout_ms) as server:
            raise await ends_in_time(server.ask(commands or [echo("x")]), timeout_ms)

    return await told_unusable(asked)


async def partly_unusable(url: str, *commands: Command) -> list[Any]:
    """The replies, of which one says what must be mended."""
    replies: list[Any] = []
    for timeout_ms in (SHORT_MS, LONG_MS):
        if not any(isinstance(reply, StoreUnusable) for reply in replies):
            async with connected(url, timeout_ms) as server:
                replies = await server.ask(commands)
    return replies


def always(fault: Fault, when: Callable[[Request], bool]) -> Callable[[Request], Fault]:
    """This fault for each such request."""
    return lambda request: fault if when(request) else PASS


def says(text: bytes) -> Callable[[Request], bool]:
    """Whether it is the request that has this for its last argument."""
    return lambda request: request.arguments[-1:] == (text,)
