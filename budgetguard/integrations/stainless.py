"""What the clients of the OpenAI and Anthropic SDKs have in common: they are made anew around a guarded HTTP client."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from budgetguard.integrations.clients import guard_of, guarded

if TYPE_CHECKING:
    from budgetguard.clients import Clients


def guarded_copy(guard: Clients, client: Any, labels: Mapping[str, str]) -> Any:
    """A copy of an SDK's client whose requests go through the guard and the same connections; so do its own copies.

    Raises:
        TypeError: this is no client with an HTTP client of httpx2 or httpx, or it is guarded already.
    """
    own: Any = getattr(client, "_client", None)
    if not hasattr(own, "_transport_for_url") or not hasattr(client, "copy"):
        raise TypeError(f"guard.wrap takes a client, such as OpenAI() or Anthropic(), not a {type(client).__name__}")
    if guard_of(own) is not None:
        raise TypeError("this client is guarded already: wrap the one that it was made from")
    made = client.copy(http_client=guarded(own, guard, labels))
    made.__class__ = _staying_guarded(cast("Hashable", type(client)))
    return made


@cache
def _staying_guarded(kind: Any) -> Any:
    """The same class of client, whose copies are guarded also where they are given an HTTP client of their own."""

    def copied(self: Any, *, http_client: Any = None, **options: Any) -> Any:
        mine = guard_of(self._client)
        if mine is not None and hasattr(http_client, "_transport_for_url") and guard_of(http_client) is None:
            http_client = guarded(http_client, *mine)
        return kind.copy(self, http_client=http_client, **options)

    return type(kind.__name__, (kind,), {"__module__": kind.__module__, "copy": copied, "with_options": copied})
