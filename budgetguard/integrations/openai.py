"""`guard.wrap` for clients of the OpenAI SDK, whose websockets would go past the guard: they are closed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import cache, cached_property, wraps
from typing import TYPE_CHECKING, Any, cast

from budgetguard.errors import UnguardedApi
from budgetguard.integrations.clients import guard_of
from budgetguard.integrations.refusals import for_sdks
from budgetguard.integrations.stainless import guarded_copy

if TYPE_CHECKING:
    from budgetguard.clients import Clients

_RESOURCES = "openai.resources."


def wrap(guard: Clients, client: Any, labels: Mapping[str, str]) -> Any:
    """A guarded copy, and with it all that are made from it. Errors: those of `Guard.wrap`."""
    return _close(guarded_copy(guard, client, labels))


def _close(found: Any) -> Any:
    """The same client or resource, but nothing that it leads to opens a websocket."""
    found.__class__ = _without_websockets(cast("Hashable", type(found)))
    return found


@cache
def _without_websockets(kind: Any) -> Any:
    """The same type of client or resource, without `connect`, and so are the resources that it has.

    They are properties that import a part of the SDK when they are first asked for: nothing is looked at before.
    """
    members: dict[str, Any] = {"__module__": kind.__module__}
    found = {name: part for base in reversed(kind.__mro__) for name, part in vars(base).items()}
    members |= {name: _closed(part) for name, part in found.items() if isinstance(part, cached_property)}
    if hasattr(kind, "connect"):
        members["connect"] = _refusing(kind.connect)
    return type(kind.__name__, (kind,), members)


def _closed(part: cached_property[Any]) -> cached_property[Any]:
    def resource(self: Any) -> Any:
        found = part.func(self)
        return _close(found) if type(found).__module__.startswith(_RESOURCES) else found

    return cached_property(resource)


def _refusing(connect: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(connect)
    def refuse(self: Any, *args: Any, **options: Any) -> Any:
        mine = guard_of(self._client._client)
        if mine is not None and not mine[0].may_refuse:
            return connect(self, *args, **options)
        raise for_sdks(
            UnguardedApi(
                "a websocket goes past the guarded HTTP client, uncounted: open it with a client that is not wrapped"
            )
        )

    return refuse
