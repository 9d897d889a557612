"""The framing of an array of JSON objects that comes element by element, as Gemini streams without `alt=sse`."""

from __future__ import annotations

import re

from budgetguard.wire.framing import Frames

_IN_TEXT = re.compile(rb'["\\]')
_BETWEEN = re.compile(rb'["{}\[\]]')


class JsonArray(Frames):
    """Each object (or array) in the outer array is an event, with what separates it from the one before.

    A body that is one object is one event. Brackets are only counted: whether it is JSON, its reader finds out.
    """

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0
        self._outer = 0
        """The depth between elements: 1 in an array, 0 before one and where the body is an object."""
        self._in_text = False
        self._element = 0
        """Where the element under way, or the last one, begins."""
        self._begun = False

    def _drop(self, count: int) -> None:
        super()._drop(count)
        self._element -= count

    def _next_end(self) -> int | None:
        held = self._held
        while found := (_IN_TEXT if self._in_text else _BETWEEN).search(held, self._seen):
            mark = found[0]
            if mark == b"\\" and found.end() == len(held):
                self._seen = found.start()
                return None
            self._seen = found.end() + (mark == b"\\")  # what follows a backslash is passed over
            if mark == b'"':
                self._in_text = not self._in_text
            elif mark in b"{[":
                self._open(mark, found.start())
            elif mark in b"}]" and self._close():
                return self._seen
        self._seen = len(held)
        return None

    def _open(self, mark: bytes, place: int) -> None:
        if not self._begun and mark == b"[":
            self._outer = 1
        elif self._depth == self._outer:
            self._element = place
        self._begun = True
        self._depth += 1

    def _close(self) -> bool:
        """Take one level back; whether that ends an element."""
        self._depth -= 1
        return self._depth == self._outer

    def _read(self, raw: bytes) -> tuple[bytes, str]:
        return raw[len(raw) - (self._seen - self._element) :], ""
