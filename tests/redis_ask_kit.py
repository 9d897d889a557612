"""What the tests of a Redis connection share: one that ends with the test, scripts to ask, and ends that are timed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from fault_kit import PASS, Fault, Request

from budgetguard.errors import StoreError
from budgetguard.stores.redis.address import parse_address
from budgetguard.stores.redis.server import Server

SHORT_MS = 500
SLACK_S = 0.25
"""How late a busy machine may be; a try that did not heed its deadline would be later."""
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


async def ends_in_time(asking: Coroutine[Any, Any, Any], timeout_ms: int) -> StoreError:
    """The error with which it ends, by its deadline."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(StoreError) as caught:
        await asking
    assert loop.time() - began < timeout_ms / 1000 + SLACK_S
    return caught.value


def always(fault: Fault, when: Callable[[Request], bool]) -> Callable[[Request], Fault]:
    """This fault for each such request."""
    return lambda request: fault if when(request) else PASS


def says(text: bytes) -> Callable[[Request], bool]:
    """Whether it is the request that has this for its last argument."""
    return lambda request: request.arguments[-1:] == (text,)
