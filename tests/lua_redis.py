"""As much of Redis as the scripts, the store and the tests' looks need, over plain dicts: keys, types, TTLs, replies.

A stand-in for the data only; `lua_kit` gives it a Lua of another version and a socket. Its time does not pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

WRONGTYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
Reply = Any


class Refused(Exception):
    """An error reply; its text is the line."""


class Status(str):
    """A reply such as OK."""


class Data:
    """What stands under the keys: bytes (string), dict of bytes (hash), dict of float (sorted set), list (stream)."""

    def __init__(self, time_us: int = 0) -> None:
        self.values: dict[bytes, Any] = {}
        self.ends_ms: dict[bytes, int] = {}
        self._time_us = time_us
        self._entries = 0

    def do(self, name: str, arguments: list[bytes]) -> Reply:
        """The reply to a command.

        Raises:
            Refused: an error reply.
        """
        method: Callable[..., Reply] | None = getattr(self, f"_{name.lower()}", None)
        if method is None:
            raise Refused(f"ERR unknown command '{name}'")
        try:
            return method(*arguments)
        except (TypeError, ValueError) as error:
            raise Refused(f"ERR wrong arguments for {name}: {error}") from error

    def _at(self, key: bytes, kind: type, *, make: bool = False) -> Any:
        value = self.values.get(key)
        if value is None:
            value = kind()
            if make:
                self.values[key] = value
        if type(value) is not kind:
            raise Refused(WRONGTYPE)
        return value

    def _info(self, _: bytes) -> Reply:
        return b"maxmemory_policy:noeviction\r\n"

    def _time(self) -> Reply:
        return [b"%d" % (self._time_us // 1_000_000), b"%d" % (self._time_us % 1_000_000)]

    def _exists(self, *keys: bytes) -> Reply:
        return sum(key in self.values for key in keys)

    def _del(self, *keys: bytes) -> Reply:
        for key in keys:
            self.ends_ms.pop(key, None)
        return sum(self.values.pop(key, None) is not None for key in keys)

    def _pttl(self, key: bytes) -> Reply:
        return -2 if key not in self.values else self.ends_ms.get(key, -1)

    def _pexpire(self, key: bytes, ms: bytes) -> Reply:
        if key in self.values:
            self.ends_ms[key] = int(ms)
        return int(key in self.values)

    def _keys(self, pattern: bytes) -> Reply:
        glob = re.escape(pattern.decode("latin-1"))
        for written, meant in ((r"\*", ".*"), (r"\[", "["), (r"\]", "]")):
            glob = glob.replace(written, meant)
        return [key for key in self.values if re.fullmatch(glob, key.decode("latin-1"))]

    def _dump(self, key: bytes) -> Reply:
        return repr(self.values[key]).encode() if key in self.values else None

    def _get(self, key: bytes) -> Reply:
        return self._at(key, bytes) if key in self.values else None

    def _mget(self, *keys: bytes) -> Reply:
        found = (self.values.get(key) for key in keys)
        return [value if type(value) is bytes else None for value in found]

    def _set(self, key: bytes, value: bytes, option: bytes, ms: bytes = b"") -> Reply:
        self.values[key] = value
        if option == b"PX":
            self.ends_ms[key] = int(ms)
        elif option != b"KEEPTTL" or ms:
            raise Refused("ERR syntax error")
        return Status("OK")

    def _hget(self, key: bytes, field: bytes) -> Reply:
        return self._at(key, Hash).get(field)

    def _hmget(self, key: bytes, *fields: bytes) -> Reply:
        found = self._at(key, Hash)
        return [found.get(field) for field in fields]

    def _hgetall(self, key: bytes) -> Reply:
        return flat(self._at(key, Hash).items())

    def _hset(self, key: bytes, *pairs: bytes) -> Reply:
        self._at(key, Hash, make=True).update(zip(pairs[::2], pairs[1::2], strict=True))
        return len(pairs) // 2

    def _hdel(self, key: bytes, *fields: bytes) -> Reply:
        found = self._at(key, Hash)
        return sum(found.pop(field, None) is not None for field in fields) + self._forget_empty(key)

    def _hscan(self, key: bytes, cursor: bytes, *_: bytes) -> Reply:
        return [b"0", self._hgetall(key)]

    def _zadd(self, key: bytes, *pairs: bytes) -> Reply:
        self._at(key, Scores, make=True).update(zip(pairs[1::2], map(float, pairs[::2]), strict=True))
        return len(pairs) // 2

    def _zrem(self, key: bytes, *members: bytes) -> Reply:
        found = self._at(key, Scores)
        return sum(found.pop(member, None) is not None for member in members) + self._forget_empty(key)

    def _zrange(self, key: bytes, first: bytes, last: bytes, *_: bytes) -> Reply:
        return flat((member, b"%d" % score) for member, score in self._at(key, Scores).in_order())

    def _zrangebyscore(self, key: bytes, low: bytes, high: bytes, *limit: bytes) -> Reply:
        found = self._at(key, Scores).in_order()
        due = [member for member, score in found if float(low) <= score <= float(high)]
        return due[int(limit[1]) :][: int(limit[2])] if limit else due

    def _zscan(self, key: bytes, cursor: bytes, *_: bytes) -> Reply:
        return [b"0", self._zrange(key, b"0", b"-1")]

    def _xadd(self, key: bytes, *arguments: bytes) -> Reply:
        at = arguments.index(b"*")
        rows = self._at(key, list, make=True)
        self._entries += 1
        rows.append([b"%d-0" % self._entries, list(arguments[at + 1 :])])
        if at:
            del rows[: -int(arguments[at - 1])]
        return rows[-1][0]

    def _xlen(self, key: bytes) -> Reply:
        return len(self._at(key, list))

    def _xrange(self, key: bytes, first: bytes, last: bytes, _: bytes = b"", count: bytes = b"-1") -> Reply:
        after = int(first[1:].partition(b"-")[0]) if first.startswith(b"(") else 0
        found = [row for row in self._at(key, list) if int(row[0].partition(b"-")[0]) > after]
        return found if count == b"-1" else found[: int(count)]

    def _forget_empty(self, key: bytes) -> int:
        if not self.values.get(key, True):
            self._del(key)
        return 0


class Hash(dict[bytes, bytes]):
    """A hash."""


class Scores(dict[bytes, float]):
    """A sorted set."""

    def in_order(self) -> list[tuple[bytes, float]]:
        return sorted(self.items(), key=lambda item: (item[1], item[0]))


def flat(pairs: Any) -> list[bytes]:
    """Pairs, one after the other."""
    return [part for pair in pairs for part in pair]


def encoded(reply: Reply) -> Iterator[bytes]:
    """A reply as the protocol has it."""
    if isinstance(reply, Refused):
        yield b"-%s\r\n" % str(reply).encode().replace(b"\n", b" ").replace(b"\r", b" ")
    elif isinstance(reply, Status):
        yield b"+%s\r\n" % reply.encode()
    elif isinstance(reply, int):
        yield b":%d\r\n" % reply
    elif isinstance(reply, bytes):
        yield b"$%d\r\n%s\r\n" % (len(reply), reply)
    elif isinstance(reply, list):
        yield b"*%d\r\n" % len(reply)
        for part in reply:
            yield from encoded(part)
    else:
        yield b"$-1\r\n"
