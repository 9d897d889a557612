"""A clock that moves only when it is told to."""

from __future__ import annotations

from budgetguard.core.amounts import check_amount


class FakeClock:
    """Tells the store the time that a test or a simulation sets: milliseconds since 1970-01-01 UTC.

    It may be set back, as a real clock may be; what a store makes of that is the store's business.

    Raises:
        InvalidAmount: a time is not a whole number of milliseconds from 0 to 2**53 - 1.
    """

    def __init__(self, start_ms: int) -> None:
        self._now_ms = check_amount(start_ms, "start_ms")

    def now_ms(self) -> int:
        """The time as it was last set, in milliseconds."""
        return self._now_ms

    def advance(self, step_ms: int) -> int:
        """Move on by `step_ms` (not negative) and return the new time."""
        return self.set(self._now_ms + check_amount(step_ms, "step_ms"))

    def set(self, now_ms: int) -> int:
        """Move to `now_ms`, forwards or backwards, and return it."""
        self._now_ms = check_amount(now_ms, "now_ms")
        return self._now_ms

    def __repr__(self) -> str:
        return f"FakeClock({self._now_ms})"
