"""`guard.reserve(...)`: awaitable for a hold by hand, or an async block that settles at its end."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable, Generator
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from budgetguard.hold import Hold

_open: ContextVar[tuple[weakref.ref[Hold], ...]] = ContextVar("budgetguard_open_holds", default=())


def open_holds() -> list[Hold]:
    """The holds that are open around the caller, the outermost first."""
    return [hold for ref in _open.get() if (hold := ref()) is not None and hold.open]


def is_inside_hold(shared: object) -> bool:
    """Whether a hold of the guard with these resources is open around the caller."""
    for ref in _open.get():
        hold = ref()
        if hold is not None and hold.open and hold.belongs_to(shared):
            return True
    return False


def remember_open(hold: Hold) -> None:
    """This hold is now open around the caller, and all that it awaits or starts."""
    outer = [ref for ref in _open.get() if (other := ref()) is not None and other.open]
    _open.set((*outer, weakref.ref(hold)))


class Reserving:
    """One reservation to be made: `await` it, or enter it with `async with`. Each use reserves anew."""

    def __init__(self, admit: Callable[[], Awaitable[Hold]]) -> None:
        self._admit = admit
        self._hold: Hold | None = None
        self._entered = False

    def __await__(self) -> Generator[Any, None, Hold]:
        return self._reserve().__await__()

    async def __aenter__(self) -> Hold:
        if self._entered:
            raise RuntimeError("this reservation is already entered: call guard.reserve() for each block")
        self._entered = True
        try:
            self._hold = hold = await self._admit()
        except BaseException:
            self._entered = False
            raise
        remember_open(hold)
        return hold

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        hold, self._hold, self._entered = self._hold, None, False
        if hold is not None:
            await hold.end_after(error)

    async def _reserve(self) -> Hold:
        hold = await self._admit()
        remember_open(hold)
        return hold
