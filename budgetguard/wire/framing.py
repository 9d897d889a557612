"""What all framings of streamed bodies share: bytes are held until an event is whole, and never too many of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

MOST_FRAME = 8 * 1024 * 1024
"""The longest event, in bytes, that is read. A longer one is passed on in pieces, without data."""


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


class Frames(ABC):
    """Holds the bytes of the event that is under way. Each byte is looked at once, however the body is cut up.

    What is read never depends on where the body was cut, and nothing in a body makes it raise.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._seen = 0
        """How many of the bytes held have been looked at; what is before it needs no second look."""
        self._overlong = False
        """The beginning of the event under way has been passed on already."""

    def feed(self, chunk: bytes) -> list[Frame]:
        """The events that are whole with the next bytes of the body, in order."""
        self._held += chunk
        frames: list[Frame] = []
        start = 0
        while (end := self._next_end()) is not None:
            raw = bytes(self._held[start:end])
            unread = self._overlong or len(raw) > MOST_FRAME
            data, name = (b"", "") if unread else self._read(raw)
            frames.append(Frame(raw, data, name))
            self._overlong = False
            start = end
        self._drop(start)
        if self._seen and (self._overlong or len(self._held) > MOST_FRAME):
            frames.append(Frame(bytes(self._held[: self._seen]), b""))
            self._overlong = True
            self._drop(self._seen)
        return frames

    @property
    def is_between(self) -> bool:
        """What comes next begins an event."""
        return not self._held and not self._overlong

    def rest(self) -> bytes:
        """The bytes fed that are no whole event yet."""
        return bytes(self._held)

    def end(self) -> list[Frame]:
        """The last event, at the end of the body: what is left, read as far as it can be. Nothing is left after it."""
        raw = self.rest()
        self._held.clear()
        self._seen = 0
        return [Frame(raw, *self._read_last(raw))] if raw else []

    def _drop(self, count: int) -> None:
        """Forget the first bytes held."""
        del self._held[:count]
        self._seen -= count

    @abstractmethod
    def _next_end(self) -> int | None:
        """Where the next event ends in the bytes held, None where it is not whole; looks on from what was seen."""

    @abstractmethod
    def _read(self, raw: bytes) -> tuple[bytes, str]:
        """The data and the name of a whole event."""

    def _read_last(self, raw: bytes) -> tuple[bytes, str]:
        """The same of what the end of the body has cut off."""
        return b"", ""
