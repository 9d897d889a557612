"""ASGI middleware for Starlette, FastAPI and others: the request tells who spends, a refusal is answered with 429.

    app.add_middleware(BudgetMiddleware, labels=lambda scope: {"user": scope["user"].username})

It stands inside whatever authenticates. What the answer says, and where that comes from:

- `Retry-After`: whole seconds, rounded up; absent where waiting cannot help. RFC 9110.
- `x-should-retry: false`: the SDKs of OpenAI, Anthropic and others do not ask again by themselves.
- `RateLimit-Policy` and `RateLimit`: an item for every limit that refused, named by budget, unit and period
  ("each-agent usd/day"). `q` is the limit, `w` the window in seconds, `r` what is available, `t` the seconds until
  there is more. draft-ietf-httpapi-ratelimit-headers-10, with its working group's changes since: names are strings. Its
  registry of units (`qu`) has `requests` and `concurrent-requests`; `tokens`, `input-tokens`, `output-tokens` and
  `micro-usd` are ours.
- the body: problem+json (RFC 9457) of that draft's type quota-exceeded, with the names as `violated-policies`;
  `detail` is the refusal's first line. Labels are not told.
"""

from __future__ import annotations

import json
import string
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any
from urllib.parse import quote

from budgetguard.core.model import Violation
from budgetguard.errors import BudgetExceeded
from budgetguard.labels import acting_as
from budgetguard.refusal import refusal_in
from budgetguard.within import OF_A_RUN

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PROBLEM_TYPE = "https://iana.org/assignments/http-problem-types#quota-exceeded"
PROBLEM_TITLE = "Request cannot be satisfied as assigned quota has been exceeded"
_TOO_MANY_REQUESTS = 429
_UNITS = {
    "concurrent": "concurrent-requests", "tokens": "tokens", "input_tokens": "input-tokens",
    "output_tokens": "output-tokens", "usd": "micro-usd",
}  # fmt: skip
"""As `qu` has them; `requests` is its default."""
_NANO_PER_MICRO = 1000
_MOST = 10**15 - 1
"""The greatest integer of a structured field: RFC 9651, 3.3.1."""
_PLAIN = "".join(sorted({*string.punctuation, " "} - {"%"}))
_BEGINS = {
    "http": frozenset(["http.response.start"]),
    "websocket": frozenset(["websocket.accept", "websocket.close", "websocket.http.response.start"]),
}
_DENIAL = "websocket.http.response"
"""The ASGI extension by which a websocket that is not accepted yet gets an answer."""


class BudgetMiddleware:
    """Acts as who makes the request, and answers its refusal, unless its answer has begun: then that is broken off.

    A refusal is found wherever `bg.refusal_in` finds it. Other errors pass.

    Args:
        app: what is served.
        labels: the labels of a request, from its ASGI scope (its `user`, its `state`); `acting_as` inside wins.

    Raises (for a request):
        InvalidLabel: a label is not text of 1 to 512 bytes.
    """

    def __init__(self, app: App, labels: Callable[[Scope], Mapping[str, str]]) -> None:
        self.app = app
        self._labels = labels

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; what is neither http nor websocket passes as it is."""
        begins = _BEGINS.get(scope["type"])
        if begins is None:
            await self.app(scope, receive, send)
            return
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] in begins
            await send(message)

        try:
            with acting_as(labels=self._labels(scope)):
                await self.app(scope, receive, noted)
        except Exception as error:
            refusal = refusal_in(error)
            if refusal is None or begun or not _can_be_answered(scope):
                raise
            await _answer(refusal, "http.response" if scope["type"] == "http" else _DENIAL, send)


def _can_be_answered(scope: Scope) -> bool:
    return scope["type"] == "http" or _DENIAL in (scope.get("extensions") or {})


async def _answer(refusal: BudgetExceeded, kind: str, send: Send) -> None:
    body = problem_of(refusal)
    headers = [(name.lower().encode(), value.encode()) for name, value in headers_of(refusal).items()]
    headers += [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    await send({"type": f"{kind}.start", "status": _TOO_MANY_REQUESTS, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})


def problem_of(refusal: BudgetExceeded) -> bytes:
    """The body that tells a refusal, as application/problem+json."""
    told = {
        "type": PROBLEM_TYPE,
        "title": PROBLEM_TITLE,
        "status": _TOO_MANY_REQUESTS,
        "detail": str(refusal).partition("\n")[0],
        "violated-policies": [_name(violation) for violation in refusal.violations],
    }
    return json.dumps(told).encode()


def headers_of(refusal: BudgetExceeded) -> dict[str, str]:
    """The headers that tell a refusal, but for those of its body."""
    headers = {"x-should-retry": "false"}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(_seconds(int(refusal.retry_after * 1000)))
    if refusal.violations:
        headers["RateLimit-Policy"] = _list([(_name(v), _policy(v)) for v in refusal.violations])
        headers["RateLimit"] = _list([(_name(v), _standing(v)) for v in refusal.violations])
    return headers


def _policy(violation: Violation) -> dict[str, int | str | None]:
    account, unit = violation.account, _UNITS.get(violation.account.unit)
    window_ms: int | None = account.period.span_ms or None
    if account.window_start_ms is not None and account.window_end_ms is not None:
        window_ms = account.window_end_ms - account.window_start_ms
    return {"q": _amount(violation, violation.limit), "qu": unit, "w": _seconds(window_ms)}


def _standing(violation: Violation) -> dict[str, int | str | None]:
    return {"r": _amount(violation, max(violation.available, 0)), "t": _seconds(violation.retry_ms)}


def _amount(violation: Violation, amount: int) -> int:
    """An amount as a structured field can hold it: dollars in millionths, nothing above 15 digits."""
    return min(amount // _NANO_PER_MICRO if violation.account.unit == "usd" else amount, _MOST)


def _seconds(ms: int | None) -> int | None:
    return None if ms is None else -(-ms // 1000)


def _name(violation: Violation) -> str:
    """The same in header and body: ASCII, what else is in a budget's name percent-encoded; of a run without its id."""
    account = violation.account
    counted = "/".join(filter(None, (account.unit, account.period.label)))
    return quote(f"{OF_A_RUN.sub('', account.budget)} {counted}", safe=_PLAIN)


def _list(items: Sequence[tuple[str, Mapping[str, int | str | None]]]) -> str:
    """Strings with parameters, as a list of RFC 9651. What is None is left out."""
    return ", ".join(
        _bare(name) + "".join(f";{key}={_bare(value)}" for key, value in parameters.items() if value is not None)
        for name, parameters in items
    )


def _bare(value: int | str) -> str:
    if isinstance(value, int):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
