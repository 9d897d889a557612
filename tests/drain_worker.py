"""A process of its own that drains, for the tests of the drain: `python drain_worker.py TASK LEDGER [...]`.

Each line that it prints is a fact: a step that is about to be taken, a count, or the kind of an error and its text.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import apsw
from drain_kit import NAMESPACE, FolderOutbox, row

from budgetguard.errors import StoreError
from budgetguard.ledger.drain import drain
from budgetguard.ledger.sqlite import SQLiteLedger


def say(*words: Any) -> None:
    print(*words, flush=True)


class Fatal:
    """Kills the process, without warning, before the n-th step; 0 never."""

    def __init__(self, fatal: int) -> None:
        self.fatal = fatal
        self.steps = 0

    def step(self, what: str) -> None:
        self.steps += 1
        if self.steps == self.fatal:
            say("killed before", what)
            os.kill(os.getpid(), signal.SIGKILL)


def moved(ledger: str, folder: str, most: str, fatal: str) -> None:
    """Drain an outbox in a folder; the steps are those of the outbox and of each transaction of the ledger."""
    steps = Fatal(int(fatal))

    def hooks(db: apsw.Connection) -> None:
        # apsw asks, inside of COMMIT, whether it shall be a rollback instead
        db.set_commit_hook(lambda: steps.step("transaction ends") or False)

    apsw.connection_hooks.append(hooks)
    found = SQLiteLedger(ledger, timeout_ms=30_000)
    drained = asyncio.run(drain(FolderOutbox(Path(folder), steps.step), found, int(most)))
    found.close()
    say("moved", drained.rows)


def once(ledger: str) -> None:
    """Write one row."""
    SQLiteLedger(ledger).write([(NAMESPACE, row("once"))])
    say("written")


def full(ledger: str) -> None:
    """A disk without room while rows are written: none of them is there, and later there is room."""
    found = SQLiteLedger(ledger)
    found.write([(NAMESPACE, row("first"))])
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        found.write([(NAMESPACE, row(f"r{n}")) for n in range(500)])
    except StoreError as error:
        say(type(error).__name__, error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    found.write([(NAMESPACE, row("last"))])
    found.close()


if __name__ == "__main__":
    try:
        {"moved": moved, "once": once, "full": full}[sys.argv[1]](*sys.argv[2:])
    except StoreError as error:
        say(type(error).__name__, error)
