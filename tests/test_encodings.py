"""Content encodings are read in their order, in pieces of bounded length, and never without end."""

from __future__ import annotations

import gzip
import random
import zlib

import pytest
from guard_kit import World
from transport_kit import ASKED, JSON, Play, ledger_rows, peak

from budgetguard.encodings import Plain, decoder_of

MIB = 2**20
TEXT = b"".join(b"line %d of a body\n" % number for number in range(2_000))


def packed(body: bytes) -> bytes:
    """In gzip, without the time: the tests have the same names in every process that collects them."""
    return gzip.compress(body, mtime=0)


framed = zlib.compress
"""Deflate in zlib's frame of two bytes before it and four after."""


def read(encoding: str, body: bytes, step: int) -> bytes:
    decoder = decoder_of(encoding)
    assert decoder is not None
    return b"".join(piece for at in range(0, len(body), step) for piece in decoder.feed(body[at : at + step]))


@pytest.mark.parametrize("step", [1, 7, 1_000, 10**6])
@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("", TEXT), ("identity", TEXT), (" , ", TEXT), ("gzip", packed(TEXT)),
        ("identity, gzip", packed(TEXT)), ("GZip , identity", packed(TEXT)),
        ("gzip, gzip", packed(packed(TEXT))), ("deflate, gzip", packed(framed(TEXT)[2:-4])),
        ("deflate, x-gzip", packed(framed(TEXT))), ("gzip, deflate", framed(packed(TEXT))),
        ("gzip, gzip", packed(TEXT)), ("gzip, gzip", TEXT),  # a proxy that unpacked it and left the header
    ],
)  # fmt: skip
def test_a_body_is_read_layer_by_layer_wherever_it_is_cut(encoding: str, body: bytes, step: int) -> None:
    assert read(encoding, body, step) == TEXT


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br", "br, gzip", "gzip, gzip, gzip", "gzip gzip"])
def test_what_cannot_be_read_is_unknown(encoding: str) -> None:
    assert decoder_of(encoding) is None


def bomb() -> bytes:
    """4 GiB in some 10 kB: gzip of gzip, whose repeated block of a mebibyte is made once."""
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    head = packer.flush(zlib.Z_FULL_FLUSH) or b""
    block = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    block = block.removeprefix(head)
    again = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return gzip.compress(head + block + again * 4_095)


def unpacked(decoder: Plain, body: bytes, lengths: list[int]) -> None:
    for piece in decoder.feed(body):
        lengths.append(len(piece))


def test_a_bomb_in_two_layers_is_read_to_a_bound_and_no_further() -> None:
    decoder, lengths, body = decoder_of("gzip, gzip"), list[int](), bomb()
    assert decoder is not None and len(body) < MIB
    with pytest.raises(zlib.error):
        unpacked(decoder, body, lengths)
    assert max(lengths) <= MIB
    assert 32 * MIB < sum(lengths) <= 64 * MIB
    for rest in (b"", body, random.Random(1).randbytes(500)):
        with pytest.raises(zlib.error):
            unpacked(decoder, rest, lengths)
    assert sum(lengths) <= 64 * MIB


def test_a_bomb_in_two_layers_takes_bounded_memory_and_is_charged_the_estimate(world: World) -> None:
    body = bomb()
    play = Play([body[:900], body[900:], body], {**JSON, "content-encoding": "gzip, gzip"})
    assert peak(world, play, ASKED) < 60 * MIB
    assert ledger_rows(world)[1]["usage_source"] == "estimate"
