"""What an error says of a call that left its block without `record`: was anything billed?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Literal

from budgetguard.errors import BudgetGuardError

Outcome = Literal["release", "assume"]

NOT_SENT = frozenset([
    "ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "ClientConnectorError",
    "EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError",
])  # fmt: skip
"""Errors of httpx, httpx2, aiohttp and botocore that come before anything was sent, by name: none is imported here."""


LEFT = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt)
"""What ends a call whose caller does not want it any more."""


def outcome_of(error: BaseException) -> Outcome:
    """`release` for a 4xx answer or a connection that never stood; `assume` for all that may have been billed.

    408 and 499 mean that the time ran out, with the provider perhaps still at work.
    """
    for cause in _chain(error):
        status = getattr(cause, "status_code", None) or getattr(getattr(cause, "response", None), "status_code", None)
        if isinstance(status, int):
            return "release" if 400 <= status < 500 and status not in (408, 499) else "assume"
        if _is_unsent(cause):
            return "release"
    return "assume"


def failure_of(error: BaseException) -> str:
    """The name of the error with which a call failed; "" where its caller left it, or was refused another."""
    return "" if isinstance(error, (*LEFT, BudgetGuardError)) else type(error).__name__


def is_unsent(error: BaseException) -> bool:
    """Whether the request that ended with this error was never sent: no connection stood."""
    return any(map(_is_unsent, _chain(error)))


def _is_unsent(cause: BaseException) -> bool:
    return isinstance(cause, ConnectionRefusedError) or type(cause).__name__ in NOT_SENT


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__
