"""The Redis protocol (RESP2 and RESP3), as far as a proxy must know it: where one request or reply ends."""

from __future__ import annotations

from asyncio import StreamReader

LINES, BLOBS, LISTS, MAPS = b"+-:_#,(", b"$=!", b"*~>", b"%|"
PUSH, ATTRIBUTES = b">", b"|"


async def read_request(reader: StreamReader) -> tuple[bytes, tuple[bytes, ...]]:
    """One request: its bytes and its arguments. EOFError (IncompleteReadError) where the stream ends."""
    line = await reader.readuntil(b"\r\n")
    if not line.startswith(b"*"):
        return line, tuple(line.split())
    raw, arguments = [line], []
    for _ in range(int(line[1:])):
        header = await reader.readuntil(b"\r\n")
        blob = await reader.readexactly(int(header[1:]) + 2)
        raw += [header, blob]
        arguments.append(blob[:-2])
    return b"".join(raw), tuple(arguments)


async def read_reply(reader: StreamReader) -> bytes:
    """The bytes of one whole reply, nested ones and attributes included."""
    line = await reader.readuntil(b"\r\n")
    kind, size = line[:1], line[1:-2]
    if kind in LINES:
        return line
    if kind in BLOBS:
        return line if size == b"-1" else line + await reader.readexactly(int(size) + 2)
    if kind not in LISTS + MAPS:
        raise ValueError(f"no reply begins like {line!r}")
    parts = max(int(size), 0) * (2 if kind in MAPS else 1)
    inner = [await read_reply(reader) for _ in range(parts)]
    if kind == ATTRIBUTES:  # they stand before the reply that they describe
        inner.append(await read_reply(reader))
    return line + b"".join(inner)
