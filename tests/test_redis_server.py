"""The connection to a Redis: every command is answered, repeated until it is, or its end told by the deadline."""

from __future__ import annotations

import asyncio

from redis_kit import RedisServer

from budgetguard.stores.redis.address import parse_address
from budgetguard.stores.redis.errors import ReplyError
from budgetguard.stores.redis.server import Server


def test_replies_come_in_order_and_an_error_reply_is_a_value(redis_server: RedisServer) -> None:
    async def run(url: str) -> None:
        server = Server(parse_address(url), 2000)
        key = "order"
        replies = await server.ask([("DEL", key), ("SET", key, b"\xff\x00"), ("GET", key), ("LPUSH", key, 1)])
        assert replies[1:3] == [b"OK", b"\xff\x00"]
        assert isinstance(replies[3], ReplyError)
        assert replies[3].code == "WRONGTYPE"
        await server.aclose()

    asyncio.run(run(redis_server.url))
    asyncio.run(run(redis_server.unix_url))
