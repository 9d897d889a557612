"""What is asked of a Redis: every command is answered, repeated until it is, or its end told by the deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from fault_kit import ERROR_LINES, PASS, Fault, Gate, Once, answered
from redis_ask_kit import SHORT_MS, always, connected, echo, ends_in_time, partly_unusable, says
from redis_kit import RedisServer
from redis_proxy import Proxy

from budgetguard.errors import StoreAway, StoreError, StoreUnusable
from budgetguard.stores.redis.errors import ReplyError

MENDED_BY_SOMEBODY = {"OOM", "NOAUTH", "NOPERM", "MOVED"}


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    with Proxy(redis_server) as made:
        yield made


def test_replies_come_in_order_and_an_error_reply_is_a_value(redis_server: RedisServer) -> None:
    async def run(url: str) -> None:
        async with connected(url) as server:
            key = "bg:{order}:x"
            replies = await server.ask([("DEL", key), ("SET", key, b"\xff\x00"), ("GET", key), ("HSET", key, 1, 1)])
            assert replies[1:3] == [b"OK", b"\xff\x00"]
            assert isinstance(replies[3], ReplyError)
            assert replies[3].code == "WRONGTYPE"
            nested = "return {1, {'a', redis.error_reply('ERR b')}, false}"
            assert str(await server.ask([("EVAL", nested, 0)])) == "[[1, [b'a', ReplyError('ERR b')], None]]"
            assert await server.ask([]) == []
            await server.ask([("DEL", key)])

    asyncio.run(run(redis_server.url))
    asyncio.run(run(redis_server.unix_url))


def test_noscript_and_a_scripts_own_error_are_answers(redis_server: RedisServer) -> None:
    async def run() -> None:
        async with connected(redis_server.url) as server:
            replies = await server.ask([("EVALSHA", "f" * 40, 0), ("EVAL", "error('READONLY x')", 0), echo("after")])
            assert [getattr(reply, "code", reply) for reply in replies] == ["NOSCRIPT", "ERR", b"after"]

    asyncio.run(run())


@pytest.mark.parametrize("code", [code for code in ERROR_LINES if code not in ("NOSCRIPT", "CROSSSLOT")])
def test_what_was_refused_for_now_is_asked_again_and_what_was_answered_is_not(proxy: Proxy, code: str) -> None:
    async def run() -> None:
        async with connected(proxy.url) as server:
            await server.ask([echo("x")])
            proxy.faults = Once(answered(ERROR_LINES[code]), when=says(b"second"))
            asked = len(proxy.requests)
            assert await server.ask([echo("first"), echo("second")]) == [b"first", b"second"]
            scripts = [request.arguments[-1] for request in proxy.requests[asked:] if request.name == "EVAL"]
            assert scripts == [b"first", b"second", b"second"]

    asyncio.run(run())


def test_what_is_refused_until_the_deadline_ends_there_as_its_cause_demands(proxy: Proxy) -> None:
    proxy.faults = lambda request: (
        answered(ERROR_LINES[request.arguments[-1].decode()]) if request.name == "EVAL" else PASS
    )

    async def end(code: str) -> StoreError:
        async with connected(proxy.url, 1_000) as server:
            return await ends_in_time(server.ask([echo(code)]), 1_000)

    async def run() -> None:
        codes = [code for code in ERROR_LINES if code not in ("NOSCRIPT", "CROSSSLOT")]
        ends = dict(zip(codes, await asyncio.gather(*map(end, codes)), strict=True))
        kinds = {code: StoreUnusable if code in MENDED_BY_SOMEBODY else StoreAway for code in codes}
        assert {code: type(error) for code, error in ends.items()} == kinds
        assert "raise maxmemory" in str(ends["OOM"])
        assert "'evalsha' command" in str(ends["NOPERM"])
        assert "README" in str(ends["NOPERM"])
        assert "redis+cluster://" in str(ends["MOVED"])
        assert "max number of clients" in str(ends["MAXCLIENTS"])
        assert all(str(proxy.port) in str(error) for error in ends.values())

    asyncio.run(run())


def test_keys_in_several_slots_are_a_bug_that_is_told_at_once(proxy: Proxy) -> None:
    proxy.faults = always(answered(ERROR_LINES["CROSSSLOT"]), says(b"x"))

    async def run() -> None:
        async with connected(proxy.url, 60_000) as server:
            error = await ends_in_time(server.ask([echo("x")]), 20_000)
            assert isinstance(error, StoreUnusable)
            assert "bug of budgetguard" in str(error)

    asyncio.run(run())


def test_where_one_command_was_answered_the_end_of_the_other_stands_in_its_place(proxy: Proxy) -> None:
    proxy.faults = always(answered(ERROR_LINES["OOM"]), says(b"x"))

    refused, answer = asyncio.run(partly_unusable(proxy.url, echo("x"), echo("y")))
    assert answer == b"y"
    assert isinstance(refused, StoreUnusable)


def test_callers_are_served_in_the_order_in_which_they_came(proxy: Proxy) -> None:
    async def run() -> None:
        async with connected(proxy.url) as server:
            texts = [str(number) for number in range(50)]
            asked = await asyncio.gather(*(server.ask([echo(text)]) for text in texts))
            assert asked == [[text.encode()] for text in texts]
            assert [r.arguments[-1].decode() for r in proxy.requests if r.name == "EVAL"] == texts
            assert {request.connection for request in proxy.requests} == {1}

    asyncio.run(run())


def test_who_meets_errors_does_not_hold_up_the_others(proxy: Proxy) -> None:
    proxy.faults = always(answered(ERROR_LINES["OOM"]), says(b"full"))

    async def run() -> None:
        async with connected(proxy.url) as server:
            full = asyncio.create_task(server.ask([echo("full")]))
            await asyncio.sleep(0)
            for _ in range(20):
                assert await server.ask([echo("x")]) == [b"x"]
            assert not full.done()
            assert sum(map(says(b"full"), proxy.requests)) < 10
            full.cancel()
            await asyncio.wait([full])

    asyncio.run(run())


def test_a_turn_that_does_not_come_in_time_is_given_up(proxy: Proxy) -> None:
    gate = Gate()
    proxy.faults = always(Fault(hold=gate), says(b"slow"))

    async def run() -> None:
        async with connected(proxy.url) as server:
            slow = asyncio.create_task(server.ask([echo("slow")]))
            await asyncio.to_thread(gate.reached.wait, 10)
            deadline = asyncio.get_running_loop().time() + SHORT_MS / 1000
            error = await ends_in_time(server.ask([echo("x")], deadline), SHORT_MS)
            assert isinstance(error, StoreAway)
            gate.open()
            assert await slow == [b"slow"]
            assert await server.ask([echo("x")]) == [b"x"]

    asyncio.run(run())


def test_who_comes_between_two_turns_keeps_its_deadline(proxy: Proxy) -> None:
    """The turn has been given back, and who waited for it has not taken it yet."""
    gate = Gate()
    proxy.faults = always(Fault(hold=gate), says(b"slow"))

    async def run() -> None:
        async with connected(proxy.url) as server:

            async def twice() -> StoreError:
                await server.ask([echo("first")])
                deadline = asyncio.get_running_loop().time() + SHORT_MS / 1000
                return await ends_in_time(server.ask([echo("second")], deadline), SHORT_MS)

            asking = asyncio.create_task(twice())
            await asyncio.sleep(0)
            slow = asyncio.create_task(server.ask([echo("slow")]))
            assert isinstance(await asking, StoreAway)
            gate.open()
            assert await slow == [b"slow"]

    asyncio.run(run())
