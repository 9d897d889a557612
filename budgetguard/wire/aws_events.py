"""The framing of AWS event streams, as Bedrock streams.

A message is: total length and length of headers (4 bytes each, big endian), the CRC-32 of these, headers, payload, the
CRC-32 of all before it. Source: https://smithy.io/2.0/aws/amazon-eventstream.html
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError
from zlib import crc32

from budgetguard.wire.framing import Frames

_PRELUDE = Struct(">III")
_U16, _U32 = Struct(">H"), Struct(">I")
_LEAST = _PRELUDE.size + _U32.size
_FIXED_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""The sizes of header values by type; bytes (6) and strings (7) have a length of two bytes before them."""
_SIZED, _STRING = (6, 7), 7


class AwsEvents(Frames):
    """Each message is an event, its payload the data. Its name is the `:event-type`; of an exception, which ends the
    stream, the `:exception-type` (`throttlingException`), of an error the `:error-code` after "error ".

    A message whose CRC is wrong has no data. After a prelude that lies nothing can be found any more: the rest is
    passed on unread.
    """

    def __init__(self) -> None:
        super().__init__()
        self._left = 0
        """How many bytes of the message under way are still to come, of those not held; 0 before its prelude is."""
        self._lost = False

    def _next_end(self) -> int | None:
        held = self._held
        if self._lost:
            self._seen = len(held)
            return None
        if not self._left:
            if len(held) - self._seen < _PRELUDE.size:
                return None
            self._begin()
            return self._next_end()
        step = min(self._left, len(held) - self._seen)
        self._seen += step
        self._left -= step
        return None if self._left else self._seen

    def _begin(self) -> None:
        """Take the lengths of the message that begins where the last has ended."""
        total, _, crc = _PRELUDE.unpack_from(self._held, self._seen)
        true = crc32(self._held[self._seen : self._seen + 8]) == crc
        if true and total >= _LEAST:
            self._left = total
        else:
            self._lost = self._overlong = True

    def _read(self, raw: bytes) -> tuple[bytes, str]:
        end = len(raw) - _U32.size
        if crc32(raw[:end]) != _U32.unpack_from(raw, end)[0]:
            return b"", ""
        payload = _PRELUDE.size + _PRELUDE.unpack_from(raw)[1]
        return raw[payload:end], _name(_headers(raw[_PRELUDE.size : payload]))


def _name(headers: dict[str, str]) -> str:
    kind = headers.get(":message-type")
    if kind == "error":
        return f"error {headers.get(':error-code', '')}"
    return headers.get(":exception-type" if kind == "exception" else ":event-type", "")


def _headers(block: bytes) -> dict[str, str]:
    """The headers that are strings, as far as they can be read."""
    found: dict[str, str] = {}
    place = 0
    try:
        while place < len(block):
            name_end = place + 1 + block[place]
            kind = block[name_end]
            size, start = _FIXED_SIZES.get(kind), name_end + 1
            if kind in _SIZED:
                size, start = _U16.unpack_from(block, start)[0], start + _U16.size
            if size is None:
                break
            if kind == _STRING:
                name, text = block[place + 1 : name_end], block[start : start + size]
                found[name.decode("utf-8", "replace")] = text.decode("utf-8", "replace")
            place = start + size
    except (IndexError, StructError):  # a length that reaches beyond the block
        return found
    return found
