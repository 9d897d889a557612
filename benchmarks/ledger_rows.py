"""The rows of the ledger's benchmark, and databases that are full of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import apsw
import psycopg

from budgetguard.core.amounts import Amounts
from budgetguard.core.model import CallInfo, Plan, UsageRow
from budgetguard.core.verbs import Row
from budgetguard.ledger import rollups_sqlite
from budgetguard.ledger.postgres import PostgresLedger
from budgetguard.ledger.sqlite import SQLiteLedger
from budgetguard.ledger.table import COLUMNS, ledger_row

NAMESPACE = "prod"
DAY_MS, HOUR_MS = 86_400_000, 3_600_000
NOW_MS = 1_795_348_800_000 + 23 * 60_000 + 45_678
"""2026-11-22 12:23:45.678 UTC: the ends of every stretch lie amid a quarter of an hour."""
DAYS, TEAMS, AGENTS, TASKS, MODELS = 30, 20, 10, 2, 3
SHAPE = f"{DAYS} days, {TEAMS} teams x {AGENTS} agents x {TASKS} tasks x {MODELS} models"
KINDS = 49_999
"""Rows that differ; a prime, so that any number of them follow each other in an order of no pattern."""
AT_ONCE = 200_000
_REST = ", ".join(f'"{name}"' for name in COLUMNS[5:])
_ROW = "SELECT 'r-' || substr(CAST(1000000000000 + n AS TEXT), 2), 'prod', 1, {at}, {at}, " + _REST
_SERIES = (
    "WITH RECURSIVE series (n) AS (VALUES (?) UNION ALL SELECT n + 1 FROM series WHERE n < ?) SELECT n FROM series"
)
_PICKED = f"kinds ON kinds.number = n * 2654435761 % {KINDS}"


def row(number: int, at_ms: int, dice: random.Random) -> Row:
    """A call of an agent, which belongs to one team and has two tasks; one in fifty fails."""
    team, agent = dice.randrange(TEAMS), dice.randrange(AGENTS)
    labels = {
        "team": f"team-{team}", "agent": f"agent-{team}-{agent}", "task": f"task-{agent}-{dice.randrange(TASKS)}",
        "model": f"model-{dice.randrange(MODELS)}", "provider": "acme",
    }  # fmt: skip
    usage = UsageRow(dice.randrange(9_000), dice.randrange(900), cost_nanousd=dice.randrange(10**8), source="reported")
    return Row(
        f"r-{number:012}", 1, "settled", at_ms, at_ms, at_ms, CallInfo(labels), usage, Amounts(), Plan(()),
        latency_ms=int(dice.lognormvariate(7, 0.7)), error_type="APIError" if dice.random() < 0.02 else "",
    )  # fmt: skip


def step_ms(count: int) -> float:
    """Between two of so many rows."""
    return DAYS * DAY_MS / count


def _kinds() -> list[tuple[object, ...]]:
    dice = random.Random(1)
    return [(number, *ledger_row(NAMESPACE, row(number, NOW_MS, dice))) for number in range(KINDS)]


def _batches(count: int) -> Iterator[tuple[int, int]]:
    for first in range(0, count, AT_ONCE):
        yield first, min(first + AT_ONCE, count)


def fill_sqlite(path: Path, count: int) -> None:
    """A ledger with so many rows, made by SQL without triggers, and counted by what a migration counts with."""
    SQLiteLedger(str(path)).write(())
    db = apsw.Connection(str(path))
    db.execute("PRAGMA synchronous = OFF; PRAGMA cache_size = -400000")
    columns = ", ".join(f'"{name}"' for name in COLUMNS)
    db.execute(f"CREATE TEMP TABLE kinds (number INTEGER PRIMARY KEY, {columns})")
    with db:
        db.executemany(f"INSERT INTO kinds VALUES ({', '.join('?' * (len(COLUMNS) + 1))})", _kinds())  # noqa: S608 - question marks
    at_ms = f"{NOW_MS - DAYS * DAY_MS} + CAST(n * {step_ms(count)} AS INTEGER)"
    at = f"strftime('%Y-%m-%d %H:%M:%f000', ({at_ms}) / 1e3, 'unixepoch')"
    db.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
    for first, last in _batches(count):
        with db:
            db.execute(
                f"INSERT INTO token_usage ({columns}) {_ROW.format(at=at)} "
                f"FROM ({_SERIES}) AS series JOIN {_PICKED}", (first, last - 1),
            )  # fmt: skip
    db.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 1)
    with db:
        db.execute(rollups_sqlite.FILL)
    db.close()


def fill_postgres(url: str, count: int) -> None:
    """A ledger with so many rows, made by SQL with its triggers on."""
    ledger = PostgresLedger(url)
    ledger.write(())
    ledger.close()
    columns = ", ".join(f'"{name}"' for name in COLUMNS)
    at = f"to_timestamp(({NOW_MS - DAYS * DAY_MS} + CAST(floor(n * {step_ms(count)}) AS BIGINT)) / 1e3)"
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("SET synchronous_commit = off")
        db.execute(f"CREATE TEMP TABLE kinds AS SELECT 0 AS number, {columns} FROM token_usage LIMIT 0")  # noqa: S608 - of constants
        with db.cursor().copy("COPY kinds FROM STDIN") as copy:
            for kind in _kinds():
                copy.write_row(kind)
        for first, last in _batches(count):
            db.execute(
                f"INSERT INTO token_usage ({columns}) {_ROW.format(at=at)} "
                f"FROM generate_series(CAST({first} AS BIGINT), {last - 1}) AS n JOIN {_PICKED}"
            )
        db.execute("VACUUM ANALYZE")
