"""The proxy before Redis does to one request what it is told to, and to no other."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from daemon_kit import wait_until
from fault_kit import (
    BLACK_HOLE,
    CUT_AFTER,
    CUT_BEFORE,
    CUT_MIDDLE,
    DRIBBLE,
    DUPLICATE,
    ERROR_LINES,
    LOSE_REPLY,
    Fault,
    Gate,
    Once,
    answered,
    swapped,
)
from redis_kit import RedisServer
from redis_proxy import Proxy
from resp_kit import read_reply

APPEND = "return redis.call('RPUSH', KEYS[1], ARGV[1])"


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    with Proxy(redis_server) as proxy:
        yield proxy


@pytest.fixture
def key(namespace: str, redis_server: RedisServer) -> Iterator[str]:
    """A list in which every script that is applied leaves its word."""
    yield f"proxied:{namespace}"
    redis_server.ask("DEL", f"proxied:{namespace}")


@contextlib.contextmanager
def client(proxy: Proxy, protocol: int = 3, timeout_s: float = 5) -> Iterator[redis.Redis]:
    """A client with one connection and no retries of its own."""
    with contextlib.closing(
        redis.Redis(
            port=proxy.port, protocol=protocol, retry=None, socket_timeout=timeout_s, single_connection_client=True
        )
    ) as link:
        yield link


def words(server: RedisServer, key: str) -> list[str]:
    """What was applied, in order."""
    return [word.decode() for word in server.ask("LRANGE", key, 0, -1)]


def append(link: redis.Redis, key: str, word: str) -> Any:
    return link.eval(APPEND, 1, key, word)


@pytest.mark.parametrize("protocol", [2, 3])
def test_every_kind_of_reply_comes_through_whole_even_byte_by_byte(proxy: Proxy, protocol: int) -> None:
    proxy.faults = lambda _: DRIBBLE
    with client(proxy, protocol) as link:
        assert link.ping() is True
        assert link.eval("return {1, 'a', {}, {false, 'b\\r\\n$1'}, ''}", 0) == [1, b"a", [], [None, b"b\r\n$1"], b""]
        assert link.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert link.get("nowhere") is None
        assert "redis_version" in link.info("server")
        with pytest.raises(redis.ResponseError, match="unknown command"):
            link.execute_command("NONSENSE")


def test_the_reader_of_replies_knows_where_each_of_the_protocol_ends() -> None:
    replies = [
        b"+OK\r\n", b"-ERR no\r\n", b":-1\r\n", b"$-1\r\n", b"$3\r\n\r\n1\r\n", b"*-1\r\n", b"*0\r\n", b"_\r\n",
        b"#t\r\n", b",1.5\r\n", b"(12345678901234567890\r\n", b"=7\r\ntxt:a\r\n\r\n", b"!5\r\nERR x\r\n",
        b"~2\r\n:1\r\n:2\r\n", b"%1\r\n+a\r\n*1\r\n:1\r\n", b">2\r\n+message\r\n+a\r\n", b"|1\r\n+ttl\r\n:1\r\n+OK\r\n",
    ]  # fmt: skip

    async def read() -> list[bytes]:
        reader = asyncio.StreamReader()
        reader.feed_data(b"".join(replies))
        return [await read_reply(reader) for _ in replies]

    assert asyncio.run(read()) == replies


@pytest.mark.parametrize(
    ("fault", "error", "applied"),
    [
        (CUT_BEFORE, redis.ConnectionError, []),
        (CUT_AFTER, redis.ConnectionError, ["a"]),
        (CUT_MIDDLE, redis.ConnectionError, ["a"]),
        (LOSE_REPLY, redis.TimeoutError, ["a"]),
        (BLACK_HOLE, redis.TimeoutError, []),
        (answered(ERROR_LINES["OOM"]), redis.exceptions.OutOfMemoryError, []),
    ],
)
def test_a_fault_hits_one_script_and_a_retry_passes(
    proxy: Proxy, redis_server: RedisServer, key: str, fault: Fault, error: type[Exception], applied: list[str]
) -> None:
    proxy.faults = once = Once(fault)
    with client(proxy, timeout_s=0.2) as link:
        with pytest.raises(error):
            append(link, key, "a")
        assert words(redis_server, key) == applied
        assert append(link, key, "b") == len(applied) + 1
    assert [request.arguments[-1] for request in once.hits] == [b"a"]


def test_a_duplicate_is_applied_twice_and_answered_once(proxy: Proxy, redis_server: RedisServer, key: str) -> None:
    proxy.faults = Once(DUPLICATE)
    with client(proxy) as link:
        assert append(link, key, "a") == 1
        assert append(link, key, "b") == 3
    assert words(redis_server, key) == ["a", "a", "b"]


def test_a_delayed_request_is_applied_after_its_client_has_gone(
    proxy: Proxy, redis_server: RedisServer, key: str
) -> None:
    gate = Gate()
    proxy.faults = Once(Fault(wait=gate))
    with client(proxy, timeout_s=0.1) as link:
        with pytest.raises(redis.TimeoutError):
            append(link, key, "delayed")
        append(link, key, "later")
    assert gate.reached.is_set()
    assert words(redis_server, key) == ["later"]
    gate.open()
    wait_until(lambda: words(redis_server, key) == ["later", "delayed"], "the delayed script")
    wait_until(lambda: proxy.connections == 0, "the connections to end")


def test_a_delayed_reply_comes_when_it_is_told(proxy: Proxy, redis_server: RedisServer, key: str) -> None:
    gate = Gate()
    proxy.faults = Once(Fault(hold=gate))
    with client(proxy) as link:
        answers: list[Any] = []
        asking = threading.Thread(target=lambda: answers.append(append(link, key, "a")))
        asking.start()
        assert gate.reached.wait(5)
        assert words(redis_server, key) == ["a"] and answers == []
        gate.open()
        asking.join(5)
    assert answers == [1]


def test_two_requests_of_two_connections_are_swapped(proxy: Proxy, redis_server: RedisServer, key: str) -> None:
    first, second = swapped()
    proxy.faults = once = Once(first, second)
    with client(proxy) as one, client(proxy) as other:
        asking = threading.Thread(target=append, args=(one, key, "first"))
        asking.start()
        wait_until(lambda: once.hits, "the first request")
        append(other, key, "second")
        asking.join(5)
    assert words(redis_server, key) == ["second", "first"]


def test_of_pipelined_requests_only_the_one_meant_is_hit(proxy: Proxy, redis_server: RedisServer, key: str) -> None:
    proxy.faults = Once(answered("-BUSY no"), when=lambda request: request.arguments[-1] == b"b")
    with socket.create_connection(("127.0.0.1", proxy.port)) as link:
        link.settimeout(5)
        link.sendall(b"".join(b"*3\r\n$5\r\nRPUSH\r\n$%d\r\n%s\r\n$1\r\n%s\r\n" % (len(key), key.encode(), word)
                              for word in (b"a", b"b", b"c")))  # fmt: skip
        answer = b""
        while answer.count(b"\r\n") < 3:
            answer += link.recv(100)
    assert answer == b":1\r\n-BUSY no\r\n:2\r\n"
    assert words(redis_server, key) == ["a", "c"]


def test_a_shut_door_cuts_refuses_and_opens_again_on_the_same_port(proxy: Proxy) -> None:
    with client(proxy) as link:
        assert link.ping()
        proxy.shut_door()
        for _ in range(2):
            with pytest.raises(redis.ConnectionError):
                link.ping()
        proxy.open_door()
        assert link.ping()


def test_a_server_that_dies_ends_its_clients_connections() -> None:
    with RedisServer() as server, Proxy(server) as proxy, client(proxy) as link:
        assert link.ping()
        server.kill()
        with pytest.raises(redis.ConnectionError):
            link.ping()
        wait_until(lambda: proxy.connections == 0, "the connections to end")
        server.start()
        assert link.ping()
