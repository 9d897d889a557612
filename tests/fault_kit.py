"""What can happen to a request between a client and a Redis server, as values that `redis_proxy.Proxy` carries out."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

SCRIPT_COMMANDS = {"EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO"}


class Request(NamedTuple):
    """One command of a client. Requests count from 1, over all connections; so do connections."""

    number: int
    connection: int
    arguments: tuple[bytes, ...]

    @property
    def name(self) -> str:
        return self.arguments[0].decode().upper() if self.arguments else ""


class Gate:
    """Where a request or a reply waits until the test opens it. `reached`: something has come to it."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._lock = threading.Lock()

    def open(self) -> None:
        """Let all pass, now and later; from any thread."""
        with self._lock:
            self.opened.set()
            for loop, event in self._waiting:
                loop.call_soon_threadsafe(event.set)

    async def passed(self) -> None:
        """Wait until it is open."""
        waiting = asyncio.get_running_loop(), asyncio.Event()
        with self._lock:
            self._waiting.add(waiting)
            if self.opened.is_set():
                waiting[1].set()
            self.reached.set()
        try:
            await waiting[1].wait()
        finally:
            with self._lock:
                self._waiting.discard(waiting)


@dataclass(frozen=True)
class Fault:
    """What happens to one request, in the order of the fields.

    It waits at `wait`; is forwarded `copies` times, and without one is answered `answer`; when the server has answered
    the first copy, `opens` is opened; the reply waits at `hold` and goes out as `reply` says: "whole", "dribble" (byte
    by byte), "half" (then the connection ends), "cut" (the connection is reset instead), "lost" (nor does anything else
    come over this connection any more). What the client sends after a request that was cut or lost without having been
    forwarded is not forwarded either.
    """

    wait: Gate | None = None
    copies: int = 1
    answer: bytes = b""
    opens: Gate | None = None
    hold: Gate | None = None
    reply: Literal["whole", "dribble", "half", "cut", "lost"] = "whole"

    @property
    def ends_connection(self) -> bool:
        """Whether what comes after the request goes nowhere."""
        return self.copies == 0 and self.reply in ("cut", "lost")


PASS = Fault()
LOSE_REPLY = Fault(reply="lost")
DUPLICATE = Fault(copies=2)
CUT_BEFORE = Fault(copies=0, reply="cut")
CUT_AFTER = Fault(reply="cut")
CUT_MIDDLE = Fault(reply="half")
DRIBBLE = Fault(reply="dribble")
BLACK_HOLE = Fault(copies=0, reply="lost")

ERROR_LINES = {
    "NOSCRIPT": "-NOSCRIPT No matching script. Please use EVAL.",
    "READONLY": "-READONLY You can't write against a read only replica.",
    "LOADING": "-LOADING Redis is loading the dataset in memory",
    "MASTERDOWN": "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "OOM": "-OOM command not allowed when used memory > 'maxmemory'.",
    "NOREPLICAS": "-NOREPLICAS Not enough good replicas to write.",
    "MISCONF": "-MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "BUSY": "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "CLUSTERDOWN": "-CLUSTERDOWN The cluster is down",
    "MOVED": "-MOVED 3999 127.0.0.1:1",
    "ASK": "-ASK 3999 127.0.0.1:1",
    "TRYAGAIN": "-TRYAGAIN Multiple keys request during rehashing of slot",
    "CROSSSLOT": "-CROSSSLOT Keys in request don't hash to the same slot",
    "NOAUTH": "-NOAUTH Authentication required.",
    "NOPERM": "-NOPERM this user has no permissions to run the 'evalsha' command",
    "MAXCLIENTS": "-ERR max number of clients reached",
}
"""The errors after which nothing was applied (FAILURES 2.1), as Redis 7.0 words them."""


def answered(line: str) -> Fault:
    """The proxy answers this line itself, and forwards nothing."""
    return Fault(copies=0, answer=line.encode() + b"\r\n")


def swapped() -> tuple[Fault, Fault]:
    """Faults for requests of two connections: the first is forwarded only after the server has answered the second."""
    gate = Gate()
    return Fault(wait=gate), Fault(opens=gate)


def is_script(request: Request) -> bool:
    """Whether it runs a script."""
    return request.name in SCRIPT_COMMANDS


class Once:
    """These faults, one each for the next requests that they are for; all others pass. `hits`: whom they met."""

    def __init__(self, *faults: Fault, when: Callable[[Request], bool] = is_script) -> None:
        self.hits: list[Request] = []
        self._left = deque(faults)
        self._when = when

    def __call__(self, request: Request) -> Fault:
        if not self._left or not self._when(request):
            return PASS
        self.hits.append(request)
        return self._left.popleft()
