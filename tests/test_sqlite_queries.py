"""The statements of the SQLite store find their rows by index: what a batch costs does not grow with the file."""

from __future__ import annotations

import pytest

from budgetguard.stores.sqlite import schema

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
