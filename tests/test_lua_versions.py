"""The scripts under Lua 5.1, which Redis has, and 5.4, which others have: the same histories, the same answers.

Where `lua_kit`'s stand-in could be kinder than Redis, a real Redis is asked the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lua_kit import VERSIONS, LuaServer
from lua_raw import seed_of
from lua_text import VERBS, lua_files, words_of
from machine_redis import RedisContender
from redis import Redis
from redis_kit import RedisServer, key_prefix
from store_kit import HOUR_MS, NOON_MS, amounts, ask_one, expire, extend, grow, plan, release, reserve, settle
from test_machine_store import REACHABLE, Histories, run, words

from budgetguard.core.amounts import MAX_AMOUNT, Amounts
from budgetguard.core.model import Plan
from budgetguard.stores.redis import RedisStore
from budgetguard.stores.redis.outbox import row_from
from budgetguard.stores.redis.plans import unpack_all
from budgetguard.stores.redis.reading import balance_from
from budgetguard.testing.clock import FakeClock

EDGES = (0, 1, 2**31, 2**32, 10**15, 10**15 + 1, MAX_AMOUNT // 2, MAX_AMOUNT - 1, MAX_AMOUNT)
RARE = {"reserve no_memory", "reserve outbox_full", "grow no_memory", "grow clock"}
"""What needs a memory or an outbox that is full, and what histories seldom come to."""


class LuaHistories(Histories):
    """The histories of all stores, with the two Luas as contenders."""


@pytest.fixture(params=VERSIONS)
def lua_server(request: pytest.FixtureRequest) -> Iterator[LuaServer]:
    """A server whose scripts run under one version, in the last microsecond of a millisecond."""
    with LuaServer(request.param, NOON_MS * 1000 + 999) as server:
        yield server


def test_each_lua_decides_as_the_oracle_does(request: pytest.FixtureRequest) -> None:
    with contextlib.ExitStack() as servers:
        luas = [servers.enter_context(LuaServer(version)) for version in VERSIONS]
        LuaHistories.makers = [partial(contender, lua) for lua in luas]
        run(5_000, 2, request, None, LuaHistories)
        assert [lua.version for lua in luas if lua.scripts_run < 1_000] == []
    told = {f"{verb} {word}" for verb in VERBS for word in words_of(lua_files()[verb])}
    assert set(words) <= told


def contender(lua: LuaServer, folder: Path, clock: FakeClock, _: Any) -> RedisContender:
    """One of the stores of a history."""
    return RedisContender(folder, clock, lua)  # type: ignore[arg-type]


def test_headers_promise_no_word_that_histories_do_not_come_to() -> None:
    told = {f"{verb} {word}" for verb in VERBS for word in words_of(lua_files()[verb])}
    assert told - RARE == (REACHABLE | {"announce yes", "announce no"}) - RARE


def test_the_time_is_the_servers_in_whole_milliseconds(lua_server: LuaServer) -> None:
    async def run() -> list[Any]:
        store = RedisStore(lua_server.url, "n")
        opened_ms = await store.open()
        granted = await ask_one(store, reserve("a", plan("5 requests/minute"), amounts(0)))
        await store.aclose()
        return [opened_ms, granted.now_ms, granted.word]

    assert asyncio.run(run()) == [NOON_MS, NOON_MS, "granted"]


def test_a_clock_of_the_callers_is_refused_where_the_servers_was_in_use(lua_server: LuaServer) -> None:
    async def run() -> None:
        for clock in (None, FakeClock(NOON_MS)):
            store = RedisStore(lua_server.url, "n", clock=clock)
            try:
                await store.open()
            finally:
                await store.aclose()

    with pytest.raises(Exception, match="the server's clock"):
        asyncio.run(run())


def test_the_largest_numbers_come_out_alike_from_redis_and_from_each_lua(
    redis_server: RedisServer, namespace: str, request: pytest.FixtureRequest
) -> None:
    """Answers, accounts, reservations and rows: a number that becomes a text or a float somewhere would differ."""
    seed = seed_of(request)
    with contextlib.ExitStack() as servers:
        luas = [servers.enter_context(LuaServer(version)) for version in VERSIONS]
        first, *others = [told_by(server, namespace, random.Random(seed)) for server in (redis_server, *luas)]
        assert others == [first] * len(luas)
    assert {"granted", "refused", "settled", "late", "expired"} <= {answer.word for answer in first[0]}
    assert max(row.usage.cost_nanousd for row in first[2]) == MAX_AMOUNT


def told_by(server: RedisServer | LuaServer, namespace: str, dice: random.Random) -> tuple[list[Any], Any, list[Any]]:
    """What a store there answers to operations on large amounts, what then stands under its keys, and the rows."""
    clock = FakeClock(NOON_MS)
    limits = [f"{MAX_AMOUNT} tokens/hour", "$9007199.254740991/total", f"{MAX_AMOUNT - 1} input_tokens/rolling 1 hour"]
    of = plan(*limits, alert_levels=(1, MAX_AMOUNT))

    async def run() -> list[Any]:
        store = RedisStore(server.unix_url, namespace, clock=clock)
        answers = []
        for number in range(60):
            for op in operations(of, number, dice):
                answers.append(await ask_one(store, op))
            clock.advance(dice.choice((0, 1, 59_999, HOUR_MS // 7)))
        await store.aclose()
        return answers

    answers = asyncio.run(run())
    prefix = key_prefix(namespace)
    with Redis(unix_socket_path=str(server.socket_path), protocol=2) as look:
        values = {key: unpack_all(look.get(key)) for key in look.keys(f"{prefix}h:*")}
        accounts = {key: balance_from(look.get(key)) for key in look.keys(f"{prefix}a:*")}
        words = look.hgetall(f"{prefix}index")
        rows = [row_from(fields[b"row"], words) for _, fields in look.xrange(f"{prefix}outbox", "-", "+")]
        last_ms = look.hget(f"{prefix}meta", "last_ms")
    return answers, (values, accounts, last_ms), rows


def operations(of: Plan, number: int, dice: random.Random) -> Iterator[Any]:
    """One call with amounts at the edges, and how it may end; the first ones leave room for the next."""
    edges = EDGES[:3] if number < 9 else EDGES
    first, then, last = (Amounts(*(dice.choice(edges) for _ in range(6))) for _ in range(3))
    # What counts in a rolling period are sums over slots; beyond 2^53 Lua 5.1 tells them rounded.
    first, then, last = (told._replace(input_tokens=told.input_tokens // 256) for told in (first, then, last))
    id, expires = f"r{number}", number % 3 == 2
    yield reserve(id, of, first, tried_since_ms=NOON_MS * 2, lease_ms=0 if expires else 60_000)
    yield grow(id, of, then)
    yield extend(id, 0 if expires else dice.choice((0, 60_000, 2**40)))
    settled = settle(id, of, last, first, tried_since_ms=NOON_MS * 2)
    yield (settled, release(id), expire(id))[number % 3]
    yield settled
