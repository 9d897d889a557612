"""What the clients of the OpenAI and Anthropic SDKs have in common: they are made anew around a guarded HTTP client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from budgetguard.integrations.httpx import BudgetTransport

if TYPE_CHECKING:
    from budgetguard.clients import Clients

_OPTIONS = ("auth", "params", "headers", "cookies", "timeout", "base_url", "event_hooks", "trust_env")


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


def guarded_copy(guard: Clients, client: Any, labels: Mapping[str, str]) -> Any:
    """A copy of an SDK's client whose requests go through the guard and the same connections.

    Raises:
        TypeError: the client is guarded already.
    """
    own = client._client
    if isinstance(getattr(own, "_transport", None), BudgetTransport):
        raise TypeError("this client is guarded already: wrap the one that it was made from")
    library = next(kind for kind in type(own).__mro__ if kind.__module__.partition(".")[0] in ("httpx", "httpx2"))
    options = {name: getattr(own, name) for name in _OPTIONS}
    guarded = library(
        transport=BudgetTransport(guard, _Borrowed(own), **labels), follow_redirects=own.follow_redirects,
        max_redirects=own.max_redirects, **options,
    )  # fmt: skip
    return client.copy(http_client=guarded)
