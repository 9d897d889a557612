"""Real Redis sentinels for the tests: a primary, a replica, and three that watch them with short timeouts."""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import urlencode

from daemon_kit import wait_until
from redis.exceptions import ResponseError
from redis_acl import PASSWORD, USER
from redis_kit import Option, RedisServer

NAME = "main"
SENTINEL_COUNT = 3
DOWN_AFTER_MS, FAILOVER_TIMEOUT_MS = 400, 2_000
# How often sentinels ask and tell; with the usual seconds, a failover would take ten.
# A replica is taken only if its INFO, asked each second by then, is younger than five PING-PERIODs.
HASTE = {
    "INFO-PERIOD": 100, "PING-PERIOD": 250, "ASK-PERIOD": 100, "PUBLISH-PERIOD": 100, "ELECTION-TIMEOUT": 1_000,
    "TILT-PERIOD": 500,  # half a minute of doing nothing, usually, for a sentinel that the machine kept waiting for 2 s
}  # fmt: skip


class SentinelFleet:
    """A primary, its replica and their sentinels. Options are those of both servers."""

    def __init__(self, **options: Option) -> None:
        self.sentinels: list[RedisServer] = []
        self._servers: list[RedisServer] = []
        try:
            self.primary = self._server(**options)
            self.replica = self._server(replicaof=f"127.0.0.1 {self.primary.port}", **options)
            for _ in range(SENTINEL_COUNT):
                self.sentinels.append(self._sentinel())
            wait_until(lambda: all(map(self._sees_all, self.sentinels)), "the sentinels to know each other")
        except BaseException:
            self.close()
            raise

    def _server(self, **options: Option) -> RedisServer:
        server = RedisServer(repl_diskless_sync_delay="0", repl_ping_replica_period="1", **options)
        self._servers.append(server)
        return server

    def _sentinel(self) -> RedisServer:
        told = [f"monitor {NAME} 127.0.0.1 {self.primary.port} 2"]
        told += [f"down-after-milliseconds {NAME} {DOWN_AFTER_MS}", f"failover-timeout {NAME} {FAILOVER_TIMEOUT_MS}"]
        if self.primary.password:
            told.append(f"auth-pass {NAME} {self.primary.password}")
        sentinel = RedisServer(arguments=["--sentinel"], sentinel=told)
        for name, period_ms in HASTE.items():
            sentinel.ask("SENTINEL", "DEBUG", name, period_ms)
        return sentinel

    def __enter__(self) -> SentinelFleet:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            for daemon in (*self.sentinels, *self._servers):
                daemon.__exit__(*error)
        finally:
            self.close()

    @property
    def url(self) -> str:
        sentinels = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        login = urlencode({"sentinel_username": USER, "sentinel_password": PASSWORD})
        return f"redis+sentinel://{self.primary.login}{sentinels}/{NAME}/0?{login}"

    def kill_primary(self) -> None:
        """SIGKILL: the sentinels will make the replica the primary."""
        self.primary.kill()

    def pause_replica(self) -> None:
        """What the primary writes from now on does not reach the replica, and is lost when the primary is."""
        self.replica.pause()
        # Else it would find the writes in its socket's buffer when it is resumed.
        self.primary.ask("CLIENT", "KILL", "TYPE", "replica")

    def wait_for_new_primary(self) -> RedisServer:
        """Wait until all sentinels name the replica (resumed, if paused), and it takes writes: now it is `primary`."""
        self.replica.resume()
        wait_until(lambda: all(map(self._names_replica, self.sentinels)), "the sentinels to name the replica")
        wait_until(lambda: self.replica.ask("ROLE")[0] == b"master", "the replica to be the primary")
        self.primary, self.replica = self.replica, self.primary
        return self.primary

    def close(self) -> None:
        """End all of them."""
        for daemon in (*self.sentinels, *self._servers):
            daemon.close()

    def _asked(self, sentinel: RedisServer, *command: Any) -> Any:
        return sentinel.ask("SENTINEL", *command, NAME)

    def _names_replica(self, sentinel: RedisServer) -> bool:
        return int(self._asked(sentinel, "GET-MASTER-ADDR-BY-NAME")[1]) == self.replica.port

    def _sees_all(self, sentinel: RedisServer) -> bool:
        replicas = self._asked(sentinel, "REPLICAS")
        if len(self._asked(sentinel, "SENTINELS")) < SENTINEL_COUNT - 1 or len(replicas) != 1:
            return False
        with contextlib.suppress(ResponseError):  # NOQUORUM, until they are connected
            return replicas[0][b"master-link-status"] == b"ok" and bool(self._asked(sentinel, "CKQUORUM"))
        return False
