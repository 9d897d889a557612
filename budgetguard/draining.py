"""At the exit of the process: what guards still have to deliver is delivered, or spooled."""

from __future__ import annotations

import asyncio
import atexit
import weakref
from collections.abc import MutableMapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from budgetguard.engine import Engine
    from budgetguard.guard import Guard

_open_guards: weakref.WeakSet[Guard] = weakref.WeakSet()


def remember(guard: Guard) -> None:
    """This guard was opened: drain it at exit."""
    _open_guards.add(guard)


def forget(guard: Guard) -> None:
    """This guard was closed."""
    _open_guards.discard(guard)


def adopt(engine: Engine, engines: MutableMapping[asyncio.AbstractEventLoop, Engine]) -> None:
    """Take over what the engines of closed event loops still had to deliver."""
    for loop, other in list(engines.items()):
        if loop.is_closed():
            del engines[loop]
            for op in other.left_over():
                engine.courier.post(op)


@atexit.register
def drain() -> None:
    """Deliver what the open guards of this process still hold."""
    for guard in list(_open_guards):
        ops = guard.left_over()
        if ops:
            asyncio.run(guard.deliver(ops))
