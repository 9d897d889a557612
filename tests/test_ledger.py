"""The ledger as a user asks it: the first query that everybody writes, what a row says, and sums that are exact."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import time
from pathlib import Path

import apsw
import pytest
from store_kit import (
    LEASE_MS,
    NOON_MS,
    amounts,
    ask,
    ask_one,
    claims,
    expire,
    info,
    ledger,
    plan,
    reserve,
    settle,
    usage,
)

from budgetguard.core.model import Plan
from budgetguard.core.verbs import Row
from budgetguard.ledger import table
from budgetguard.stores.sqlite import SQLiteStore
from budgetguard.testing.clock import FakeClock

# As it stands in the issue, to the letter.
FIRST_QUERY = (
    "SELECT task_type, SUM(cost) AS total_cost, SUM(prompt_tokens) AS total_prompt, "
    "SUM(completion_tokens) AS total_completion FROM token_usage WHERE date(timestamp) = date('now') GROUP BY task_type"
)
COLUMNS = {
    "reservation_id", "revision", "timestamp", "settled_at", "team", "agent", "session_id", "task_type", "user",
    "labels", "provider", "model", "prompt_tokens", "completion_tokens", "cache_read_tokens", "cache_write_tokens",
    "reasoning_tokens", "total_tokens", "cost_nanousd", "cost", "estimated_tokens", "estimated_cost_nanousd",
    "latency_ms", "status", "error_type", "price_source", "usage_source", "operation_id",
    "accounts", "would_refuse",
}  # fmt: skip
# At most two cents a call: SQLite before 3.43, which many Pythons carry, adds doubles without compensation, and is
# exact to nine places up to some thousands of dollars.
MOST_NANOUSD = 20_000_000
ROWS, TASKS = 200_000, ("summarise", "plan", "crawl", None)


def test_the_ledger_has_the_columns_that_were_promised(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "store.db"
        store = SQLiteStore(str(path), clock=FakeClock(NOON_MS + 7))
        of = Plan(plan("9999 tokens/day", "$1/total").claims + claims("w", ("1 tokens/hour",), NOON_MS, enforced=False))
        estimate, actual = amounts(1_000, 500, 1_234_567_891), amounts(900, 700, 1_234_567_890)
        of = Plan(of.claims[:1] + of.claims[2:])
        labels = {"team": "t", "agent": "a", "session": "s", "task": "k", "user": "u", "model": "m", "provider": "p"}
        await ask_one(store, reserve("r", of, estimate, **labels, tenant="x", region="eu"))
        await ask_one(store, settle("r", of, actual, estimate, "error"))
        row = ledger(path, "r")
        assert row is not None
        assert set(row) >= COLUMNS
        assert row["timestamp"] == row["settled_at"] == "2026-11-22 12:00:00.007000"
        shown = {name: row[name] for name in ("team", "agent", "session_id", "task_type", "user", "model", "provider")}
        assert list(shown.values()) == ["t", "a", "s", "k", "u", "m", "p"]
        assert row["labels"] == '{"tenant":"x","region":"eu"}'
        assert (row["prompt_tokens"], row["completion_tokens"], row["total_tokens"]) == (900, 700, 1_600)
        assert (row["cost_nanousd"], row["cost"]) == (1_234_567_890, 1.23456789)
        assert (row["estimated_tokens"], row["estimated_cost_nanousd"]) == (1_500, 1_234_567_891)
        assert (row["status"], row["latency_ms"], row["price_source"]) == ("error", 12, "table")
        assert row["accounts"] == f"[{of.claims[0].account.key},{of.claims[1].account.key}]"
        assert row["would_refuse"] == '["w"]'
        await store.aclose()

    asyncio.run(scenario())


def test_a_call_whose_cost_nobody_knows_has_none(tmp_path: Path) -> None:
    async def scenario() -> None:
        path, of = tmp_path / "store.db", plan("9999 tokens/day")
        store = SQLiteStore(str(path), clock=FakeClock(NOON_MS))
        op = settle("r", of, amounts(5))
        await ask_one(store, op._replace(usage=op.usage._replace(cost_nanousd=None)))
        row = ledger(path, "r")
        assert row is not None
        assert (row["cost_nanousd"], row["cost"], row["total_tokens"]) == (None, None, 5)
        await store.aclose()

    asyncio.run(scenario())


def test_the_first_query_of_a_new_user_works_as_written(tmp_path: Path) -> None:
    """With Python's own sqlite3, on the wall clock."""

    async def scenario() -> None:
        store = SQLiteStore(str(tmp_path / "store.db"))
        now_ms = await store.open()
        of, actual = plan("9999 tokens/total"), amounts(100, 20, 3_000_001)
        for id, task in {"a": "crawl", "b": "crawl", "c": "plan"}.items():
            await ask_one(store, reserve(id, of, actual, now_ms, task=task))
            op = settle(id, of, actual, admitted_ms=now_ms, tried_since_ms=now_ms, task=task)
            await ask_one(store, op)
        await ask_one(store, reserve("open", of, actual, now_ms))
        await store.aclose()

    before = time.gmtime().tm_mday
    asyncio.run(scenario())
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db")) as db:
        found = sorted(db.execute(FIRST_QUERY).fetchall())
    if time.gmtime().tm_mday == before:  # else it ran over midnight, and "today" is another day
        assert found == [("crawl", 0.006000002, 200, 40), ("plan", 0.003000001, 100, 20)]


