"""Websockets of SDKs, which would go past the guarded HTTP client: on a wrapped client they are not opened."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cache, cached_property, wraps
from typing import Any, cast

from budgetguard.errors import UnguardedApi
from budgetguard.integrations.http_clients import guard_of
from budgetguard.integrations.refusals import for_sdks

_WHY = "a websocket goes past the guarded HTTP client, uncounted: open it with a client that is not wrapped"
_RESOURCES = ".resources."
"""In the name of every module with resources of an SDK."""


def closed(found: Any, openers: frozenset[str]) -> Any:
    """The same client or resource, but nothing that it leads to opens a websocket.

    Args:
        openers: the names of the methods that would.
    """
    found.__class__ = _without_websockets(cast("Hashable", type(found)), openers)
    return found


@cache
def _without_websockets(kind: Any, openers: frozenset[str]) -> Any:
    """The same type of client or resource, whose openers refuse, and so do those of the resources that it has.

    They are properties that import a part of the SDK when they are first asked for: nothing is looked at before.
    """
    members: dict[str, Any] = {"__module__": kind.__module__}
    found = {name: part for base in reversed(kind.__mro__) for name, part in vars(base).items()}
    members |= {name: _closed(part, openers) for name, part in found.items() if isinstance(part, cached_property)}
    members |= {name: _refusing(getattr(kind, name)) for name in openers if hasattr(kind, name)}
    return type(kind.__name__, (kind,), members)


def _closed(part: cached_property[Any], openers: frozenset[str]) -> cached_property[Any]:
    def resource(self: Any) -> Any:
        found = part.func(self)
        return closed(found, openers) if _RESOURCES in type(found).__module__ else found

    return cached_property(resource)


def _refusing(opener: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(opener)
    def refuse(self: Any, *args: Any, **options: Any) -> Any:
        mine = guard_of(self._client._client)
        if mine is None:
            raise for_sdks(UnguardedApi(_WHY))
        guard, labels = mine
        if not guard.may_refuse:
            return opener(self, *args, **options)
        raise for_sdks(guard.unguarded(_WHY, labels))

    return refuse
