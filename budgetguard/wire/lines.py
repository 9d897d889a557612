"""Framings of lines: server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) and NDJSON."""

from __future__ import annotations

import re

from budgetguard.wire.framing import Frames

_LINE_END = re.compile(rb"\r\n?|\n")
_NEWLINE = re.compile(rb"\n")
_BOM = b"\xef\xbb\xbf"


class ServerSentEvents(Frames):
    """An event ends with an empty line; lines end with CRLF, LF or CR. A comment is an event without data.

    An event of which the end of the body leaves out the empty line counts: what the provider said, it has said.
    """

    def __init__(self) -> None:
        super().__init__()
        self._line = 0
        """Where the line under way begins; negative where that has been passed on."""

    def _drop(self, count: int) -> None:
        super()._drop(count)
        self._line -= count

    def _next_end(self) -> int | None:
        held = self._held
        while found := _LINE_END.search(held, self._seen):
            if found.end() == len(held) and found[0] == b"\r":
                self._seen = found.start()  # it may be the first half of CRLF
                return None
            empty = found.start() == self._line
            self._line = self._seen = found.end()
            if empty:
                return self._seen
        self._seen = len(held)
        return None

    def _read(self, raw: bytes) -> tuple[bytes, str]:
        data: list[bytes] = []
        name = b""
        for line in raw.removeprefix(_BOM).splitlines():
            field, _, value = line.partition(b":")
            if field == b"data":
                data.append(value.removeprefix(b" "))
            elif field == b"event":
                name = value.removeprefix(b" ")
        return b"\n".join(data), name.decode("utf-8", "replace")

    _read_last = _read


class JsonLines(Frames):
    """A JSON value on each line; the last line needs no end."""

    def _next_end(self) -> int | None:
        found = _NEWLINE.search(self._held, self._seen)
        self._seen = found.end() if found else len(self._held)
        return self._seen if found else None

    def _read(self, raw: bytes) -> tuple[bytes, str]:
        return raw.removeprefix(_BOM).strip(), ""

    _read_last = _read
