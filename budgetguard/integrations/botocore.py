"""`guard.wrap` for boto3's `bedrock-runtime` client: converse, invoke_model and their streams.

botocore makes a signed request for each attempt, and sends it; a stream is read by the caller. The copy of a client has
an endpoint of its own, which asks the guard before it signs (what the guard writes into a body is signed with it) and
observes what is read. Everything else, the connections too, is shared with the client that was given.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from budgetguard.errors import BudgetGuardError
from budgetguard.exchange import Exchange

if TYPE_CHECKING:
    from budgetguard.clients import Clients

_SERVICE = "bedrock-runtime"


def wrap(guard: Clients, client: Any, labels: Mapping[str, str]) -> Any:
    """A guarded copy. Errors: those of `Guard.wrap`."""
    service = getattr(getattr(getattr(client, "meta", None), "service_model", None), "service_name", "")
    if service != _SERVICE:
        raise TypeError(f"of boto3's clients guard.wrap takes {_SERVICE}, not {service or type(client).__name__}")
    if hasattr(client._endpoint, "_budgetguard"):
        raise TypeError("this client is guarded already: wrap the one that it was made from")
    endpoint = _copied(client._endpoint, _guarded(cast("Hashable", type(client._endpoint))))
    endpoint._budgetguard = _Gate(guard, labels)
    made = _copied(client, type(client))
    made._endpoint = endpoint
    return made


def _copied(original: Any, kind: Any) -> Any:
    """A shallow copy; `copy.copy` stumbles over the `__getattr__` of botocore's clients."""
    made = object.__new__(kind)
    made.__dict__.update(original.__dict__)
    return made


class _Gate:
    """The exchanges of one client that are about to be sent."""

    def __init__(self, guard: Clients, labels: Mapping[str, str]) -> None:
        self._guard, self._labels = guard, labels
        self._made: weakref.WeakKeyDictionary[Any, Exchange] = weakref.WeakKeyDictionary()

    def signed(self, params: Mapping[str, Any], sign: Callable[[Mapping[str, Any]], Any]) -> Any:
        """The request of one attempt, its body as the guard wants it."""
        api, body = self._guard.guarded_api(params["method"], params["url"], self._labels), params["body"]
        if api is None:
            return sign(params)
        content = body if isinstance(body, bytes) else str(body or "").encode()
        exchange = self._guard.exchange(api, params["url"], content, self._labels)
        self._guard.sync.run(exchange.prepare)
        request = sign(params if exchange.content == content else {**params, "body": exchange.content})
        self._made[request] = exchange
        return request

    def sent(self, request: Any, send: Callable[[Any], Any]) -> Any:
        """The response, its body read as it passes."""
        exchange, run = self._made.pop(request, None), self._guard.sync.run
        if exchange is None:
            return send(request)
        run(exchange.admit)
        try:
            response = send(request)
            headers = {name.lower(): str(value) for name, value in response.headers.items()}
            answer = exchange.answered(response.status_code, headers)
            if request.stream_output and response.status_code < 300:
                response.raw = _Body(response.raw, exchange, run)
                return response
            answer.feed(response.content)
            answer.finish()
        except BaseException as error:
            run(exchange.end, error)
            raise
        run(exchange.end, None)
        return response


@cache
def _guarded(kind: Any) -> Any:
    """The same class of endpoint, which asks the guard."""

    def create_request(self: Any, params: Any, operation_model: Any = None) -> Any:
        return self._budgetguard.signed(params, lambda params: kind.create_request(self, params, operation_model))

    def _send(self: Any, request: Any) -> Any:
        return self._budgetguard.sent(request, lambda request: kind._send(self, request))

    return type(kind.__name__, (kind,), {"create_request": create_request, "_send": _send})


class _Body:
    """The body of a response on its way to the caller, settled once however it ends. `run` awaits what settles it."""

    def __init__(self, inner: Any, exchange: Exchange, run: Callable[..., Any]) -> None:
        self._inner, self._exchange, self._run = inner, exchange, run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def stream(self, *args: Any, **options: Any) -> Iterator[bytes]:
        """The chunks, as botocore reads event streams, and the bodies of errors."""
        chunks = self._inner.stream(*args, **options)
        while True:
            chunk = self._noted(lambda: next(chunks, None))
            if chunk is None:
                return
            yield chunk

    def read(self, amount: int | None = None, *args: Any, **options: Any) -> bytes:
        """Some bytes, or all that are left."""
        return self._noted(lambda: self._inner.read(amount, *args, **options), whole=amount is None) or b""

    def readinto(self, buffer: Any) -> int:
        """Some bytes into a buffer; how many."""
        chunk = self.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def readlines(self, *_: Any) -> list[bytes]:
        """All lines that are left."""
        return self.read().splitlines(keepends=True)

    def close(self) -> None:
        """Let go of the connection; what was not read by now is not read any more."""
        try:
            self._inner.close()
        finally:
            self._run(self._exchange.end, GeneratorExit())

    def _noted(self, read: Callable[[], bytes | None], whole: bool = False) -> bytes | None:
        """What is read next. None or nothing is the end, and so is the `whole` rest."""
        exchange = self._exchange
        try:
            if exchange.is_short():
                self._run(exchange.keep_ahead)
            chunk = read()
            if chunk:
                exchange.observed.feed(chunk)
            if whole or not chunk:
                exchange.observed.finish()
        except BaseException as error:
            self._run(exchange.end, error)
            if isinstance(error, BudgetGuardError):
                self._inner.close()
            raise
        if whole or not chunk:
            self._run(exchange.end, None)
        return chunk
