"""A namespace as a whole: whether there is one, and letting one go that nobody will ask again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from budgetguard.errors import StoreUnusable
from budgetguard.stores.redis.address import parse_address
from budgetguard.stores.redis.keys import Keys
from budgetguard.stores.redis.server import Server

LAPSE_MS = 86_400_000
PAGE = 500


async def namespace_exists(url: str, namespace: str, timeout_ms: int, allow_eviction: bool) -> bool:
    """Whether it has been opened, and its state stands.

    Raises:
        ConfigError: the URL is of no Redis.
        StoreAway, StoreUnusable: it is not known, or it could not be opened.
    """
    keys = Keys(namespace)
    async with _server(url, keys, timeout_ms, allow_eviction) as server:
        (found,) = _answers(await server.ask([("EXISTS", keys.meta)]))
        return bool(found)


async def let_lapse(url: str, namespace: str, timeout_ms: int) -> None:
    """Let its state, its accounts and its open reservations end within a day, whatever their TTLs are.

    Raises:
        ConfigError: the URL is of no Redis.
        StoreAway, StoreUnusable: some keys may stay.
    """
    keys = Keys(namespace)
    async with _server(url, keys, timeout_ms, allow_eviction=True) as server:
        (ids,) = _answers(await server.ask([("ZRANGEBYSCORE", keys.open, "-inf", "+inf")]))
        (sets,) = _answers(await server.ask([("ZRANGEBYSCORE", keys.outputs, "-inf", "+inf")]))
        ending = [keys.meta, keys.open, keys.index, keys.outbox, keys.outputs, *map(keys.output, sets)]
        ending += [keys.hold(id.decode()) for id in ids]
        cursor = b""
        while cursor != b"0":
            ((cursor, entries),) = _answers(await server.ask([("HSCAN", keys.index, cursor or b"0", "COUNT", PAGE)]))
            ending += map(keys.account, entries[::2])
            _answers(await server.ask([("PEXPIRE", key, LAPSE_MS) for key in ending]))
            ending = []


@asynccontextmanager
async def _server(url: str, keys: Keys, timeout_ms: int, allow_eviction: bool) -> AsyncIterator[Server]:
    server = Server(parse_address(url), timeout_ms, slot_key=keys.meta, allow_eviction=allow_eviction)
    try:
        yield server
    finally:
        await server.aclose()


def _answers(replies: Sequence[Any]) -> Sequence[Any]:
    for reply in replies:
        if isinstance(reply, Exception):
            raise StoreUnusable(f"the namespace cannot be used: {reply}")
    return replies
