"""Whichever write or sync of its store a process dies at: what was acknowledged stands, and nothing is half done."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from storm_again import start_again
from storm_books import EXACT, books_of, check_balance, check_bill
from storm_world import BUDGETS

from budgetguard.testing import read_bill

PROGRAM = Path(__file__).with_name("storm_crash.py")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("power", [False, True], ids=["the process is killed", "the power goes"])
def test_a_crash_at_any_write_or_sync_loses_nothing_that_was_acknowledged(tmp_path: Path, power: bool) -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), json.dumps({"folder": str(tmp_path), "power": power})],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ids: dict[str, set[str]] = defaultdict(set)
    for line in done.stdout.splitlines():
        step, _, id = line.split()
        ids[step].add(id)
    assert ids.pop("steps") == {"0"}, done.stderr  # the exit code of the last one, which lived to the end
    asyncio.run(start_again(tmp_path))
    books = asyncio.run(books_of(tmp_path / "budgets.db"))
    print(f"{done.stdout.splitlines()[-1]}: {dict(books.statuses)}")
    check_balance(books, BUDGETS)
    check_bill(books, read_bill(tmp_path / "bill.jsonl"), BUDGETS)
    status = {row.id: row.status for row in books.ledger}
    assert ids["admitted"] <= set(status)
    assert {id: status.get(id) for id in ids["settled"] if status.get(id) not in EXACT} == {}
    assert ids["released"].isdisjoint(status)
    assert books.statuses["expired"] > 10 and len(ids["settled"]) > 20
