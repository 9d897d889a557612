"""A connection over a bad network: what was lost is asked for again, and the deadline is kept whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Iterator

import pytest
from cancel_kit import Ran, StrikingLoop, run_struck
from fault_kit import BLACK_HOLE, CUT_AFTER, CUT_BEFORE, CUT_MIDDLE, DRIBBLE, LOSE_REPLY, Fault, Gate, Once, answered
from redis_ask_kit import SHORT_MS, always, connected, echo, ends_in_time, says
from redis_kit import RedisServer
from redis_proxy import Proxy

from budgetguard.errors import StoreAway


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    with Proxy(redis_server) as made:
        yield made


@pytest.fixture(scope="module")
def tls_server() -> Iterator[RedisServer]:
    with RedisServer(tls=True) as made:
        yield made


@pytest.mark.parametrize("fault", [LOSE_REPLY, CUT_AFTER, CUT_BEFORE, CUT_MIDDLE, BLACK_HOLE, DRIBBLE])
@pytest.mark.parametrize("which", [b"first", b"second"])
def test_a_lost_reply_is_asked_for_again(proxy: Proxy, fault: Fault, which: bytes) -> None:
    async def run() -> None:
        async with connected(proxy.url, 1_000) as server:
            proxy.faults = Once(fault, when=says(which))
            assert await server.ask([echo("first"), echo("second")]) == [b"first", b"second"]
            assert await server.ask([echo("third")]) == [b"third"]

    asyncio.run(run())


@pytest.mark.parametrize("fault", [LOSE_REPLY, CUT_AFTER, CUT_BEFORE, CUT_MIDDLE, BLACK_HOLE])
@pytest.mark.parametrize("name", ["INFO", "EVAL"])
def test_a_network_that_stays_broken_ends_by_the_deadline(proxy: Proxy, fault: Fault, name: str) -> None:
    proxy.faults = always(fault, lambda request: request.name == name)

    async def run() -> None:
        async with connected(proxy.url, SHORT_MS) as server:
            error = await ends_in_time(server.ask([echo("x")]), SHORT_MS)
            assert isinstance(error, StoreAway)
            assert str(proxy.port) in str(error)

    asyncio.run(run())


def test_what_was_perhaps_applied_is_never_called_unusable(proxy: Proxy) -> None:
    """A full memory at the deadline says that this try was not applied; an earlier one may have been."""
    first = Once(LOSE_REPLY)
    proxy.faults = lambda request: first(request) if not first.hits else always(answered("-OOM x"), says(b"x"))(request)

    async def run() -> None:
        async with connected(proxy.url, SHORT_MS) as server:
            error = await ends_in_time(server.ask([echo("x")]), SHORT_MS)
            assert isinstance(error, StoreAway)
            assert "raise maxmemory" in str(error)

    asyncio.run(run())


@pytest.mark.parametrize("accepts", [True, False])
def test_a_server_that_says_nothing_or_does_not_even_connect_ends_by_the_deadline(accepts: bool) -> None:
    with contextlib.ExitStack() as open_sockets:
        door = open_sockets.enter_context(socket.socket())
        door.bind(("127.0.0.1", 0))
        door.listen(0)
        for _ in range(0 if accepts else 2):  # the kernel's queue is full: nobody else gets an answer
            waiting = open_sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(door.getsockname())

        async def run() -> None:
            async with connected(f"redis://127.0.0.1:{door.getsockname()[1]}", SHORT_MS) as server:
                assert isinstance(await ends_in_time(server.ask([echo("x")]), SHORT_MS), StoreAway)

        asyncio.run(run())


def test_a_reply_without_an_end_ends_by_the_deadline() -> None:
    ended: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.append(asyncio.current_task())
        with contextlib.suppress(OSError):
            writer.write(b"$1000000000\r\n")
            while not reader.at_eof():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0)
        writer.close()

    async def run() -> None:
        listening = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with (
            listening,
            connected(f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}", SHORT_MS) as server,
        ):
            assert isinstance(await ends_in_time(server.ask([echo("x")]), SHORT_MS), StoreAway)
            await asyncio.wait(ended)

    asyncio.run(run())


def test_a_refused_connection_is_tried_until_the_server_is_there(proxy: Proxy) -> None:
    async def run() -> None:
        async with connected(proxy.url) as server:
            await server.ask([echo("x")])
            proxy.shut_door()
            asking = asyncio.create_task(server.ask([echo("x")]))
            error = await ends_in_time(server.ask([echo("y")], asyncio.get_running_loop().time() + 0.1), 100)
            assert "Connect call failed" in str(error)
            proxy.open_door()
            assert await asking == [b"x"]

    asyncio.run(run())


def test_a_cancelled_callers_reply_is_never_anothers(proxy: Proxy) -> None:
    gate = Gate()
    proxy.faults = Once(Fault(hold=gate), when=says(b"cancelled"))

    async def run() -> None:
        async with connected(proxy.url) as server:
            asking = asyncio.create_task(server.ask([echo("cancelled")]))
            await asyncio.to_thread(gate.reached.wait, 10)
            waiting = asyncio.create_task(server.ask([echo("next")]))
            await asyncio.sleep(0)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            gate.open()
            assert await waiting == [b"next"]
            assert proxy.requests[-1].connection == 2

    asyncio.run(run())


def test_a_reply_that_nobody_asked_for_is_nobodys_answer(proxy: Proxy) -> None:
    proxy.faults = Once(Fault(copies=0, answer=b"+one\r\n+two\r\n+th"), when=says(b"twice"))

    async def run() -> None:
        async with connected(proxy.url) as server:
            assert await server.ask([echo("twice")]) == [b"one"]
            assert await server.ask([echo("x")]) == [b"x"]
            assert proxy.requests[-1].connection == 2

    asyncio.run(run())


@pytest.mark.parametrize("connects", [True, False])
@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix"])
def test_a_cancellation_at_any_step_leaves_nothing_behind(tls_server: RedisServer, scheme: str, connects: bool) -> None:
    """Whether it hits the connecting, the greeting or the round trip: the next caller has its own reply."""
    urls = {"redis": tls_server.url, "rediss": tls_server.tls_url, "unix": tls_server.unix_url}

    async def struck(at: int) -> Ran:
        async with connected(urls[scheme]) as server:
            if not connects:
                await server.ask([echo("before")])
            ran = await run_struck(server.ask([echo("struck")]), frozenset({at}), False)
            assert await asyncio.gather(server.ask([echo("x")]), server.ask([echo("y")])) == [[b"x"], [b"y"]]
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return ran

    with asyncio.Runner(loop_factory=StrikingLoop) as runner:
        for at in itertools.count(1):
            ran = runner.run(struck(at))
            if not ran.struck:
                break
            assert isinstance(ran.error, asyncio.CancelledError)
        assert at > 2
