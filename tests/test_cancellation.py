"""Every public coroutine, cancelled in each round of the loop while it is under way, once and twice: nothing leaks.

Afterwards nothing is reserved and nobody waits, no task is left, the cancellation has come through, and what was sent
to a provider is in the ledger, with what was recorded of it.
"""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest
from cancel_cases import CASES, Case
from cancel_plays import check_every_point
from guard_kit import World

from budgetguard import telling


class FileLook:
    """A `Look` into a file."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._db: apsw.Connection | None = None

    def held(self) -> int:
        return self._number("SELECT count(*) FROM reservations WHERE state = 'held'")

    def reserved(self) -> int:
        return self._number("SELECT ifnull(sum(reserved), 0) FROM accounts")

    def charged(self, id: str) -> int:
        return self._number("SELECT total_tokens FROM token_usage WHERE reservation_id = ?", id)

    def total(self) -> int:
        return self._number("SELECT ifnull(sum(total_tokens), 0) FROM token_usage")

    def _number(self, query: str, *bindings: str) -> int:
        if self._db is None:
            self._db = apsw.Connection(self._path)
            self._db.set_busy_timeout(5_000)
        ((found,),) = self._db.execute(query, bindings).fetchall()
        return int(found)


@pytest.mark.parametrize("kind", CASES)
def test_cancelled_at_any_point_and_once_more_at_any_later_nothing_leaks(
    world: World, kind: type[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "COUNT_KEPT_S", -1.0)  # each refusal counts the open calls anew
    check_every_point(kind, world, FileLook(world.path))
