"""The scripts under the Lua of other versions (lupa), behind a socket on which the real store asks them.

Whoever runs them hears of what differs: errors that are tables, `unpack`, numbers that are integers or floats.
"""

from __future__ import annotations

import importlib
import shutil
import socketserver
import struct
import tempfile
import threading
from collections.abc import Callable
from hashlib import sha1
from pathlib import Path
from typing import Any

import msgpack
from hiredis import Reader
from lua_redis import Data, Refused, Reply, Status, encoded

VERSIONS = {"5.1": "lupa.lua51", "5.4": "lupa.lua54"}
INT64 = range(-(2**63), 2**63)
PRELUDE = b"""
local call, pack, unpacked, struct_pack, struct_unpacked = ...
local errors_are_tables = _VERSION ~= 'Lua 5.1'

local function answered(fault, ...)
  if fault then
    error(errors_are_tables and { err = fault } or fault, 0)
  end
  return ...
end

redis = {
  call = function(...) return answered(call(...)) end,
  pcall = function(...)
    local fault, reply = call(...)
    return fault and { err = fault } or reply
  end,
}
cmsgpack = {
  pack = function(...) return answered(pack(...)) end,
  unpack = function(...) return answered(unpacked(...)) end,
}
struct = {
  pack = function(...) return answered(struct_pack(...)) end,
  unpack = function(...) return answered(struct_unpacked(...)) end,
}
for _, name in ipairs({ 'dofile', 'io', 'load', 'loadfile', 'module', 'os', 'package', 'python', 'require' }) do
  _G[name] = nil
end
return function(script, keys, arguments)
  KEYS, ARGV = keys, arguments
  return script()
end
"""


class Lua:
    """A Lua of one version with what Redis gives a script, over the data of one server."""

    def __init__(self, version: str, data: Data) -> None:
        self._module = importlib.import_module(VERSIONS[version])
        self._lua = self._module.LuaRuntime(encoding=None, unpack_returned_tuples=True, register_eval=False)
        self._data = data
        self._scripts: dict[bytes, Any] = {}
        load = self._lua.eval(b"loadstring or load")
        self._run = load(PRELUDE)(self._call, self._pack, self._unpacked, struct_pack, struct_unpacked)
        self._load = load

    def eval(self, body: bytes, keys: list[bytes], arguments: list[bytes]) -> Reply:
        """What a script returns. Refused: NOSCRIPT is for who has not given its text; or it failed."""
        sha = sha1(body, usedforsecurity=False).hexdigest().encode()
        if sha not in self._scripts:
            compiled = self._load(body)
            if isinstance(compiled, tuple):
                raise Refused(f"ERR Error compiling script: {compiled[1]!r}")
            self._scripts[sha] = compiled
        return self.evalsha(sha, keys, arguments)

    def evalsha(self, sha: bytes, keys: list[bytes], arguments: list[bytes]) -> Reply:
        script = self._scripts.get(sha)
        if script is None:
            raise Refused("NOSCRIPT No matching script.")
        try:
            found = self._run(script, self._to_lua(keys), self._to_lua(arguments))
        except self._module.LuaError as error:
            raise Refused(f"ERR {error}") from error
        return None if found is False else self._from_lua(found)

    def _call(self, name: bytes, *arguments: Any) -> tuple[bytes | None, Any]:
        """A command of a script: what was wrong, or nothing and the reply."""
        try:
            reply = self._data.do(name.decode(), [_argument(given) for given in arguments])
        except Refused as refused:
            return str(refused).encode(), None
        return None, self._to_lua({b"ok": reply.encode()} if isinstance(reply, Status) else reply)

    def _pack(self, *values: Any) -> tuple[bytes | None, Any]:
        return None, b"".join(msgpack.packb(self._from_lua(value), use_bin_type=False) for value in values)

    def _unpacked(self, packed: Any) -> tuple[Any, ...]:
        """Packed values that stand one after the other."""
        if not isinstance(packed, bytes):
            return b"bad argument #1 to 'unpack' (string expected)", None
        unpacker = msgpack.Unpacker(raw=True, strict_map_key=False)
        unpacker.feed(packed)
        try:
            values = [self._to_lua(value, b"") for value in unpacker]
        except (ValueError, TypeError):
            return b"Bad data format in input.", None
        return (b"Missing bytes in input.", None) if unpacker.tell() != len(packed) else (None, *values)

    def _to_lua(self, value: Any, nothing: Any = False) -> Any:
        """A value for Lua. Where a reply has nothing Redis gives false, and where a packed value has it, nil."""
        if isinstance(value, list):
            return self._lua.table_from([self._to_lua(part, nothing) for part in value])
        if isinstance(value, dict):
            return self._lua.table_from({key: self._to_lua(part, nothing) for key, part in value.items()})
        if isinstance(value, int) and value not in INT64:
            return float(value)
        return (None if nothing == b"" else nothing) if value is None else value

    def _from_lua(self, value: Any) -> Any:
        """As `cmsgpack` sees it: whole numbers are integers, a table is a list if its keys are 1 to n."""
        if self._module.lua_type(value) == "table":
            items = {key: self._from_lua(part) for key, part in value.items()}
            whole = range(1, len(items) + 1)
            return [items[number] for number in whole] if all(number in items for number in whole) else items
        if isinstance(value, float) and value.is_integer() and int(value) in INT64:
            return int(value)
        return value


