"""`guard.wrap` for the SDKs that Stainless generates: their clients are made anew around a guarded HTTP client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from budgetguard.integrations import http_clients
from budgetguard.integrations.http_clients import guard_of
from budgetguard.integrations.websockets import closed, copying

if TYPE_CHECKING:
    from budgetguard.clients import Clients

_OPENERS = {"openai": frozenset(["connect"]), "together": frozenset(["connect", "transcription"])}
"""By SDK: the methods of its resources that open a websocket, which would go past the guard."""


def wrap(guard: Clients, client: Any, labels: Mapping[str, str]) -> Any:
    """A copy of an SDK's client whose requests go through the guard and the same connections; so do its own copies.

    Raises:
        TypeError: this is no client with an HTTP client of httpx2 or httpx, or it is guarded already.
    """
    own: Any = getattr(client, "_client", None)
    if not hasattr(own, "_transport_for_url") or not hasattr(client, "copy"):
        raise TypeError(f"guard.wrap takes a client, such as OpenAI() or Anthropic(), not a {type(client).__name__}")
    made = _staying_guarded(client.copy(http_client=http_clients.wrap(guard, own, labels)))
    makers = (kind.__module__.partition(".")[0] for kind in type(client).__mro__)
    openers = next((_OPENERS[maker] for maker in makers if maker in _OPENERS), None)
    return made if openers is None else closed(made, openers)


def _staying_guarded(client: Any) -> Any:
    """The same client, but its copies are guarded also where they are given an HTTP client of their own.

    Its class stays what it is: Anthropic's clients ask for it before they hand on credentials.
    """

    def copied(*, http_client: Any = None, **options: Any) -> Any:
        mine = guard_of(client._client)
        if mine is not None and hasattr(http_client, "_transport_for_url") and guard_of(http_client) is None:
            guard, labels = mine
            http_client = http_clients.wrap(guard, http_client, labels)
        with copying():
            made = type(client).copy(client, http_client=http_client, **options)
        return _staying_guarded(made)

    client.copy = client.with_options = copied
    return client
