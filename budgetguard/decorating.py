"""`@guard.budgeted(...)`: an async function whose every call is reserved, and settled with what it returns."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from budgetguard.reserving import Reserving
from budgetguard.usage import Usage

Estimate = Usage | Callable[..., Usage]


def budgeted(
    reserve: Callable[..., Reserving], estimate: Estimate | None, options: Mapping[str, Any]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The decorator; `options` are passed to `reserve`.

    Raises (when applied):
        TypeError: the function is not async.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(
                f"budgeted needs an async function, not {function!r}; for sync code use guard.sync.budgeted"
            )

        @wraps(function)
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            expected = estimate(*args, **kwargs) if callable(estimate) else estimate
            async with reserve(estimate=expected, **options) as hold:
                result = await function(*args, **kwargs)
                hold.record(result)
                return result

        return guarded

    return decorate
