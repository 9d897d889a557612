"""ASGI middleware for Starlette, FastAPI and others: the request tells who spends, a refusal is answered with 429.

    app.add_middleware(BudgetMiddleware, labels=lambda scope: {"user": scope["user"].username})

It stands inside whatever authenticates: labels are what was found out about the request, never what its headers claim.
What the answer says is in `http_refusals`.

The start of an answer waits for the first of its body, as ASGI allows ("to replace the response with an error
response"), so that a stream refused before its first chunk is a 429, too. One that is refused later is broken off. An
answer of 500 or above that is begun while a refusal is handled is replaced: apps that are mounted answer every error
so. A websocket that was accepted is closed, with 1013 (try again later) or, where waiting cannot help, 1008.

Other errors pass, to the app's handlers or as its 500: they are no caller's doing, and somebody must hear of them.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from budgetguard.errors import BudgetExceeded
from budgetguard.integrations.http_refusals import (
    NOBODY,
    PROBLEM_TITLE,
    PROBLEM_TYPE,
    TOO_MANY_REQUESTS,
    detail_of,
    headers_of,
    problem_of,
)
from budgetguard.labels import acting_as
from budgetguard.refusal import refusal_in

__all__ = ["PROBLEM_TITLE", "PROBLEM_TYPE", "BudgetMiddleware", "headers_of", "problem_of"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_DENIAL = "websocket.http.response"
"""The ASGI extension by which a websocket that is not accepted yet gets an answer."""
_BEGINS = frozenset(["websocket.accept", f"{_DENIAL}.start"])
_ENDS = frozenset(["websocket.close", "websocket.disconnect"])
_POLICY_VIOLATION, _TRY_AGAIN_LATER = 1008, 1013
"""Of the registry of RFC 6455, 11.7."""
_REASON_BYTES = 123
"""The longest reason of a close: RFC 6455, 5.5."""
_SERVER_ERROR = 500


class BudgetMiddleware:
    """Acts as who makes the request, and answers its refusal, unless its answer has begun: then that is broken off.

    A refusal is found wherever `bg.refusal_in` finds it. Other errors pass.

    Args:
        app: what is served.
        labels: the labels of a request, from its ASGI scope (its `user`, its `state`), None where it has none;
            `acting_as` inside wins.

    Raises (for a request):
        InvalidLabel: a label is not text of 1 to 512 bytes.
    """

    def __init__(self, app: App, labels: Callable[[Scope], Mapping[str, str] | None]) -> None:
        self.app = app
        self._labels = labels

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; what is neither http nor websocket passes as it is."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        labels = self._labels(scope) or NOBODY
        connection = (_Http if scope["type"] == "http" else _WebSocket)(scope, receive, send)
        try:
            with acting_as(labels=labels):
                await self.app(scope, connection.receive, connection.send)
            await connection.finish()
        except Exception as error:
            refusal = refusal_in(error)
            if refusal is None or not await connection.tell(refusal, labels):
                raise


class _Http:
    """What an app sends of one answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.receive = receive
        self._send = send
        self._start: Message | None = None
        self._begun = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and self._start is None and not self._begun:
            refusal = refusal_in(sys.exception()) if message["status"] >= _SERVER_ERROR else None
            if refusal is not None:
                raise refusal
            self._start = message
            return
        await self.finish()
        await self._send(message)

    async def finish(self) -> None:
        """Let go of the start: the answer begins."""
        if self._start is not None:
            start, self._start, self._begun = self._start, None, True
            await self._send(start)

    async def tell(self, refusal: BudgetExceeded, labels: Mapping[str, str]) -> bool:
        """Answer with the refusal; whether that could be done."""
        if not self._begun:
            await _answer(refusal, labels, "http.response", self._send)
        return not self._begun


class _WebSocket:
    """What an app and its caller say to each other."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._can_answer = _DENIAL in (scope.get("extensions") or {})
        self._over = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._note(message)
        return message

    async def send(self, message: Message) -> None:
        self._note(message)
        await self._send(message)

    def _note(self, message: Message) -> None:
        self._can_answer &= message["type"] not in _BEGINS
        self._over |= message["type"] in _ENDS or message["type"] == f"{_DENIAL}.start"

    async def finish(self) -> None:
        """Nothing of it waits."""

    async def tell(self, refusal: BudgetExceeded, labels: Mapping[str, str]) -> bool:
        """Answer with the refusal, or close with it; whether that could be done."""
        if self._over:
            return False
        if self._can_answer:
            await _answer(refusal, labels, _DENIAL, self._send)
        else:
            code = _POLICY_VIOLATION if refusal.retry_after is None else _TRY_AGAIN_LATER
            reason = detail_of(refusal, labels).encode()[:_REASON_BYTES].decode(errors="ignore")
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
        return True


async def _answer(refusal: BudgetExceeded, labels: Mapping[str, str], kind: str, send: Send) -> None:
    body = problem_of(refusal, labels)
    headers = [(name.lower().encode(), value.encode()) for name, value in headers_of(refusal, labels).items()]
    headers += [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    await send({"type": f"{kind}.start", "status": TOO_MANY_REQUESTS, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})
