"""One streamed answer, read as it comes: chunks of nothing but text are put off until somebody asks how much it was."""

from __future__ import annotations

import re

from budgetguard.wire.apis import Api
from budgetguard.wire.density import density_of
from budgetguard.wire.frames import Frame, Frames
from budgetguard.wire.lines import ServerSentEvents
from budgetguard.wire.reports import StreamReport

_TOKEN_BY_TOKEN = frozenset(["chat", "completions", "messages", "responses"])
"""Streams of so many small events that reading each would cost more than all else."""
_USAGE = re.compile(rb'"usage"\s*:\s*[^n\s]')
_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"')
_EVENT_ENDS = (b"\n\n", b"\r\n\r\n")
_MOST_PUT_OFF = 1024 * 1024
"""Bytes that are put off."""


class Stream:
    """One streamed answer.

    Args:
        api: what it answers.
        frames: its framing, from the beginning on.
        cuts: the extra chunk that tells the usage is not passed on.
    """

    def __init__(self, api: Api, frames: Frames, *, cuts: bool) -> None:
        self._api, self._frames, self._cuts = api, frames, cuts
        self._report = StreamReport(api)
        self._density = density_of(api)
        self._puts_off = api.kind in _TOKEN_BY_TOKEN and isinstance(frames, ServerSentEvents)
        self._put_off: list[bytes] = []
        self._put_off_bytes = self._put_off_events = 0

    def feed(self, chunk: bytes) -> bytes:
        """Take note of the next bytes; what of them, and of those held back before, is to be passed on now."""
        if self._puts_off and self._is_text(chunk):
            self._put_off.append(chunk)
            self._put_off_bytes += len(chunk)
            self._put_off_events += chunk.count(b"data:")
            if self._put_off_bytes > _MOST_PUT_OFF:
                self.report()
            return chunk
        return self._read(chunk, self._frames.feed(chunk))

    def finish(self) -> bytes:
        """It has ended; what was held back and is still to be passed on."""
        return self._read(b"", self._frames.end())

    def report(self) -> StreamReport:
        """What it says, with all that has come."""
        if self._put_off:
            whole, frames = b"".join(self._put_off), ServerSentEvents()
            self._put_off, self._put_off_bytes, self._put_off_events = [], 0, 0
            for frame in frames.feed(whole):
                self._report.feed_text(frame)
        return self._report

    @property
    def said(self) -> StreamReport:
        """What it says of usage and errors: of chunks that are put off it knows that text has come, not how much."""
        return self._report

    def reaches(self, output_tokens: int) -> bool:
        """Whether so many tokens have come; may be asked at every chunk, since it seldom has to read one."""
        said = self._report
        if said.so_far is not None and said.so_far.usage.output_tokens >= output_tokens:
            return True
        envelopes = self._put_off_events * said.envelope_bytes
        text_bytes = said.streamed_text_bytes + max(0, self._put_off_bytes - envelopes)
        about = self._density.of(2 * text_bytes, said.pieces + self._put_off_events, said.calls)
        return about >= output_tokens and self.report().streamed_tokens() >= output_tokens

    def _is_text(self, chunk: bytes) -> bool:
        """Whole events that say no more than their text, after one that showed how much of an event is text.

        Where usage was stated, the next text is read at once: what was stated is no longer the whole then.
        """
        said = self._report
        if not said.envelope_bytes or (said.so_far is not None and not said.is_behind):
            return False
        if (
            not self._frames.is_between or not chunk.endswith(_EVENT_ENDS)
            or b"error" in chunk or b"message_start" in chunk or b"[DONE]" in chunk
        ):  # fmt: skip
            return False
        return _USAGE.search(chunk) is None and _FINISHED.search(chunk) is None

    def _read(self, chunk: bytes, frames: list[Frame]) -> bytes:
        for frame in frames:
            self._report.feed(frame)
        if not self._cuts:
            return chunk
        return b"".join(frame.raw for frame in frames if not self._report.is_usage_chunk(frame))
