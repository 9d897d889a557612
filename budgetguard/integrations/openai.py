"""`guard.wrap` for clients of the OpenAI SDK, whose websockets would go past the guard: they are closed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn, cast

from budgetguard.errors import UnguardedApi
from budgetguard.integrations.refusals import for_sdks
from budgetguard.integrations.stainless import guarded_copy

if TYPE_CHECKING:
    from budgetguard.clients import Clients

_CONNECTING = {
    "responses": ("",), "realtime": ("", "translations"), "beta": ("realtime", "responses"), "live": ("", "sideband"),
}  # fmt: skip
"""The resources of a client, and those inside them, that open websockets."""


def wrap(guard: Clients, client: Any, labels: Mapping[str, str]) -> Any:
    """A guarded copy, and with it all that are made from it. Errors: those of `Guard.wrap`."""
    copy = guarded_copy(guard, client, labels)
    copy.__class__ = _without_websockets(cast("Hashable", type(client)))
    return copy


@cache
def _without_websockets(kind: Any) -> Any:
    """The same type of client, but for its websockets."""

    def closed(name: str) -> property:
        def resource(self: Any) -> Any:
            kept = self.__dict__.setdefault("_budgetguard_closed", {})
            if name not in kept:
                kept[name] = _closed(getattr(super(made, self), name), _CONNECTING[name])
            return kept[name]

        return property(resource)

    names = [name for name in _CONNECTING if hasattr(kind, name)]
    made = type(kind.__name__, (kind,), {"__module__": kind.__module__, **{name: closed(name) for name in names}})
    return made


def _closed(resource: Any, inside: tuple[str, ...]) -> Any:
    for name in inside:
        inner = getattr(resource, name, None) if name else resource
        if inner is not None and hasattr(inner, "connect"):
            inner.connect = _refuse
    return resource


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise for_sdks(
        UnguardedApi(
            "a websocket goes past the guarded HTTP client, uncounted: open it with a client that is not wrapped"
        )
    )
