"""How the SQLite store reads: by index, so that a batch costs the same in a large file; and what it remembers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from store_kit import NOON_MS, amounts, ask_one, grow, plan, release, reserve, settle, stands

from budgetguard.stores.sqlite import SQLiteStore, schema
from budgetguard.testing.clock import FakeClock

IDS = '["a", "b"]'
NARROW = ("key=?", "id=?", "digest=?", "keep_until_ms<?", "lease_end_ms<?")
"""Columns that tell rows of one namespace apart."""


@pytest.mark.parametrize(
    ("statement", "bindings"),
    [
        ("READ_PLAN", (b"digest",)),
        ("READ_BALANCES", ("default", IDS, 1)),
        ("READ_RESERVATIONS", ("default", IDS, 1)),
        ("READ_ROW", ("a", "default")),
        ("DUE", ("default", 1, 1)),
        ("FORGET_ACCOUNTS", ("default", 1)),
        ("FORGET_RESERVATIONS", ("default", 1)),
    ],
)
def test_a_batch_and_a_sweep_read_only_the_rows_that_they_ask_for(statement: str, bindings: tuple[object, ...]) -> None:
    db = schema.connect(":memory:", 100)
    steps = [str(step[-1]) for step in db.execute(f"EXPLAIN QUERY PLAN {getattr(schema, statement)}", bindings)]
    db.close()
    of_tables = [step for step in steps if "asked" not in step]
    assert of_tables
    assert [step for step in of_tables if not any(column in step for column in NARROW)] == []


@pytest.mark.parametrize("between", ["grow", "release"])
def test_a_hold_that_another_process_has_changed_is_read_anew(tmp_path: Path, between: str) -> None:
    async def story() -> None:
        clock = FakeClock(NOON_MS)
        ours, theirs = (SQLiteStore(str(tmp_path / "budgets.db"), clock=clock) for _ in range(2))
        whole, small, large = plan("1000 tokens/hour"), amounts(100, 50), amounts(300, 50)
        assert (await ask_one(ours, reserve("a", whole, small))).word == "granted"
        if between == "grow":
            assert (await ask_one(theirs, grow("a", whole, large))).word == "granted"
        else:
            assert (await ask_one(theirs, release("a"))).word == "released"
        answer = await ask_one(ours, settle("a", whole, small, estimate=small))
        assert answer.word == {"grow": "settled", "release": "late"}[between]
        assert set((await stands(ours)).values()) == {(150, 0)}
        await ours.aclose()
        await theirs.aclose()

    asyncio.run(story())
