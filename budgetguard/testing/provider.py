"""A local provider that speaks the OpenAI chat API and keeps its own bill, to hold a ledger against."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self

from budgetguard.core.amounts import check_amount
from budgetguard.testing.bill import Bill, BilledCall, ProviderPrice, check_prices
from budgetguard.testing.chat import CREATED_S, Answer, answer_request
from budgetguard.testing.http import (
    HttpFault,
    HttpRequest,
    end_events,
    read_request,
    send_event,
    send_json,
    start_events,
)

HOST = "127.0.0.1"


class _Fault(NamedTuple):
    kind: Literal["fail", "hang", "cut"]
    number: int = 0


class FakeProvider:
    """Serves `POST /v1/chat/completions` and `GET /v1/models` on the loopback interface, inside `async with`.

    A call is billed when it arrives, before the latency and before the first byte of its answer, so a client that
    goes away afterwards has been billed all the same, for the whole answer; a stream that `cut_next` cuts is billed
    for its input and the tokens that it sent. Each call is joined to the client's books by its `x-request-id`.
    `latency_ms` (before an answer) and `chunk_interval_ms` (before each token of a stream) may be changed at any time.

    Args:
        prices: what each model costs; others are unknown models.
        port: 0 takes a free one; `port` tells which.
        bill_path: the file that gets a line of JSON for each billed call (see `read_bill`).
        seed: of the answers' lengths.

    Raises:
        InvalidAmount: a price, a latency or a fault's number is not a whole number; names it.
        OSError: the port is taken, or the bill's file can't be written.
    """

    def __init__(
        self,
        prices: Mapping[str, ProviderPrice],
        *,
        port: int = 0,
        bill_path: Path | None = None,
        latency_ms: int = 0,
        chunk_interval_ms: int = 0,
        seed: int = 0,
    ) -> None:
        self.prices = check_prices(prices)
        self.port = port
        self.latency_ms = check_amount(latency_ms, "latency_ms")
        self.chunk_interval_ms = check_amount(chunk_interval_ms, "chunk_interval_ms")
        self.received = 0
        self._bill = Bill(bill_path)
        self._seed = seed
        self._faults: deque[_Fault] = deque()
        self._arrival = asyncio.Condition()
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def bill(self) -> list[BilledCall]:
        """Every billed call, in the order of billing."""
        return list(self._bill.calls)

    @property
    def base_url(self) -> str:
        """What a client takes as its base URL; known inside the block."""
        return f"http://{HOST}:{self.port}/v1"

    def fail_next(self, status: int) -> None:
        """Answer the next chat request without another fault with this HTTP status; it is not billed."""
        self._faults.append(_Fault("fail", check_amount(status, "status")))

    def hang_next(self) -> None:
        """Bill the next chat request without another fault, and never answer it."""
        self._faults.append(_Fault("hang"))

    def cut_next(self, after_chunks: int) -> None:
        """Close the connection of the next chat request without another fault, after so many tokens of its stream.

        One that does not stream is billed whole and gets no answer at all.
        """
        self._faults.append(_Fault("cut", check_amount(after_chunks, "after_chunks")))

    async def wait_received(self, count: int) -> None:
        """Wait until `count` chat requests have come in since the start, whatever became of them."""
        async with self._arrival:
            await self._arrival.wait_for(lambda: self.received >= count)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            await self._server.wait_closed()
            self._server = None

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of our own: asyncio 3.11 prints a traceback for a connection's task that was cancelled.
        connection = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(high=0)  # drain() then means sent, and abort() loses nothing
        try:
            await self._converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away, which is its right
        finally:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        going_on = True
        while going_on:
            try:
                request = await read_request(reader)
            except HttpFault as fault:
                await _send_error(writer, fault, {"connection": "close"})
                return
            if request is None:
                return
            echoed = {"x-request-id": request.headers["x-request-id"]} if "x-request-id" in request.headers else {}
            try:
                going_on = await self._respond(request, reader, writer, echoed)
            except HttpFault as fault:
                await _send_error(writer, fault, echoed)

    async def _respond(
        self,
        request: HttpRequest,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        headers: Mapping[str, str],
    ) -> bool:
        """Answer one request; False once the connection is to be closed."""
        route = (request.method, request.path)
        if route == ("GET", "/v1/models"):
            models = [
                {"id": model, "object": "model", "created": CREATED_S, "owned_by": "budgetguard"}
                for model in self.prices
            ]
            await send_json(writer, 200, {"object": "list", "data": models}, headers)
            return True
        if route != ("POST", "/v1/chat/completions"):
            raise HttpFault(404, f"{request.method} {request.path} is not served here", "unknown_url")
        fault = await self._arrived()
        if fault is not None and fault.kind == "fail":
            raise HttpFault(fault.number, "this failure was asked for with fail_next", "fail_next")
        answer = answer_request(request, self.prices, self._seed)
        cut_after = fault.number if fault is not None and fault.kind == "cut" else None
        call = self._billed(answer, cut_after, request.headers.get("x-request-id"))
        await asyncio.sleep(self.latency_ms / 1000)
        if fault is not None and fault.kind == "hang":
            await reader.read()  # until the client gives up
            return False
        if answer.stream:
            return await self._stream(answer, call, cut_after, writer, headers)
        if cut_after is None:
            await send_json(writer, 200, answer.body(call.id), headers)
        return cut_after is None

    async def _arrived(self) -> _Fault | None:
        async with self._arrival:
            self.received += 1
            self._arrival.notify_all()
        return self._faults.popleft() if self._faults else None

    def _billed(self, answer: Answer, cut_after: int | None, request_id: str | None) -> BilledCall:
        sent = answer.tokens if cut_after is None or not answer.stream else min(cut_after, answer.tokens)
        cost_nanousd = self.prices[answer.model].cost_nanousd(answer.input_tokens, sent)
        call_id = f"chatcmpl-{len(self._bill.calls) + 1}"
        call = BilledCall(call_id, answer.model, answer.input_tokens, sent, cost_nanousd, request_id)
        self._bill.add(call)
        return call

    async def _stream(
        self,
        answer: Answer,
        call: BilledCall,
        cut_after: int | None,
        writer: asyncio.StreamWriter,
        headers: Mapping[str, str],
    ) -> bool:
        await start_events(writer, headers)
        for sent, chunk in enumerate(answer.chunks(call.id)):
            if sent == cut_after:
                return False
            await asyncio.sleep(self.chunk_interval_ms / 1000)
            await send_event(writer, json.dumps(chunk))
        if cut_after is not None:
            return False
        for chunk in answer.last_chunks(call.id):
            await send_event(writer, json.dumps(chunk))
        await send_event(writer, "[DONE]")
        await end_events(writer)
        return True


async def _send_error(writer: asyncio.StreamWriter, fault: HttpFault, headers: Mapping[str, str]) -> None:
    kind = "invalid_request_error" if fault.status < 500 else "server_error"
    error = {"message": fault.message, "type": kind, "param": None, "code": fault.code}
    await send_json(writer, fault.status, {"error": error}, headers)
