"""What `budgetguard ledger export --format csv` writes, as rows of a trace: a user's own calls, to be simulated."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

COLUMNS: Final = {
    "timestamp": "timestamp_s", "model": "model", "prompt_tokens": "prompt_tokens",
    "completion_tokens": "completion_tokens", "team": "team", "agent": "agent", "task_type": "task",
    "session_id": "run", "user": "user", "provider": "provider",
}  # fmt: skip
"""The columns that are taken, and what a trace calls them."""
NO_MODEL: Final = "(none)"
"""The model of a call that was reserved by hand without one."""
_DAY_S: Final = 86_400


def is_export(header: Sequence[str]) -> bool:
    """Whether these columns are those of a ledger."""
    return {*COLUMNS, "status"} <= set(header)


class Exported:
    """The rows of one export, the oldest first, as it writes them.

    They count from midnight (UTC) of the first one's day, so that a day of the ledger is one of the simulation.
    """

    header: Final = tuple(COLUMNS.values())

    def __init__(self, header: Sequence[str]) -> None:
        self._width = len(header)
        self._places = [header.index(name) for name in COLUMNS]
        self._status = header.index("status")
        self._start_s: float | None = None

    def row(self, cells: Sequence[str]) -> list[str] | None:
        """As a trace has it; None where nothing was sent. What is wrong with it, the trace's reader tells."""
        if len(cells) != self._width:
            return list(cells)[: len(self.header) - 1]
        if cells[self._status] == "released":
            return None
        timestamp, model, *rest = [cells[place] for place in self._places]
        return [self._seconds(timestamp), model or NO_MODEL, *rest]

    def _seconds(self, timestamp: str) -> str:
        try:
            at_s = datetime.fromisoformat(timestamp).replace(tzinfo=UTC).timestamp()
        except ValueError:
            return timestamp
        if self._start_s is None:
            self._start_s = at_s // _DAY_S * _DAY_S
        return f"{at_s - self._start_s:.3f}"
