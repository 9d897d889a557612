"""A hold that does nothing: what `Guard.off()` and `mode = "off"` hand out."""

from __future__ import annotations

from typing import Any

from budgetguard.call import new_id
from budgetguard.hold import Hold
from budgetguard.usage import Usage, read_usage


class OffHold(Hold):
    """Reserves, records and charges nothing; usage is still read, so that a mistake shows in tests."""

    __slots__ = ("_id", "_subject")

    def __init__(self, subject: dict[str, str]) -> None:
        self._id = new_id()
        self._subject = subject
        self._open = True
        self.admitted_ms = 0
        self.lease_lost = False
        self.would_refuse = ()

    @property
    def id(self) -> str:
        """An id that no ledger knows."""
        return self._id

    @property
    def subject(self) -> dict[str, str]:
        """The labels that the caller passed."""
        return dict(self._subject)

    @property
    def open(self) -> bool:
        """Not ended yet."""
        return self._open

    def __repr__(self) -> str:
        return f"<OffHold {self._id}>"

    def __del__(self) -> None:
        """Nothing was held."""

    def belongs_to(self, shared: object) -> bool:
        """No guard made it."""
        return False

    def record(self, response: Any) -> Usage:
        """Read the usage, and forget it."""
        return read_usage(response)

    async def settle(self, response: Any = None) -> None:
        """End the hold; charges nothing."""
        if response is not None:
            self.record(response)
        self._open = False

    async def release(self) -> None:
        """End the hold."""
        self._open = False

    async def grow(self, estimate: Usage) -> None:
        """Change nothing."""

    async def end_after(self, error: BaseException | None) -> None:
        """End the hold."""
        self._open = False
