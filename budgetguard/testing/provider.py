"""A local provider that speaks any API it is given replies of, and OpenAI chat by itself, and keeps its own bill."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Self

from budgetguard.core.amounts import check_amount
from budgetguard.testing.bill import Bill, BilledCall, ProviderPrice, check_prices
from budgetguard.testing.billing import billed_call
from budgetguard.testing.chat import answer_request, list_models
from budgetguard.testing.http import HttpFault, HttpRequest
from budgetguard.testing.recorded import Recorded, Recordings
from budgetguard.testing.reply import Reply
from budgetguard.testing.server import HOST, Server

MOST_REQUESTS = 1_000
"""How many of the last requests are kept."""


class _Fault(NamedTuple):
    kind: Literal["fail", "hang", "cut"]
    number: int = 0


class FakeProvider(Server):
    """Serves on the loopback interface, inside `async with`; `FakeProvider.in_thread` for synchronous callers.

    A request gets the next of `reply_next`, else the one of `replay` that was recorded for it, else, if it is
    `POST /v1/chat/completions` for a model that has a price, an answer that follows from its messages and a seed.

    A call is billed when it arrives, before the latency and before the first byte of its answer, so a client that
    goes away afterwards has been billed all the same, for the whole answer; a chat stream that `cut_next` cuts is
    billed for its input and the tokens that it sent. Each call is joined to the client's books by its `x-request-id`.
    `latency_ms` (before an answer) and `chunk_interval_ms` (before each event of a stream) may be changed at any time.

    Args:
        prices: what each model costs; of others only the cost that an answer states is known.
        port: 0 takes a free one; `port` tells which.
        bill_path: the file that gets a line of JSON for each billed call (see `read_bill`).
        seed: of the lengths of the answers that it makes itself.

    Raises:
        InvalidAmount: a price, a latency or a fault's number is not a whole number; names it.
        OSError: the port is taken, or the bill's file can't be written.
    """

    def __init__(
        self,
        prices: Mapping[str, ProviderPrice] = MappingProxyType({}),
        *,
        port: int = 0,
        bill_path: Path | None = None,
        latency_ms: int = 0,
        chunk_interval_ms: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            port, check_amount(latency_ms, "latency_ms"), check_amount(chunk_interval_ms, "chunk_interval_ms")
        )
        self.prices = check_prices(prices)
        self.received = 0
        """How many requests have come in since the start, but for those that list the models."""
        self._bill = Bill(bill_path)
        self._seed = seed
        self._planned: deque[Reply | _Fault] = deque()
        self._recordings = Recordings()
        self._requests: deque[HttpRequest] = deque(maxlen=MOST_REQUESTS)
        self._arrival = asyncio.Condition()

    @classmethod
    @contextlib.contextmanager
    def in_thread(cls, *args: Any, **options: Any) -> Iterator[Self]:
        """Serve from a thread of its own inside `with`, for callers without an event loop; arguments as the class's."""
        from anyio.from_thread import start_blocking_portal

        provider = cls(*args, **options)
        with start_blocking_portal() as portal, portal.wrap_async_context_manager(provider):
            yield provider

    @property
    def bill(self) -> list[BilledCall]:
        """Every billed call, in the order of billing."""
        return list(self._bill.calls)

    @property
    def requests(self) -> list[HttpRequest]:
        """The last thousand requests, as they came, the newest last."""
        return list(self._requests)

    @property
    def url(self) -> str:
        """Scheme, host and port; known inside the block."""
        return f"http://{HOST}:{self.port}"

    @property
    def base_url(self) -> str:
        """What a client of OpenAI's API takes as its base URL; known inside the block."""
        return f"{self.url}/v1"

    def reply_next(self, *replies: Reply) -> None:
        """Answer the next requests with these, one each, whatever they ask; after the faults asked for before."""
        self._planned.extend(replies)

    def replay(self, exchanges: Iterable[Recorded]) -> None:
        """Answer requests that were recorded as they were recorded, from now on, any number of times."""
        self._recordings.add(exchanges)

    def fail_next(self, status: int) -> None:
        """Answer the next request without another fault with this HTTP status; it is not billed."""
        self._planned.append(_Fault("fail", check_amount(status, "status")))

    def hang_next(self) -> None:
        """Bill the next request without another fault, and never answer it."""
        self._planned.append(_Fault("hang"))

    def cut_next(self, after_chunks: int) -> None:
        """Close the connection of the next request without another fault, after so many events of its stream.

        One that does not stream is billed whole and gets no answer at all.
        """
        self._planned.append(_Fault("cut", check_amount(after_chunks, "after_chunks")))

    async def wait_received(self, count: int) -> None:
        """Wait until `count` requests have come in since the start, whatever became of them.

        Only in the event loop that serves, not with `in_thread`.
        """
        async with self._arrival:
            await self._arrival.wait_for(lambda: self.received >= count)

    async def _answer(self, request: HttpRequest) -> Reply:
        if (request.method, request.path) == ("GET", "/v1/models"):
            return Reply.json(list_models(self.prices), billed=None, latency_ms=0)
        async with self._arrival:
            self.received += 1
            self._requests.append(request)
            self._arrival.notify_all()
        planned = self._planned.popleft() if self._planned else None
        reply = planned if isinstance(planned, Reply) else self._reply(request, planned)
        call = billed_call(request, reply, self.prices, len(self._bill.calls) + 1)
        if call is not None:
            self._bill.add(call)
        return reply

    def _reply(self, request: HttpRequest, fault: _Fault | None) -> Reply:
        if fault is not None and fault.kind == "fail":
            raise HttpFault(fault.number, "this failure was asked for with fail_next", "fail_next")
        cut_after = fault.number if fault is not None and fault.kind == "cut" else None
        reply = self._recordings.reply_to(request)
        if reply is None:
            return self._scripted(request, fault, cut_after)
        if cut_after is not None:
            return reply.cut_after(cut_after)
        return replace(reply, hang=True) if fault is not None else reply

    def _scripted(self, request: HttpRequest, fault: _Fault | None, cut_after: int | None) -> Reply:
        if (request.method, request.path) != ("POST", "/v1/chat/completions") or not self.prices:
            kept = len(self._recordings)
            known = f", and is none of the {kept} recorded requests" if kept else ""
            raise HttpFault(404, f"{request.method} {request.target} is not served here{known}", "unknown_url")
        answer = answer_request(request, self.prices, self._seed)
        reply = answer.reply(f"chatcmpl-{len(self._bill.calls) + 1}", cut_after)
        return reply if fault is None or cut_after is not None else replace(reply, hang=True)
