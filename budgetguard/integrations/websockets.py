"""Websockets of SDKs, which would go past the guarded HTTP client: on a wrapped client they are not opened.

Nor does it tell their address to frameworks that open their own on what a client knows (the OpenAI Agents SDK). Those
that open them on an API key alone (realtime sessions of that SDK, of pydantic-ai and others) know no client of ours:

    refuse_websockets(guard)    # once
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, cached_property, wraps
from typing import TYPE_CHECKING, Any, cast

from budgetguard.errors import UnguardedApi
from budgetguard.integrations.http_clients import guard_of
from budgetguard.integrations.refusals import for_sdks
from budgetguard.wire.apis import provider_of
from budgetguard.wire.hosts import place_of

if TYPE_CHECKING:
    from budgetguard.guard import Guard

_WHY = "a websocket goes past the guarded HTTP client, uncounted: open it with a client that is not wrapped"
_RESOURCES = ".resources."
"""In the name of every module with resources of an SDK."""
_ADDRESS = "websocket_base_url"
"""The attribute of OpenAI's clients that whoever opens a websocket for one asks for first."""
_copying: ContextVar[bool] = ContextVar("budgetguard_copying", default=False)


@contextmanager
def copying() -> Iterator[None]:
    """Let a client that is copied in this block hand on the address of its websockets."""
    outer = _copying.set(True)
    try:
        yield
    finally:
        _copying.reset(outer)


def refuse_websockets(guard: Guard) -> None:
    """Let no websocket of the library websockets reach a provider from this process; others pass.

    Args:
        guard: whose hosts (`[[host]]`) are providers, too. Where it refuses nothing, all pass.

    Raises (where one is opened):
        UnguardedApi: it goes to a provider.
    """
    from websockets.asyncio.client import connect
    from websockets.client import ClientProtocol

    def check(host: str) -> None:
        if guard.may_refuse and provider_of(host, guard.policy.hosts) is not None:
            raise UnguardedApi(f"a websocket to {host} would go past the guard, uncounted")

    _checked(connect, lambda uri: check(place_of(str(uri))[0]))
    _checked(ClientProtocol, lambda uri: check(f"{uri.host}:{uri.port}"))
    with contextlib.suppress(ImportError), warnings.catch_warnings():  # it may go some day
        warnings.simplefilter("ignore", DeprecationWarning)
        from websockets.legacy.client import Connect

        _checked(Connect, lambda uri: check(place_of(str(uri))[0]))


def _checked(kind: Any, check: Callable[[Any], None]) -> None:
    """Look at the address before one of this type is made."""
    begin = kind.__init__

    @wraps(begin)
    def made(self: Any, uri: Any, *args: Any, **options: Any) -> None:
        check(uri)
        begin(self, uri, *args, **options)

    kind.__init__ = made


def closed(found: Any, openers: frozenset[str]) -> Any:
    """The same client or resource, but nothing that it leads to opens a websocket.

    Args:
        openers: the names of the methods that would.
    """
    found.__class__ = _without_websockets(cast("Hashable", type(found)), openers, _ADDRESS in vars(found))
    return found


@cache
def _without_websockets(kind: Any, openers: frozenset[str], has_address: bool) -> Any:
    """The same type of client or resource, whose openers refuse, and so do those of the resources that it has.

    They are properties that import a part of the SDK when they are first asked for: nothing is looked at before.
    """
    members: dict[str, Any] = {"__module__": kind.__module__}
    found = {name: part for base in reversed(kind.__mro__) for name, part in vars(base).items()}
    members |= {name: _closed(part, openers) for name, part in found.items() if isinstance(part, cached_property)}
    members |= {name: _refusing(getattr(kind, name)) for name in openers if hasattr(kind, name)}
    if has_address:
        members[_ADDRESS] = _hidden()
    return type(kind.__name__, (kind,), members)


def _hidden() -> property:
    """The address as an attribute that is told only to copies, and to who may go unguarded."""

    def read(self: Any) -> Any:
        mine = guard_of(self._client)
        if mine is not None and mine[0].may_refuse and not _copying.get():
            raise for_sdks(mine[0].unguarded(_WHY, mine[1]))
        return vars(self).get(_ADDRESS)

    def write(self: Any, value: Any) -> None:
        vars(self)[_ADDRESS] = value

    return property(read, write)


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
