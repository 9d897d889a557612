"""Streamed bodies, taken apart as they come: server-sent events, lines of JSON, AWS event streams, JSON arrays."""

from __future__ import annotations

from typing import NamedTuple


class Frame(NamedTuple):
    """One event of a stream.

    Args:
        raw: exactly its bytes on the wire.
        data: what it carries; b"" where there is nothing (a comment), or nothing that can be read.
        name: its event name or type, "" where it has none.
    """

    raw: bytes
    data: bytes
    name: str = ""
