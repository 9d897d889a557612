"""HTTP clients of httpx2 and httpx that are guarded: copies of others, on the same connections."""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Hashable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any, cast

from budgetguard.core.amounts import shown
from budgetguard.errors import BudgetGuardError, InvalidInput
from budgetguard.integrations.httpx import BudgetTransport

if TYPE_CHECKING:
    from budgetguard.clients import Clients

_RETRY_ALL = re.compile(r"(?:Groq|Together)/Python ")
"""The user agents of SDKs (AsyncGroq/Python 1.7.0) that take whatever is raised in place of an answer for a lost
connection, errors of their own too."""
_TOO_MANY_REQUESTS = 429


class _Borrowed:
    """The transports of another HTTP client, which stays open as long as somebody borrows them."""

    def __init__(self, owner: Any) -> None:
        self._owner = owner

    def __repr__(self) -> str:
        return repr(self._owner)

    async def handle_async_request(self, request: Any) -> Any:
        return await self._owner._transport_for_url(request.url).handle_async_request(request)

    def handle_request(self, request: Any) -> Any:
        return self._owner._transport_for_url(request.url).handle_request(request)

    async def aclose(self) -> None:
        await self._owner.aclose()

    def close(self) -> None:
        self._owner.close()

    async def __aenter__(self) -> None:
        await self._owner.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        await self._owner.__aexit__(*error)

    def __enter__(self) -> None:
        self._owner.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._owner.__exit__(*error)


def new_client(guard: Clients, library: str, labels: Mapping[str, str], *, is_async: bool) -> Any:
    """A client of "httpx2" or "httpx", guarded; like those of most SDKs it follows redirects.

    Raises:
        InvalidInput: there is no such library.
        ModuleNotFoundError: it is not installed.
    """
    module = _module(library)
    kind = module.AsyncClient if is_async else module.Client
    return wrap(guard, kind(follow_redirects=True), labels)


def _module(library: str) -> Any:
    if library == "httpx2":
        import httpx2

        return httpx2
    if library == "httpx":
        import httpx

        return httpx
    raise InvalidInput(f'library must be "httpx2" or "httpx", not {shown(library)}')


def wrap(guard: Clients, client: Any, labels: Mapping[str, str]) -> Any:
    """A client with all that another has (proxies, hooks, cookies, methods of its class), but guarded.

    Raises:
        TypeError: it is guarded already.
    """
    if guard_of(client) is not None:
        raise TypeError("this client is guarded already: wrap the one that it was made from")
    made = copy.copy(client)
    made._transport, made._mounts = BudgetTransport(guard, _Borrowed(client), **labels), {}
    made._budgetguard_owner = client
    made.__class__ = _borrowing(cast("Hashable", type(client)))
    return made


def guard_of(client: Any) -> tuple[Clients, Mapping[str, str]] | None:
    """Whose budgets an HTTP client is held to, and under which labels; None for one that is not guarded."""
    transport = getattr(client, "_transport", None)
    return (transport.guard, transport.labels) if isinstance(transport, BudgetTransport) else None


@cache
def _borrowing(kind: Any) -> Any:
    """The same class of HTTP client, for a copy whose connections are another's: closed with it, and dropped alone."""

    def sender(self: Any) -> Any:
        owner = self._budgetguard_owner
        return owner.send if owner.is_closed else partial(kind.send, self)  # the owner says that it is closed

    def send(self: Any, request: Any, **options: Any) -> Any:
        try:
            return sender(self)(request, **options)
        except BudgetGuardError as error:
            return _refused(request, error)

    async def send_async(self: Any, request: Any, **options: Any) -> Any:
        try:
            return await sender(self)(request, **options)
        except BudgetGuardError as error:
            return _refused(request, error)

    def is_closed(self: Any) -> bool:
        return bool(kind.is_closed.fget(self) or self._budgetguard_owner.is_closed)

    def dropped(self: Any) -> None:
        """Nothing is closed: whoever still has the owner goes on, and the owner closes itself when nobody has it."""

    members: dict[str, Any] = {"__module__": kind.__module__, "__del__": dropped, "is_closed": property(is_closed)}
    members["send"] = send_async if hasattr(kind, "aclose") else send
    return type(kind.__name__, (kind,), members)


def _refused(request: Any, error: BudgetGuardError) -> Any:
    """In place of an answer: raises the error, if need be only where the SDK looks at the answer's status.

    There these SDKs let pass whatever is not an error of status.
    """
    if not _RETRY_ALL.search(request.headers.get("user-agent", "")):
        raise error

    def raise_for_status() -> Any:
        raise error

    library = sys.modules[type(request).__module__.partition(".")[0]]
    answer = library.Response(_TOO_MANY_REQUESTS, request=request)
    answer.raise_for_status = raise_for_status
    return answer
