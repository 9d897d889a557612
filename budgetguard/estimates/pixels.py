"""The size of an image, read from the first bytes of its file.

Sources: PNG (RFC 2083, 11.2.2), JPEG (ITU T.81, B.2.2), GIF89a (section 18), WebP (RFC 9649).
"""

from __future__ import annotations

import binascii

_HEAD_CHARS = 131_072
"""Of base64: a JPEG says its size behind its metadata, at most 64 KB for each block of them."""
_MOST_BLOCKS = 100
_NO_SIZE = frozenset((0xC4, 0xC8, 0xCC))
"""JPEG's blocks between C0 and CF that are no frame header."""


def pixels(base64: str) -> tuple[int, int] | None:
    """Width and height of a PNG, JPEG, GIF or WebP in base64; None where they cannot be read."""
    text = base64[: len(base64) // 4 * 4] if len(base64) < _HEAD_CHARS else base64[:_HEAD_CHARS]
    try:
        head = binascii.a2b_base64(text)
    except ValueError:
        return None
    size = None
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        size = _number(head[16:20]), _number(head[20:24])
    elif head.startswith(b"\xff\xd8"):
        size = _of_jpeg(head)
    elif head.startswith(b"GIF8"):
        size = _number(head[7:5:-1]), _number(head[9:7:-1])
    elif head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        size = _of_webp(head)
    return size if size and min(size) > 0 else None


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _of_jpeg(head: bytes) -> tuple[int, int] | None:
    place = 2
    for _ in range(_MOST_BLOCKS):
        if head[place : place + 1] != b"\xff" or place + 9 > len(head):
            return None
        marker = head[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in _NO_SIZE:
            return _number(head[place + 7 : place + 9]), _number(head[place + 5 : place + 7])
        place += 2 + _number(head[place + 2 : place + 4])
    return None


def _of_webp(head: bytes) -> tuple[int, int] | None:
    if len(head) < 30:
        return None
    if head[12:16] == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    bits = int.from_bytes(head[26:30], "little")
    return bits & 0x3FFF, bits >> 16 & 0x3FFF
