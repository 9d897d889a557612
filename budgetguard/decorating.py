"""`@guard.budgeted(...)`: an async function whose every call is reserved, and settled with what it returns."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from budgetguard.reserving import Reserving
from budgetguard.usage import Usage

Estimate = Usage | Callable[..., Usage]
Fn = TypeVar("Fn", bound=Callable[..., Any])


def budgeted(reserve: Callable[[Usage | None], Reserving], estimate: Estimate | None) -> Callable[[Fn], Fn]:
    """The decorator; `reserve` is called with the estimate of each call.

    Raises (when applied):
        TypeError: the function is not async.
    """

    def decorate(function: Fn) -> Fn:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(
                f"budgeted needs an async function, not {function!r}; for sync code use guard.sync.budgeted"
            )

        @wraps(function)
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            expected = estimate(*args, **kwargs) if callable(estimate) else estimate
            async with reserve(expected) as hold:
                result = await function(*args, **kwargs)
                hold.record(result)
                return result

        return cast(Fn, guarded)

    return decorate
