"""A stream of which chunks are put off says the same as one that is read event by event, at every place."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from wire_kit import exchanges
from wire_truth import STREAMS, api_of, frames_of

from budgetguard.wire.apis import Api
from budgetguard.wire.frames import Frame, frames_for
from budgetguard.wire.lines import ServerSentEvents
from budgetguard.wire.reports import StreamReport
from budgetguard.wire.stream import Stream


def groups(frames: list[Frame], dice: random.Random) -> Iterator[list[Frame]]:
    """Events, a few at a time, as they come from a connection."""
    while frames:
        count = dice.choice([1, 1, 1, 2, 5])
        yield frames[:count]
        frames = frames[count:]


@pytest.mark.parametrize("cuts", [True, False])
def test_reading_later_is_reading_the_same(cuts: bool) -> None:
    """Over every recorded stream, in chunks of whole events and now and then of half a one."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    looked = 0
    for row in exchanges():
        if not (row["stream"] and row["stream_format"]):
            continue
        found = frames_for(STREAMS[row["stream_format"]], api_of(row).kind, streams=True)
        assert found is not None
        stream, eager, passed, wanted = Stream(api_of(row), found, cuts=cuts), StreamReport(api_of(row)), b"", b""
        for some in groups(frames_of(row), dice):
            chunk = b"".join(frame.raw for frame in some)
            middle = dice.randrange(len(chunk) + 1) if dice.random() < 0.2 else len(chunk)
            passed += stream.feed(chunk[:middle]) + stream.feed(chunk[middle:])
            for frame in some:
                eager.feed(frame)
                wanted += b"" if cuts and eager.is_usage_chunk(frame) else frame.raw
            if dice.random() < 0.1:
                same(stream, eager)
                looked += 1
        assert passed + stream.finish() == wanted
        same(stream, eager)
    assert looked > 100


def test_cut_anywhere_it_says_the_same() -> None:
    """A short stream in three chunks, the second and the third cut at every byte."""
    text, last = (
        b'data: {"choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": %s}], "usage": %s}\n\n'
        % (reason, usage)
        for reason, usage in ((b"null", b"null"), (b'"stop"', b'{"prompt_tokens": 5, "completion_tokens": 2}'))
    )
    body = text + last
    for place in range(len(body) + 1):
        stream, eager = (Stream(Api("chat", "openai"), ServerSentEvents(), cuts=False) for _ in range(2))
        for chunk in (text, body[:place], body[place:]):
            stream.feed(chunk)
        for frame in ServerSentEvents().feed(text + body):
            eager.said.feed(frame)
        assert stream.said.reported is not None
        same(stream, eager.said)


def same(stream: Stream, eager: StreamReport) -> None:
    """What is said of usage and errors is known at once; of the text, when it is asked for."""
    assert (stream.said.reported, stream.said.so_far, stream.said.error) == (eager.reported, eager.so_far, eager.error)
    report = stream.report()
    assert (report.streamed_text_bytes, report.pieces, report.calls) == (
        eager.streamed_text_bytes, eager.pieces, eager.calls,
    )  # fmt: skip
    tokens = max(eager.streamed_tokens(), eager.so_far.usage.output_tokens if eager.so_far else 0)
    assert not stream.reaches(tokens + 1)
    assert stream.reaches(tokens) or not tokens


def test_that_a_stream_reaches_a_number_of_tokens_is_seen_at_once() -> None:
    """Asked after every chunk, as whoever makes the hold grow does."""
    asked, eager = (Stream(Api("chat", "openai"), ServerSentEvents(), cuts=False) for _ in range(2))
    for number in range(1, 1_000):
        for stream in (asked, eager):
            stream.feed(b'data: {"choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": null}]}\n\n')
        reached = asked.reaches(100)
        assert reached == (eager.report().streamed_tokens() >= 100), number
        if reached:
            return
    pytest.fail("it never came")
