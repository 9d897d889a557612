"""The answer to one request, as its bytes come: what it has used so far, and what of it is passed on."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

from budgetguard.core.amounts import MAX_AMOUNT
from budgetguard.encodings import Plain, decoder_of
from budgetguard.parts import Charge
from budgetguard.usage import Usage
from budgetguard.wire.asked import Asked
from budgetguard.wire.bodies import Body
from budgetguard.wire.frames import Frame, frames_for
from budgetguard.wire.reports import Reported, reported
from budgetguard.wire.statements import error_of
from budgetguard.wire.stream import Stream

_REDIRECTED = 300
DOUBT = 4
"""What is counted in a stream is rather too much, of a short one most of all: the recorded streams that kept to their
bound counted up to 2.4 times of it. Only at so many times its bound is the bound not believed."""


class Answer:
    """One response.

    Args:
        request: what it answers.
        estimate: of the request, whose input stands where the answer does not tell it.
        headers: of the response, by lower-case name.
        hides_usage: the caller has not asked for the chunk that tells the usage, and is not to see it.
        bound: the output that the request allows at most, None where it does not say.
        passed_ms: how long ago the request was admitted.
    """

    def __init__(
        self, request: Asked, estimate: Usage, status: int, headers: Mapping[str, str], *, hides_usage: bool,
        bound: int | None, passed_ms: Callable[[], int],
    ) -> None:  # fmt: skip
        self.status = status
        self.is_success = status < _REDIRECTED
        """The request was carried out: neither turned away nor sent elsewhere."""
        self._request, self._estimate, self._headers, self._bound = request, estimate, headers, bound
        self._decoder = decoder_of(headers.get("content-encoding", "")) if self.is_success else None
        media = headers.get("content-type", "")
        frames = frames_for(media, request.api.kind, streams=request.streams) if self._decoder else None
        self.cuts = hides_usage and frames is not None
        """What is passed on lacks a part of what came."""
        self._stream = None if frames is None else Stream(request.api, frames, cuts=self.cuts)
        self.unpacks = self.cuts and self._decoder is not None and self._decoder.is_packed
        """What is passed on is no longer compressed, as it came."""
        self._passed_ms = passed_ms
        self._first_token_ms: int | None = None
        self._body = Body()

    @property
    def is_stream(self) -> bool:
        """It comes event by event."""
        return self._stream is not None

    def feed(self, chunk: bytes) -> bytes:
        """Take note of the next bytes; what of them, and of those held back before, is to be passed on now.

        Raises:
            zlib.error: what is to be passed on cannot be unpacked.
        """
        if self._decoder is None:
            return chunk
        return self._unpacked(self._decoder, chunk) if self._decoder.is_packed else self._take(chunk)

    def finish(self) -> bytes:
        """The body has ended; what was held back and is still to be passed on."""
        passed = b"" if self._stream is None else self._stream.finish()
        return passed if self.cuts else b""

    def charge(self) -> Charge | None:
        """What the answer says for good; None where it does not."""
        said = self._reported() if self._stream is None else self._stream.said.reported
        return None if said is None else Charge(said.usage, "reported", said.model, said.others)

    def so_far(self) -> Charge:
        """What it has said by now or, if that is more, the input and the tokens counted in what was streamed."""
        known = self.charge()
        if known is not None:
            return known
        said = None if self._stream is None else self._stream.said.so_far
        output_tokens = self.streamed_tokens()
        if said is None:
            return Charge(Usage(self._estimate.input_tokens, output_tokens), "counted")
        usage = said.usage
        input_tokens = usage.input_tokens or self._estimate.input_tokens
        output_tokens = min(output_tokens, MAX_AMOUNT - input_tokens)
        counted = Usage(
            input_tokens, output_tokens, usage.cache_read_tokens, usage.cache_write_tokens,
            usage.cache_write_1h_tokens, min(usage.reasoning_tokens, output_tokens),
        )  # fmt: skip
        return Charge(counted, "counted", said.model, said.others)

    def timed(self, charge: Charge) -> Charge:
        """The same with what is known of its time."""
        return charge._replace(streamed=self.is_stream, first_token_ms=self._first_token_ms)

    def reaches(self, output_tokens: int) -> bool:
        """Whether so much of a stream's output has come; may be asked after every chunk."""
        bound = self._bound
        if self._stream is None:
            return False
        if bound is None or output_tokens != bound:
            return self._stream.reaches(output_tokens)
        return self._stream.reaches(DOUBT * bound) or self._stated() > bound

    def streamed_tokens(self) -> int:
        """The output of a stream that has come by now."""
        if self._stream is None:
            return 0
        counted, bound = self._stream.report().streamed_tokens(), self._bound
        if bound is not None and counted < DOUBT * bound:
            counted = min(counted, bound)
        return max(counted, self._stated())

    def _stated(self) -> int:
        """The output that a stream has stated by now."""
        said = None if self._stream is None else self._stream.said.so_far
        return 0 if said is None else said.usage.output_tokens

    @property
    def error(self) -> str | None:
        """The code of an error that came inside a stream, or instead of the body that a status of success promised."""
        if self._stream is not None:
            return self._stream.said.error
        return error_of(Frame(b"", b""), self._body.members()) if self.charge() is None else None

    def _unpacked(self, decoder: Plain, chunk: bytes) -> bytes:
        passed = bytearray()
        try:
            for piece in decoder.feed(chunk):
                taken = self._take(piece)
                if self.cuts:
                    passed += taken
        except zlib.error:  # where it is passed on as it came, whoever reads it will find out
            if self.unpacks:
                raise
        return bytes(passed) if self.cuts else chunk

    def _take(self, piece: bytes) -> bytes:
        if self._stream is not None:
            passed = self._stream.feed(piece)
            if self._first_token_ms is None and self._stream.said.pieces:
                self._first_token_ms = self._passed_ms()
            return passed
        self._body.add(piece)
        return piece

    def _reported(self) -> Reported | None:
        return reported(self._request.api, self._body.members(), self._headers) if self.is_success else None
