"""The benchmark runs to its end and prints its table. What it measures is no test's business."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from redis_kit import MISSING, has_redis

SQLITE_FIGURES = (
    "SQLite, 256 callers, 12 limits: calls per single-row transaction",
    "operations in a transaction",
    "the same, syncs take 2 ms more",
    "the slowest caller's share of the mean",
    "the guard's own CPU for a call of 12 limits, us",
    "by limits 1 to 32, agents known to the guard: 32 by 16",
    "by limits 1 to 32, every call a new agent: off the line",
    "a call through a transport with learned estimates, by one with ceilings",
    "SQLite, a call at 1,000 accounts by one at 10",
    "import budgetguard beyond import asyncio, ms",
    "optional packages that it imports",
)
REDIS_FIGURES = (
    "Redis, one after the other, 12 limits: a call by two bare round trips",
    "Redis, 256 callers on one team, 12 limits: calls by bare scripts",
    "the slowest caller's share of the mean",
    "Redis' CPU for a call, us",
    "Redis, bytes of an account with its index entry",
    "of an open reservation",
    "of a resolved one",
    "of a rolling account, full",
    "Redis, a call at 1,000 accounts by one at 10",
    "by limits 1 to 32, Redis' scripts: 32 by 16",
    "limits, six hits, moving windows",
    "token-throttle, six limits",
)


LEDGER_FIGURES = (
    "SQLite: rows drained, per executemany of the same",
    "PostgreSQL: rows drained, per COPY of the same",
    *(
        f"{database}: by one label over the last {span}, ms"
        for database in ("SQLite", "PostgreSQL")
        for span in ("hour", "24 hours", "7 days")
    ),
)
TRANSPORT_FIGURES = tuple(f"a {kind} call, p{percent}" for kind in ("plain", "streamed") for percent in (50, 99))


@pytest.mark.parametrize(
    ("arguments", "figures"),
    [
        (["bench_guard.py"], SQLITE_FIGURES),
        (["bench_guard.py", "--store", "redis"], REDIS_FIGURES),
        (["bench_transport.py"], TRANSPORT_FIGURES),
        (["bench_ledger.py"], LEDGER_FIGURES),
    ],
    ids=["sqlite", "redis", "transport", "ledger"],
)
def test_the_benchmark_runs_to_its_end_and_prints_its_table(
    checkout: Path, tmp_path: Path, arguments: list[str], figures: tuple[str, ...]
) -> None:
    if "redis" in arguments and not has_redis():
        pytest.skip(MISSING)
    pytest.importorskip("openai", reason="the openai SDK is not installed")
    name, *others = arguments
    command = [sys.executable, f"benchmarks/{name}", "--quick", "--folder", str(tmp_path), *others]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    heading, table = done.stdout.split("\n\n")
    assert heading.startswith("budgetguard at ")
    assert "SQLite" in heading and "redis-py" in heading
    assert [figure for figure in figures if figure not in table] == []
    assert done.returncode == (1 if "MISSED" in table else 0)
    assert list(tmp_path.iterdir()) == []
