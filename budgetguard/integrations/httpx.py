"""A transport for httpx2 and httpx that holds every call to its budgets: async and sync, around the same `Exchange`.

    client = httpx2.AsyncClient(transport=BudgetTransport(guard, httpx2.AsyncHTTPTransport()))

Bytes are passed on as they come. Settling waits for the store before the end of the answer is told.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from budgetguard.encodings import READABLE
from budgetguard.errors import BudgetGuardError
from budgetguard.exchange import Exchange
from budgetguard.integrations.refusals import for_sdks

if TYPE_CHECKING:
    from budgetguard.clients import Clients

_LIBRARIES = ("httpx", "httpx2")
_SIGNED = "AWS4-"
_OF_PACKED = frozenset([b"content-length", b"transfer-encoding", b"content-encoding"])
_REWRITTEN = frozenset([b"content-length", b"transfer-encoding", b"accept-encoding"])


class BudgetTransport:
    """Guards what goes through another transport.

    For SDKs `Guard.wrap` and `Guard.http_clients` do more: some (Groq's, Together's) retry what a transport raises.

    Args:
        guard: whose budgets.
        inner: sends the requests; async or sync, of httpx2 or of httpx.
        labels: of every call, unless it or `acting_as` says otherwise.

    Raises (when a request is sent):
        BudgetExceeded, CallRefused, StoreError: as `Guard.reserve`; also errors of the SDKs that are imported.
    """

    def __init__(self, guard: Clients, inner: Any, **labels: str) -> None:
        self.guard = guard
        self.labels: Mapping[str, str] = labels
        self._inner = inner

    def __repr__(self) -> str:
        return f"<BudgetTransport over {self._inner!r}>"

    async def handle_async_request(self, request: Any) -> Any:
        """Send one request of an `AsyncClient`."""
        url = str(request.url)
        try:
            api = self.guard.guarded_api(request.method, url, self.labels)
            if api is not None:
                exchange = self.guard.exchange(api, url, await request.aread(), self.labels)
                await exchange.admit()
        except BudgetGuardError as error:
            raise for_sdks(error) from error.__cause__
        if api is None:
            return await self._inner.handle_async_request(request)
        try:
            response = await self._inner.handle_async_request(_adapted(request, exchange))
        except BaseException as error:
            await exchange.end(error)
            raise
        return _observed(response, exchange, self.guard)

    def handle_request(self, request: Any) -> Any:
        """Send one request of a `Client`."""
        url = str(request.url)
        try:
            api = self.guard.guarded_api(request.method, url, self.labels)
            if api is not None:
                exchange = self.guard.exchange(api, url, request.read(), self.labels)
                self.guard.sync.run(exchange.admit)
        except BudgetGuardError as error:
            raise for_sdks(error) from error.__cause__
        if api is None:
            return self._inner.handle_request(request)
        try:
            response = self._inner.handle_request(_adapted(request, exchange))
        except BaseException as error:
            self.guard.sync.run(exchange.end, error)
            raise
        return _observed(response, exchange, self.guard)

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()

    def close(self) -> None:
        """Close the inner transport."""
        self._inner.close()

    async def __aenter__(self) -> BudgetTransport:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._inner.__aexit__(*error)

    def __enter__(self) -> BudgetTransport:
        self._inner.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._inner.__exit__(*error)


def _adapted(request: Any, exchange: Exchange) -> Any:
    """The request as it is sent: asked for what the guard needs, in an encoding that it can read."""
    if request.headers.get("authorization", "").startswith(_SIGNED):
        return request  # as it is: its signature covers its headers and its body
    accepted = request.headers.get("accept-encoding", "")
    readable = "identity" if exchange.hides_usage else READABLE
    if exchange.content == request.content and accepted in (readable, "identity", ""):
        return request
    headers = [(name, value) for name, value in request.headers.raw if name.lower() not in _REWRITTEN]
    headers.append((b"accept-encoding", readable.encode()))
    return type(request)(
        request.method, request.url, headers=headers, content=exchange.content, extensions=request.extensions
    )


def _observed(response: Any, exchange: Exchange, guard: Clients) -> Any:
    """The response, its body read as it passes."""
    if response.is_closed and response.is_stream_consumed:
        response = _unread(response)
    headers = {name.lower(): value for name, value in response.headers.items()}
    answer = exchange.answered(response.status_code, headers)
    if answer.unpacks:
        del response.headers["content-encoding"]
    if answer.cuts and "content-length" in response.headers:
        del response.headers["content-length"]
    library = next(name for kind in type(response).__mro__ if (name := kind.__module__.partition(".")[0]) in _LIBRARIES)
    response.stream = _body_kind(library)(response.stream, exchange, guard)
    return response


def _unread(whole: Any) -> Any:
    """The same answer as one that came is: nobody would read that of a transport that has read it all already.

    Its content is unpacked, as these libraries keep it.
    """
    headers = [(name, value) for name, value in whole.headers.raw if name.lower() not in _OF_PACKED]
    content = type(whole)(200, content=whole.content)
    return type(whole)(whole.status_code, headers=headers, stream=content.stream, extensions=whole.extensions)


class _Body:
    """The body of a response on its way to the caller; its exchange is ended once, however it ends."""

    def __init__(self, inner: Any, exchange: Exchange, guard: Clients) -> None:
        self._inner, self._exchange, self._guard = inner, exchange, guard

    async def __aiter__(self) -> AsyncIterator[bytes]:
        exchange, answer = self._exchange, self._exchange.observed
        try:
            async for chunk in self._inner:
                if passed := answer.feed(chunk):
                    yield passed
                if exchange.is_short():
                    await exchange.keep_ahead()
            if passed := answer.finish():
                yield passed
        except GeneratorExit:  # the caller has left: `aclose` tells, or its hold when nobody has it any more
            raise
        except BaseException as error:
            await exchange.end(error)
            if isinstance(error, BudgetGuardError):
                raise for_sdks(error) from error.__cause__
            raise
        await exchange.end(None)

    async def aclose(self) -> None:
        """Let go of the connection; what was not read by now is not read any more."""
        try:
            await self._inner.aclose()
        finally:
            await self._exchange.end(GeneratorExit())

    def __iter__(self) -> Iterator[bytes]:
        exchange, answer, run = self._exchange, self._exchange.observed, self._guard.sync.run
        try:
            for chunk in self._inner:
                if passed := answer.feed(chunk):
                    yield passed
                if exchange.is_short():
                    run(exchange.keep_ahead)
            if passed := answer.finish():
                yield passed
        except GeneratorExit:
            raise
        except BaseException as error:
            run(exchange.end, error)
            if isinstance(error, BudgetGuardError):
                raise for_sdks(error) from error.__cause__
            raise
        run(exchange.end, None)

    def close(self) -> None:
        """As `aclose`."""
        try:
            self._inner.close()
        finally:
            self._guard.sync.run(self._exchange.end, GeneratorExit())


@cache
def _body_kind(library: str) -> type[_Body]:
    """Bodies that are streams of one library, which both checks that they are."""
    module = sys.modules[library]
    return type("Body", (_Body, module.AsyncByteStream, module.SyncByteStream), {})
