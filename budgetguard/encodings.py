"""Content encodings: a body as it was before it was compressed, in pieces of bounded length."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Iterator, Sequence

READABLE = "gzip, deflate"
"""The content encodings that can be read here."""
_INFLATED = ("gzip", "x-gzip", "deflate")
_AT_ONCE = 1024 * 1024
_MOST_LAYERS = 2
_MOST_NESTED = 64 * 1024 * 1024
"""Bytes that are read of a body in two layers: a thousand of them may stand for a billion."""
_HEADS_OF_ZLIB = (8, 15)
"""The lower half of the first byte of zlib's and gzip's formats, which deflate's own blocks never begin with."""


class Plain:
    """A body that is not compressed."""

    is_packed = False

    def feed(self, chunk: bytes) -> Iterable[bytes]:
        """The next bytes, as they are."""
        return (chunk,)


class Inflater(Plain):
    """A body in gzip or deflate; one of which this is not true is taken as it is.

    Args:
        raw: servers that say deflate may leave out zlib's frame (RFC 9110, 8.4.1.2).
    """

    is_packed = True

    def __init__(self, raw: bool) -> None:
        self._raw = raw
        self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
        self._head = bytearray()
        """What came before anything could be told from it."""
        self._is_true: bool | None = None

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """What the next bytes were before they were compressed.

        Raises:
            zlib.error: the body is spoiled; nothing more can be read of it.
        """
        if self._is_true is None and chunk:
            chunk = self._begun(chunk)
        if self._is_true is False:
            yield chunk
            return
        while chunk:
            yield self._inflater.decompress(chunk, _AT_ONCE)
            chunk = self._inflater.unconsumed_tail

    def _begun(self, chunk: bytes) -> bytes:
        """Find out from its first two bytes what the body is; what of it is to be read now."""
        if self._raw and not self._head and chunk[0] & 15 not in _HEADS_OF_ZLIB:
            self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            self._is_true = True
            return chunk
        self._head += chunk
        if len(self._head) < 2:
            return b""
        head = bytes(self._head)
        self._is_true = head[:2] == b"\x1f\x8b" or (head[0] & 15 == 8 and (head[0] << 8 | head[1]) % 31 == 0)
        return head


class Nested(Plain):
    """A body that was compressed twice; the layer that came last is the first of `layers`."""

    is_packed = True

    def __init__(self, layers: Sequence[Plain]) -> None:
        self._layers = layers
        self._left_bytes = _MOST_NESTED

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """What the next bytes were before they were compressed.

        Raises:
            zlib.error: the body is spoiled or too long; nothing more can be read of it.
        """
        pieces: Iterable[bytes] = (chunk,) if self._left_bytes >= 0 else ()
        for layer in self._layers:
            pieces = itertools.chain.from_iterable(map(layer.feed, pieces))
        for piece in pieces:
            self._left_bytes -= len(piece)
            if self._left_bytes < 0:
                break
            yield piece
        if self._left_bytes < 0:
            raise zlib.error("too long a body in two layers of compression")


def decoder_of(encoding: str) -> Plain | None:
    """What reads a body with this `content-encoding`, which lists the layers in their order; None where it cannot be
    read here.
    """
    names = [name for part in encoding.split(",") if (name := part.strip().lower()) not in ("", "identity")]
    if len(names) > _MOST_LAYERS or not all(name in _INFLATED for name in names):
        return None
    layers = [Inflater(raw=name == "deflate") for name in reversed(names)]
    return Nested(layers) if len(layers) > 1 else layers[0] if layers else Plain()
