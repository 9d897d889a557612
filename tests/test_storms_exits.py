"""However a process leaves in the midst of its calls, the next start has all that it knew of them in the ledger."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from storm_again import spooled, start_again
from storm_books import EXACT, books_of, check_balance, check_bill
from storm_world import BUDGETS

from budgetguard.testing import read_bill

PROGRAM = Path(__file__).with_name("storm_exit.py")
CODES = {
    "return": 0, "raise": 1, "sys.exit": 3, "os._exit": 3, "SIGINT": -signal.SIGINT, "SIGTERM": -signal.SIGTERM,
    "close the loop": 0,
}  # fmt: skip
ORDERLY = ("return", "raise", "sys.exit", "SIGINT", "close the loop")


def leave(folder: Path, way: str, away: bool) -> dict[str, set[str]]:
    """Run the program; the reservation ids of each step that it told."""
    options = {"folder": str(folder), "way": way, "after": 9, "away": away}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), json.dumps(options)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == CODES[way], done.stderr
    ids: dict[str, set[str]] = defaultdict(set)
    for line in done.stdout.splitlines():
        step, _, id = line.split()
        ids[step].add(id)
    return ids


def check_again(folder: Path, ids: dict[str, set[str]], known: str) -> None:
    """After the next start the books agree, and have the truth of every call of which this step was told."""
    asyncio.run(start_again(folder))
    books = asyncio.run(books_of(folder / "budgets.db"))
    check_balance(books, BUDGETS)
    check_bill(books, read_bill(folder / "bill.jsonl"), BUDGETS)
    assert {row.id: row.status for row in books.ledger if row.id in ids[known] and row.status not in EXACT} == {}
    assert ids["settled"] < ids["recorded"]  # and what was recorded is on the bill, so the ledger has it


@pytest.mark.parametrize("way", CODES)
def test_what_a_leaving_process_knew_is_in_the_ledger_after_the_next_start(tmp_path: Path, way: str) -> None:
    """A process that is killed knows nothing any more of a call that it had not settled: that one expires."""
    ids = leave(tmp_path, way, away=False)
    check_again(tmp_path, ids, "recorded" if way in ORDERLY else "settled")


@pytest.mark.parametrize("way", ORDERLY)
def test_a_process_that_leaves_while_the_store_is_away_leaves_a_spool(tmp_path: Path, way: str) -> None:
    ids = leave(tmp_path, way, away=True)
    assert spooled(tmp_path) > 0
    check_again(tmp_path, ids, "recorded")