def struct_pack(form: bytes, *numbers: float) -> tuple[bytes | None, Any]:
    """Redis' own library of that name; of its forms "<" and "d" mean the same in Python."""
    return None, struct.pack(form.decode(), *numbers)


def struct_unpacked(form: bytes, packed: Any) -> tuple[Any, ...]:
    """What it finds at the beginning of a text, and where it has ended."""
    size = struct.calcsize(form.decode())
    if not isinstance(packed, bytes) or len(packed) < size:
        return b"bad argument #2 to 'unpack' (data string too short)", None
    return None, *struct.unpack(form.decode(), packed[:size]), size + 1


def _argument(given: Any) -> bytes:
    """An argument of `redis.call`: a text, or a number, which Redis writes with 17 digits."""
    if isinstance(given, bytes):
        return given
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        return b"%.17g" % given
    raise Refused("ERR Lua redis lib command arguments must be strings or integers")


class LuaServer:
    """A server on a Unix socket whose scripts run under one version of Lua."""

    def __init__(self, version: str, time_us: int = 0) -> None:
        self.version = version
        self.scripts_run = 0
        self._data = Data(time_us)
        self._lua = Lua(version, self._data)
        self._folder = Path(tempfile.mkdtemp(prefix="lua-"))
        self.socket_path = self._folder / "sock"
        self.unix_url = self.url = f"unix://{self.socket_path}"
        self._turn = threading.Lock()
        self._server = _Listener(str(self.socket_path), self._answer)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def __enter__(self) -> LuaServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        shutil.rmtree(self._folder)

    def _answer(self, command: list[bytes]) -> Reply:
        name = command[0].decode().upper()
        with self._turn:
            if name not in ("EVAL", "EVALSHA"):
                return self._data.do(name, command[1:])
            count = int(command[2])
            run = self._lua.eval if name == "EVAL" else self._lua.evalsha
            self.scripts_run += 1
            return run(command[1], command[3 : 3 + count], command[3 + count :])


class _Listener(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: str, answer: Callable[[list[bytes]], Reply]) -> None:
        self.answer = answer
        super().__init__(path, _Session)


class _Session(socketserver.BaseRequestHandler):
    """One connection."""

    server: _Listener

    def handle(self) -> None:
        reader = Reader()
        while data := self.request.recv(1 << 20):
            reader.feed(data)
            while (command := reader.gets()) is not False:
                try:
                    reply = self.server.answer(command)
                except Refused as refused:
                    reply = refused
                self.request.sendall(b"".join(encoded(reply)))
