"""`guard.wrap` for google-genai's `Client`, and with it its `aio`: on guarded HTTP clients, for Gemini and Vertex.

google-genai sends over two HTTP clients, or where aiohttp is installed over that instead. The copy is on guarded copies
of both clients, and never on aiohttp. Live sessions are websockets, and are not opened.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from budgetguard.errors import UnguardedApi
from budgetguard.integrations import http_clients
from budgetguard.integrations.http_clients import guard_of
from budgetguard.integrations.httpx import BudgetTransport
from budgetguard.integrations.refusals import for_sdks

if TYPE_CHECKING:
    from budgetguard.clients import Clients

_PER_LOOP = "_client_for_running_loop"
_LIVE = frozenset(["AsyncLive", "AsyncLiveMusic"])


def wrap(guard: Clients, client: Any, labels: Mapping[str, str]) -> Any:
    """A guarded copy. Errors: those of `Guard.wrap`."""
    api: Any = getattr(client, "_api_client", None)
    sync, concurrent = getattr(api, "_httpx_client", None), getattr(api, "_async_httpx_client", None)
    if sync is None or concurrent is None or not hasattr(client, "aio") or not _is_known(type(concurrent)):
        raise TypeError(
            f"of google-genai's clients guard.wrap takes a Client that sends over HTTP clients, not this "
            f"{type(client).__name__}: make it without client certificates, in a version that this one knows"
        )
    if guard_of(sync) is not None:
        raise TypeError("this client is guarded already: wrap the one that it was made from")
    made = copy.copy(api)
    made._httpx_client = http_clients.wrap(guard, sync, labels)
    made._async_httpx_client = _async_client(guard, concurrent, labels)
    mine = {"httpx_client": made._httpx_client, "httpx_async_client": made._async_httpx_client, "aiohttp_client": None}
    made._http_options = api._http_options.model_copy(update=mine)
    made._aiohttp_sessions = {}
    made.close, made.aclose = api.close, api.aclose  # theirs to close
    guarded = _on(client, made, guard)
    guarded._budgetguard_owner = client  # closes them when nobody has it any more
    return guarded


def _is_known(kind: type[Any]) -> bool:
    """Whether these async clients send by themselves, as those of the library do, or by one for each event loop."""
    return hasattr(kind, _PER_LOOP) or all("send" not in vars(base) for base in kind.__mro__ if _is_theirs(base))


def _is_theirs(kind: type[Any]) -> bool:
    return kind.__module__.startswith("google.")


def _async_client(guard: Clients, client: Any, labels: Mapping[str, str]) -> Any:
    made = http_clients.wrap(guard, client, labels)
    if getattr(client, "_per_loop", False):
        made._per_loop = False
        made._transport = BudgetTransport(guard, _PerLoop(client), **labels)
    return made


class _PerLoop:
    """The transports of a client that has a client of its own for each event loop."""

    def __init__(self, owner: Any) -> None:
        self._owner = owner

    async def handle_async_request(self, request: Any) -> Any:
        client = getattr(self._owner, _PER_LOOP)()
        return await client._transport_for_url(request.url).handle_async_request(request)

    async def aclose(self) -> None:
        await self._owner.aclose()

    async def __aenter__(self) -> None:
        """The clients open at their first use."""

    async def __aexit__(self, *error: Any) -> None:
        await self._owner.aclose()


def _on(part: Any, api: Any, guard: Clients) -> Any:
    """A copy of a client, or of a part of one, that sends by another API client; so do all that it has."""
    made = object.__new__(type(part))
    made.__dict__.update(
        {name: _on(found, api, guard) if hasattr(found, "_api_client") else found for name, found in vars(part).items()}
    )
    made._api_client = api
    for name in [name for name in vars(made) if name.endswith("_client_instance")]:
        vars(made)[name] = None  # made anew, on this one
    if type(part).__name__ in _LIVE and guard.may_refuse:
        made.connect = _refuse
    return made


def _refuse(*_: Any, **__: Any) -> Any:
    raise for_sdks(
        UnguardedApi("a live session goes past the guarded HTTP clients, uncounted: open it with a client not wrapped")
    )
