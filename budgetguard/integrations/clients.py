"""HTTP clients of httpx2 and httpx that are guarded: copies of others, on the same connections."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from budgetguard.integrations.httpx import BudgetTransport

if TYPE_CHECKING:
    from budgetguard.clients import Clients


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


def clients(guard: Clients, labels: Mapping[str, str]) -> tuple[Any, Any]:
    """A sync and an async client of httpx2, guarded; like those of most SDKs they follow redirects."""
    import httpx2

    sync, concurrent = httpx2.Client(follow_redirects=True), httpx2.AsyncClient(follow_redirects=True)
    return guarded(sync, guard, labels), guarded(concurrent, guard, labels)


def guarded(owner: Any, guard: Clients, labels: Mapping[str, str]) -> Any:
    """A client with all that another has (proxies, hooks, cookies, methods of its class), but guarded."""
    made = copy.copy(owner)
    made._transport, made._mounts = BudgetTransport(guard, _Borrowed(owner), **labels), {}
    made._budgetguard_owner = owner
    made.__class__ = _borrowing(cast("Hashable", type(owner)))
    return made


def guard_of(client: Any) -> tuple[Clients, Mapping[str, str]] | None:
    """Whose budgets an HTTP client is held to, and under which labels; None for one that is not guarded."""
    transport = getattr(client, "_transport", None)
    return (transport.guard, transport.labels) if isinstance(transport, BudgetTransport) else None


@cache
def _borrowing(kind: Any) -> Any:
    """The same class of HTTP client, for a copy whose connections are another's: closed with it, and dropped alone."""

    def send(self: Any, *args: Any, **options: Any) -> Any:
        owner = self._budgetguard_owner
        return owner.send(*args, **options) if owner.is_closed else kind.send(self, *args, **options)  # it says so

    def is_closed(self: Any) -> bool:
        return bool(kind.is_closed.fget(self) or self._budgetguard_owner.is_closed)

    def dropped(self: Any) -> None:
        """Nothing is closed: whoever still has the owner goes on, and the owner closes itself when nobody has it."""

    members = {"send": send, "is_closed": property(is_closed), "__del__": dropped, "__module__": kind.__module__}
    return type(kind.__name__, (kind,), members)
