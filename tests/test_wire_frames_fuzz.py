"""Hostile bodies: nothing raises, no byte is lost, and what is read does not depend on how they come."""

from __future__ import annotations

import pytest
from frames_kit import FRAMINGS, aws_event, frames_of, read
from hypothesis import given
from hypothesis import strategies as st

from budgetguard.wire import framing

PIECES = [
    b"\r", b"\n", b"\r\n", b"data", b"data: ", b"event: x", b":", b" ", b"\xef\xbb\xbf", b"\x00", b"\xff", b"x",
    b"[", b"]", b"{", b"}", b'"', b"\\", b",", b"a" * 30, aws_event(b""), aws_event(b"p"), aws_event(b"p")[:13],
    aws_event(b"p")[5:], b"\x00\x00\x00\x20",
]  # fmt: skip
BODIES = st.lists(st.sampled_from(PIECES) | st.binary(max_size=3), max_size=20).map(b"".join)
CUTS = st.lists(st.integers(0, 300), max_size=8)


@pytest.mark.parametrize("kind", FRAMINGS)
@given(body=BODIES, cuts=CUTS, most=st.sampled_from([16, 40, 100, framing.MOST_FRAME]))
def test_any_bytes_in_any_pieces(kind: str, body: bytes, cuts: list[int], most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(framing, "MOST_FRAME", most)
        pieces = frames_of(FRAMINGS[kind], body, sorted(min(cut, len(body)) for cut in cuts))
        whole = frames_of(FRAMINGS[kind], body)
    assert read(pieces) == read(whole)
    if most == framing.MOST_FRAME and kind != "aws_eventstream":
        assert pieces == whole


@given(changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4), cuts=CUTS)
def test_aws_messages_with_bytes_changed(changes: list[tuple[int, int]], cuts: list[int]) -> None:
    body = bytearray(b"".join(aws_event(b'{"a": %d}' % number) for number in range(4)))
    for place, value in changes:
        body[place % len(body)] = value
    pieces = frames_of(FRAMINGS["aws_eventstream"], bytes(body), sorted(min(cut, len(body)) for cut in cuts))
    assert read(pieces) == read(frames_of(FRAMINGS["aws_eventstream"], bytes(body)))
    assert read(pieces) == [event for event in read(pieces) if event[1] == "chunk" and event[0].startswith(b'{"a"')]
