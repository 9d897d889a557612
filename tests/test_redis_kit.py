"""The tests' own Redis servers do what the tests of the store rely on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from daemon_kit import wait_until
from redis_kit import MISSING, RedisServer, has_redis, key_prefix, tidy_namespace

pytestmark = pytest.mark.skipif(not has_redis(), reason=MISSING)


def test_a_killed_server_comes_back_on_its_port_with_what_its_aof_holds() -> None:
    with RedisServer(appendonly="yes") as server:
        server.ask("SET", "a", "1")
        port, url = server.port, server.url
        server.kill()
        with pytest.raises(redis.ConnectionError):
            server.ask("PING")
        server.start()
        assert (server.port, server.url) == (port, url)
        assert server.ask("GET", "a") == b"1"


def test_a_server_without_options_forgets_all_when_it_stops() -> None:
    with RedisServer() as server:
        server.ask("SET", "a", "1")
        server.stop()
        server.start()
        assert server.ask("GET", "a") is None


def test_every_url_of_a_server_leads_to_it_and_asks_for_the_password() -> None:
    with RedisServer(requirepass="p@ss/word", tls=True) as server:
        server.ask("SET", "a", "1")
        for url, options in (
            (server.url, {}),
            (server.unix_url, {}),
            (server.tls_url, {"ssl_ca_certs": server.ca_file}),
        ):
            with redis.Redis.from_url(url, **options) as client:
                assert client.get("a") == b"1"
        with redis.Redis(port=server.port, retry=None) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()


def test_options_reach_the_server_and_may_repeat() -> None:
    users = ["app on >secret ~bg:* +get", "other on >secret ~x:* +get"]
    with RedisServer(maxmemory_policy="allkeys-lru", user=users) as server:
        assert server.info("memory")["maxmemory_policy"] == "allkeys-lru"
        assert server.ask("ACL", "USERS") == [b"app", b"default", b"other"]


def test_a_paused_server_answers_when_it_is_resumed(redis_server: RedisServer) -> None:
    with RedisServer() as server, redis.Redis(port=server.port, socket_timeout=0.05, retry=None) as client:
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()
        assert server.ask("PING")


def test_what_a_test_leaves_in_its_namespace_is_deleted(redis_server: RedisServer, redis_url: str) -> None:
    with tidy_namespace(redis_server, "left") as namespace, redis.Redis.from_url(redis_url) as client:
        prefix = key_prefix(namespace)
        client.set(f"{prefix}h:1", "x", ex=60)
        client.hset(f"{prefix}meta", "schema", 1)
    assert redis_server.keys(f"{prefix}*") == []


def test_a_key_that_lasts_fails_the_test_that_left_it(redis_server: RedisServer) -> None:
    with pytest.raises(AssertionError, match="without TTL"), tidy_namespace(redis_server, "left") as namespace:
        redis_server.ask("SET", f"{key_prefix(namespace)}open", "x")
    assert redis_server.keys(f"{key_prefix(namespace)}*") == []


def test_no_server_outlives_tests_that_are_killed(tmp_path: Path) -> None:
    source = """
import os, redis_kit
server = redis_kit.RedisServer()
print(server.pid, server.folder, flush=True)
os.kill(os.getpid(), 9)
"""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    run = subprocess.run([sys.executable, "-c", source], env=env, capture_output=True, text=True, timeout=30)
    assert run.returncode == -signal.SIGKILL, run.stderr
    pid, folder = run.stdout.split()
    wait_until(lambda: not Path(folder).exists(), "its folder to go")
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "its server to end")
