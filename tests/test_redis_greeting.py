"""The greeting of a connection, with real servers: logins, permissions, TLS, and servers that may not serve."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from daemon_kit import wait_until
from fault_kit import ERROR_LINES, Once, answered
from redis_ask_kit import SHORT_MS, connected, echo, ends_in_time, partly_unusable, stalls, unusable
from redis_kit import RedisServer, make_certificates
from redis_proxy import Proxy

from budgetguard.errors import StoreAway, StoreError, StoreUnusable
from budgetguard.stores.redis.errors import ReplyError

PASSWORD = "p@ss/w:rd"
SET = "return redis.call('SET', KEYS[1], 1)"


def asked(url: str, *commands: tuple[str | int, ...], timeout_ms: int = 5_000, allow_eviction: bool = False) -> list:
    """The replies of one server, asked once."""

    async def run() -> list:
        async with connected(url, timeout_ms, allow_eviction=allow_eviction) as server:
            return await server.ask(commands or [echo("PONG")])

    return asyncio.run(run())


def end_of(url: str, *commands: tuple[str | int, ...], timeout_ms: int = SHORT_MS) -> StoreError:
    """The error with which it ends, in time."""

    async def run() -> StoreError:
        async with connected(url, timeout_ms) as server:
            return await ends_in_time(server.ask(commands or [echo("PONG")]), timeout_ms)

    return asyncio.run(run())


def why_unusable(url: str, *commands: tuple[str | int, ...]) -> str:
    """What must be mended before it can be used."""
    return str(asyncio.run(unusable(url, *commands)))


@pytest.fixture(scope="module")
def locked() -> Iterator[RedisServer]:
    """One with a password, a TLS port and a user of few permissions, who may not say which library it is."""
    users = ["app on >app-secret ~bg:* +info +get +eval", "blind on >blind-secret ~bg:* +get"]
    with RedisServer(tls=True, requirepass=PASSWORD, user=users) as server:
        yield server


def test_password_users_and_databases_are_those_of_the_url(locked: RedisServer) -> None:
    for url in (locked.url, locked.unix_url, locked.tls_url):
        assert asked(url, ("ACL", "WHOAMI")) == [b"default"]
    assert asked(f"redis://default:{quote(PASSWORD, safe='')}@127.0.0.1:{locked.port}") == [b"PONG"]
    assert asked(locked.url.removesuffix("/0") + "/5", ("SET", "db", "five")) == [b"OK"]
    assert asked(f"{locked.unix_url}?db=5", ("GETDEL", "db")) == [b"five"]
    assert "it has no database 99" in why_unusable(locked.url.removesuffix("/0") + "/99")


def test_a_user_of_few_permissions_needs_none_that_budgetguard_does_not_name(locked: RedisServer) -> None:
    locked.ask("ACL", "LOG", "RESET")
    url = f"redis://app:app-secret@127.0.0.1:{locked.port}"
    assert asked(url, ("GET", "bg:x"), echo("x")) == [None, b"x"]
    assert locked.ask("ACL", "LOG") == []
    answer, refused = asyncio.run(partly_unusable(url, ("GET", "bg:x"), ("SET", "bg:x", 1)))
    assert answer is None
    assert isinstance(refused, StoreUnusable)
    assert "'set' command" in str(refused)
    assert "README" in str(refused)
    assert "README" in why_unusable(url, ("GET", "other:x"))
    assert "'info' command" in why_unusable(f"redis://blind:blind-secret@127.0.0.1:{locked.port}")


def test_what_a_script_may_not_do_is_told_as_a_permission(locked: RedisServer) -> None:
    url = f"redis://app:app-secret@127.0.0.1:{locked.port}"
    assert "README" in why_unusable(url, ("EVAL", SET, 1, "bg:x"))


@pytest.mark.parametrize(
    ("login", "words"),
    [("", "give user:password@"), (":wrong-secret@", "does not accept"), ("nobody:wrong-secret@", "does not accept")],
)
def test_a_wrong_login_is_told_without_the_password(locked: RedisServer, login: str, words: str) -> None:
    said = why_unusable(f"redis://{login}127.0.0.1:{locked.port}")
    assert words in said
    assert "wrong-secret" not in said


def test_a_password_that_nobody_asked_for_is_told(redis_server: RedisServer) -> None:
    said = why_unusable(redis_server.url.replace("//", "//:my-secret@"))
    assert "does not accept" in said
    assert "my-secret" not in said


def test_a_login_that_is_mended_before_the_deadline_is_never_told(locked: RedisServer) -> None:
    async def run() -> None:
        async with connected(f"redis://late:late-secret@127.0.0.1:{locked.port}") as server:
            asking = asyncio.create_task(server.ask([("PING",)]))
            await asyncio.to_thread(wait_until, lambda: "late" in str(locked.ask("ACL", "LOG")), "a refusal")
            locked.ask("ACL", "SETUSER", "late", "on", ">late-secret", "+info", "+ping")
            assert await asking == [b"PONG"]

    asyncio.run(run())


def test_a_certificate_is_checked_as_the_url_says(locked: RedisServer, tmp_path: Path) -> None:
    make_certificates(tmp_path)  # of another authority
    url = locked.tls_url.partition("?")[0]
    for unknown in (url, f"{url}?ssl_ca_certs={tmp_path}/ca.crt"):
        assert "its certificate is not accepted" in why_unusable(unknown)
    assert asked(f"{url}?ssl_cert_reqs=none") == [b"PONG"]
    assert asked(locked.tls_url.replace("127.0.0.1", "localhost")) == [b"PONG"]


def test_tls_files_that_cannot_be_read_are_told_and_renewed_ones_are_read_again(
    locked: RedisServer, tmp_path: Path
) -> None:
    file = tmp_path / "ca.crt"
    url = f"{locked.tls_url.partition('?')[0]}?ssl_ca_certs={file}"
    assert "No such file" in why_unusable(url)
    file.write_text("no certificate")
    assert "ssl_ca_certs" in why_unusable(url)
    file.write_bytes(locked.ca_file.read_bytes())
    assert asked(url) == [b"PONG"]
    make_certificates(tmp_path)  # of another authority, in the same file
    assert "its certificate is not accepted" in why_unusable(url)


def test_tls_and_none_do_not_meet(locked: RedisServer) -> None:
    plain_to_tls = end_of(locked.url.replace(str(locked.port), str(locked.tls_port)))
    tls_to_plain = end_of(locked.tls_url.replace(str(locked.tls_port), str(locked.port)))
    assert [type(plain_to_tls), type(tls_to_plain)] == [StoreAway, StoreAway]


@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix"])
def test_a_server_that_stands_still_ends_by_the_deadline_and_closes_soon(locked: RedisServer, scheme: str) -> None:
    urls = {"redis": locked.url, "unix": locked.unix_url, "rediss": locked.tls_url}

    async def run() -> None:
        loop = asyncio.get_running_loop()
        async with connected(urls[scheme], SHORT_MS) as server, connected(urls[scheme]) as idle:
            assert await server.ask([echo("x")]) == await idle.ask([echo("x")]) == [b"x"]
            locked.pause()
            try:
                huge = ("EVAL", "return 1", 0, b"x" * 10_000_000)  # more than the kernel takes
                assert isinstance(await ends_in_time(server.ask([huge]), SHORT_MS), StoreAway)
                assert isinstance(await ends_in_time(server.ask([echo("x")]), SHORT_MS), StoreAway)
                began = loop.time()
                with stalls() as stalled_s:
                    await idle.aclose()
                assert loop.time() - began < 2 + stalled_s()
            finally:
                locked.resume()
            assert await server.ask([echo("x")], loop.time() + 5) == [b"x"]

    asyncio.run(run())


def test_a_server_that_evicts_is_refused_at_once_unless_that_is_allowed() -> None:
    with RedisServer(maxmemory_policy="allkeys-lru") as server:
        error = end_of(server.url, timeout_ms=60_000)
        assert isinstance(error, StoreUnusable)
        assert "allkeys-lru" in str(error)
        assert "maxmemory-policy noeviction" in str(error)
        assert "allow_eviction = true" in str(error)
        assert asked(server.url, allow_eviction=True) == [b"PONG"]


def test_a_full_memory_is_told_and_what_needs_none_passes() -> None:
    with RedisServer(maxmemory="1") as server:
        assert "raise maxmemory" in why_unusable(server.url, ("SET", "bg:{t}:x", 1))
        assert asked(server.url, ("DEL", "bg:{t}:x")) == [0]
        assert "raise maxmemory" in why_unusable(server.url, ("EVAL", SET, 1, "bg:{t}:x"))


def test_a_server_without_a_place_for_one_more_client_is_asked_until_it_has_one() -> None:
    with RedisServer(maxclients="1") as server:
        with socket.create_connection(("127.0.0.1", server.port)) as other:
            other.sendall(b"PING\r\n")
            assert other.recv(7) == b"+PONG\r\n"
            error = end_of(server.url)
        assert isinstance(error, StoreAway)
        assert "max number of clients" in str(error)
        assert asked(server.url) == [b"PONG"]


def test_a_replica_is_asked_until_it_is_the_primary() -> None:
    with RedisServer(replicaof="127.0.0.1 1") as server:
        write = ("EVAL", SET, 1, "bg:{t}:x")
        error = end_of(server.url, write)
        assert isinstance(error, StoreAway)
        assert "READONLY" in str(error)

        async def run() -> None:
            async with connected(server.url) as asking:
                waiting = asyncio.create_task(asking.ask([write]))
                await asyncio.sleep(0)
                await asyncio.to_thread(server.ask, "REPLICAOF", "NO", "ONE")
                assert await waiting == [b"OK"]

        asyncio.run(run())


def test_a_server_that_waits_for_replicas_or_for_a_script_is_away() -> None:
    with RedisServer(min_replicas_to_write="1", busy_reply_threshold="1") as server:
        in_script = end_of(server.url, ("EVAL", SET, 1, "bg:{t}:x"))
        assert isinstance(in_script, StoreAway)
        assert "NOREPLICAS" in str(in_script)
        with socket.create_connection(("127.0.0.1", server.port)) as other:
            other.sendall(b"EVAL 'while true do end' 0\r\n")
            busy = end_of(server.url)
            assert isinstance(busy, StoreAway)
            assert "BUSY" in str(busy)
            assert server.ask("SCRIPT", "KILL")
            assert asked(server.url) == [b"PONG"]


def test_a_node_of_a_cluster_and_a_lone_server_are_told_apart() -> None:
    with RedisServer(cluster_enabled="yes") as server:
        error = end_of(server.url, ("GET", "bg:{t}:x"))
        assert isinstance(error, StoreAway)
        assert "CLUSTERDOWN" in str(error)


@pytest.mark.parametrize("code", ["LOADING", "MAXCLIENTS", "BUSY", "MASTERDOWN", "NOPERM"])
def test_what_is_refused_in_the_greeting_is_asked_again(redis_server: RedisServer, code: str) -> None:
    faults = Once(answered(ERROR_LINES[code]), when=lambda request: request.name == "INFO")
    with Proxy(redis_server, faults) as proxy:
        assert asked(proxy.url, echo("x")) == [b"x"]
        assert len(faults.hits) == 1


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("READONLY You can't write against a read only replica. script: f0, on @user_script:1.", "READONLY"),
        (
            "ERR Error running script (call to f_0a): @user_script:1: @user_script: 1: -READONLY You can't write "
            "against a read only replica.",
            "READONLY",
        ),
        ("ERR Error running script (call to f_0a): @user_script:12: OOM command not allowed when used", "OOM"),
        ("ERR Error running script (call to f_0a): @user_script:1: WRONGTYPE Operation against a key", "WRONGTYPE"),
        ("ERR user_script:1: READONLY is what somebody said script: f0, on @user_script:1.", "ERR"),
        ("ERR unknown command 'OOM '", "ERR"),
        ("ERR max number of clients + cluster connections reached", "MAXCLIENTS"),
        ("ERR Client sent AUTH, but no password is set", "WRONGPASS"),
    ],
)
def test_the_code_of_a_reply_is_what_stopped_it(line: str, code: str) -> None:
    assert ReplyError(line).code == code