def dice(number: int) -> random.Random:
    print(f"\nseed {number}")
    return random.Random(number)


def filled(path: Path, numbers: random.Random) -> None:
    """200,000 rows of today: some through the store, some through its statement, and copies of them at other costs."""

    async def through_the_store(now_ms: int) -> None:
        store = SQLiteStore(str(path))
        await store.open()
        of = plan("9 tokens/total", on_expiry="charge")
        for first in range(0, 2_000, 500):
            ops = []
            for n in range(first, first + 500):
                actual = amounts(numbers.randrange(9_000), numbers.randrange(900), numbers.randrange(1, MOST_NANOUSD))
                labels = {"task": TASKS[n % 3] or ""}
                ops.append(settle(f"s{n}", of, actual, admitted_ms=now_ms, tried_since_ms=now_ms, **labels))
            assert {answer.word for answer in await ask(store, *ops)} == {"late"}
        await store.aclose()

    now_ms = time.time_ns() // 1_000_000
    asyncio.run(through_the_store(now_ms))
    db = apsw.Connection(str(path))
    with db:
        db.executemany(table.WRITE_ROW, (made(n, now_ms, numbers) for n in range(ROWS // 10 - 2_000)))
        others = {"reservation_id": "? || reservation_id", "cost_nanousd": "1 + (cost_nanousd * 48271 + ?) % ?"}
        names = [name for _, name, *_, hidden in db.execute("PRAGMA table_xinfo(token_usage)") if not hidden]
        copy = f"""
            INSERT INTO token_usage ({", ".join(names)}) SELECT {", ".join(others.get(name, name) for name in names)}
            FROM token_usage WHERE reservation_id NOT LIKE '%copy%'"""
        for n in range(1, 10):
            db.execute(copy, (f"copy-{n}-", numbers.randrange(MOST_NANOUSD), MOST_NANOUSD - 1))
    db.close()


def made(number: int, now_ms: int, numbers: random.Random) -> tuple[object, ...]:
    actual = amounts(numbers.randrange(9_000), numbers.randrange(900), numbers.randrange(1, MOST_NANOUSD))
    task = TASKS[number % 4]
    labels = info(actual, **({"task": task} if task else {"team": "t"}))
    row = Row(f"d{number}", 1, "settled", now_ms, now_ms, now_ms, labels, usage(actual), actual, Plan(()))
    return table.ledger_row("default", row)


@pytest.mark.parametrize("reader", ["apsw", "sqlite3"])
def test_sums_of_cost_rounded_to_nine_places_are_exact_over_two_hundred_thousand_rows(
    tmp_path_factory: pytest.TempPathFactory, reader: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "two_hundred_thousand.db"
    if not path.exists():
        filled(path, dice(random.randrange(2**32)))
    truth = FIRST_QUERY.replace("SUM(cost) AS total_cost", "SUM(cost_nanousd)")
    connect = apsw.Connection if reader == "apsw" else sqlite3.connect
    with contextlib.closing(connect(str(path))) as db:
        db.execute("BEGIN")
        assert list(db.execute("SELECT COUNT(*) FROM token_usage")) == [(ROWS,)]
        exact = {task: cost for task, cost, *_ in db.execute(truth).fetchall()}
        found = {task: cost for task, cost, *_ in db.execute(FIRST_QUERY).fetchall()}
        (total,) = db.execute("SELECT SUM(cost), SUM(cost_nanousd) FROM token_usage").fetchall()
        db.execute("COMMIT")
    if exact:  # else it ran over midnight
        assert set(found) == set(TASKS)
        assert {task: round(cost, 9) for task, cost in found.items()} == {t: n / 10**9 for t, n in exact.items()}
    assert round(total[0], 9) == total[1] / 10**9


def test_an_expired_row_counts_in_the_sums_until_the_truth_replaces_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        path, clock = tmp_path / "store.db", FakeClock(NOON_MS)
        store = SQLiteStore(str(path), clock=clock)
        of = plan("$1/total")
        total = "SELECT SUM(cost_nanousd), COUNT(*), MAX(status) FROM token_usage"
        await ask_one(store, reserve("r", of, amounts(10, 10, 900)))
        clock.advance(LEASE_MS)
        await ask_one(store, expire("r"))
        db = apsw.Connection(str(path))
        assert db.execute(total).fetchall() == [(900, 1, "expired")]
        await ask_one(store, settle("r", of, amounts(10, 7, 700), amounts(10, 10, 900)))
        assert db.execute(total).fetchall() == [(700, 1, "late")]
        db.close()
        await store.aclose()

    asyncio.run(scenario())
