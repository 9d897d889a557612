"""What the tests of the guard share: a store on a clock that stands still, what observers heard, a look into it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import apsw
import pytest
from store_kit import NOON_MS, dump, ledger, rows

import budgetguard as bg
from budgetguard.errors import StoreAway
from budgetguard.stores.sqlite import SQLiteStore
from budgetguard.testing import FakeClock

Kind = TypeVar("Kind", bound=bg.Event)

MODEL = "acme-1"
PRICES = [bg.Price(MODEL, {"input": "1", "output": "2"})]
ESTIMATE = bg.Usage(600, 200)
"""800 tokens, $0.001 at the price of the model."""
USAGE = bg.Usage(500, 100)
"""600 tokens, $0.0007."""
ESTIMATE_NANOUSD, USAGE_NANOUSD = 1_000_000, 700_000
PATIENT_MS = 15_000
"""How long stores of tests wait, where it is not the wait that is looked at: a busy machine may stall for seconds."""
BOTH = ("sqlite", "redis")
"""`STORES = BOTH` in a module of tests: each of them that has a `world` is run on both stores."""
only_on_sqlite = pytest.mark.parametrize("world", ["sqlite"], indirect=True)


class Heard:
    """An observer that keeps what it was told."""

    def __init__(self) -> None:
        self.events: list[bg.Event] = []

    def on_event(self, event: bg.Event) -> None:
        self.events.append(event)

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [event for event in self.events if isinstance(event, kind)]


class World:
    """A store's file, its clock, and the guards that use it: each has a store of its own, as another process would."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "budgets.db"
        self.clock = FakeClock(NOON_MS)
        self.heard = Heard()

    def store(self, timeout_ms: int = PATIENT_MS) -> SQLiteStore:
        return SQLiteStore(str(self.path), timeout_ms=timeout_ms, clock=self.clock)

    def guard(self, *limits: str, **options: Any) -> bg.Guard:
        """A guard on the file and its clock, that tells `heard`."""
        options = {"store": self.store(), "prices": PRICES, "observers": [self.heard], **options}
        return bg.Guard(*limits, **options)

    def row(self, id: str) -> dict[str, Any]:
        """The ledger's row of a call."""
        found = ledger(self.path, id)
        assert found is not None, f"no row of {id}"
        return found

    def statuses(self) -> list[str]:
        return [status for (status,) in rows(self.path, "SELECT status FROM token_usage ORDER BY reservation_id")]

    def spent(self, unit: str = "tokens") -> int:
        return int(rows(self.path, "SELECT ifnull(sum(spent), 0) FROM accounts WHERE unit = ?", unit)[0][0])

    def reserved(self) -> int:
        """What is reserved on all accounts together."""
        return int(rows(self.path, "SELECT ifnull(sum(reserved), 0) FROM accounts")[0][0])

    def held(self) -> int:
        """How many reservations are open."""
        return int(rows(self.path, "SELECT count(*) FROM reservations WHERE state = 'held'")[0][0])

    def states(self) -> list[str]:
        """Of the reservations: held, or how they ended."""
        return [state for (state,) in rows(self.path, "SELECT state FROM reservations ORDER BY id")]

    def lease_end_ms(self, id: str) -> int:
        return int(rows(self.path, "SELECT lease_end_ms FROM reservations WHERE id = ?", id)[0][0])

    def dump(self) -> Any:
        """All that stands in the store, to be compared; without its time."""
        return dump(self.path)

    def lose(self) -> None:
        """The store's state is lost."""
        self.path.unlink()
        apsw.Connection(str(self.path)).close()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """The store is away: another connection holds its file for itself."""
        other = apsw.Connection(str(self.path))
        other.set_busy_timeout(5_000)
        other.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")
            other.close()


class LossyStore:
    """A real store whose answers can get lost: the verbs named in `lost` are done, and then reported as away.

    Those named in `refused` are not even done. Steps: how many rounds of the event loop pass before and after a verb.
    """

    def __init__(self, store: SQLiteStore, steps: int = 0) -> None:
        self._store = store
        self._steps = steps
        self.lost: set[str] = set()
        self.refused: set[str] = set()
        self.asked: list[str] = []

    def __repr__(self) -> str:
        return repr(self._store)

    def __getattr__(self, verb: str) -> Any:
        real = getattr(self._store, verb)

        async def ask(*args: Any, **options: Any) -> Any:
            self.asked.append(verb)
            for _ in range(self._steps):
                await asyncio.sleep(0)
            if verb in self.refused:
                raise StoreAway(f"{verb}: nobody answers")
            answer = await real(*args, **options)
            for _ in range(self._steps):
                await asyncio.sleep(0)
            if verb in self.lost:
                raise StoreAway(f"{verb}: the answer was lost")
            return answer

        return ask


async def until(condition: Callable[[], Any], what: str, deadline_s: float = 60.0) -> None:
    """Wait for a condition; fail if it does not come."""
    ends = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < ends, f"waited in vain: {what}"
        await asyncio.sleep(0.002)


def run_script(source: str, folder: Path, env: Mapping[str, str] | None = None, args: Sequence[str] = ()) -> Any:
    """Run Python source in a process of its own, with its state under `folder`; its outcome."""
    return subprocess.run(
        [sys.executable, "-c", source, *args],
        cwd=folder,
        env={**os.environ, "XDG_STATE_HOME": str(folder), "PYTHONPATH": os.pathsep.join(sys.path), **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
