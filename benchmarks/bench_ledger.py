"""The ledger's speed: `python benchmarks/bench_ledger.py`.

How long a question over many rows takes, and how many rows a drain writes, over what the database does with the same
rows in a table that keeps no sums. Prints a table with commit and versions; exits with 1 if a figure misses its bound.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import apsw
from figures import Figure, Sizes, at_least, at_most, batched, fresh_folder, heading, median, show

from budgetguard.core.amounts import Amounts
from budgetguard.core.model import CallInfo, Plan, UsageRow
from budgetguard.core.verbs import Row
from budgetguard.ledger import rollups
from budgetguard.ledger.books import open_book
from budgetguard.ledger.reading import Stretch
from budgetguard.ledger.sqlite import SQLiteLedger
from budgetguard.ledger.table import ADD_ROW, WRITE_ROW, ledger_row, timestamp

ROWS = 10_000_000
DAY_MS, HOUR_MS = 86_400_000, 3_600_000
NOW_MS = 1_795_348_800_000 + 23 * 60_000 + 45_678
"""2026-11-22 12:23:45.678 UTC: the ends of every stretch lie amid five minutes."""
AGENTS, DRAINED, BATCH = 100, 40_000, 1_000
SPANS = {"hour": HOUR_MS, "24 hours": DAY_MS, "7 days": 7 * DAY_MS}
TRIGGERS = ("added", "changed", "dropped")


def row(number: int, at_ms: int, dice: random.Random) -> Row:
    """A call of one of some agents, each with a team, two tasks and two models."""
    agent = dice.randrange(AGENTS)
    labels = {
        "team": f"team-{agent % 7}", "agent": f"agent-{agent}", "task": f"task-{agent % 10 + dice.randrange(2)}",
        "model": f"model-{agent % 3 + dice.randrange(2)}", "provider": "acme",
    }  # fmt: skip
    usage = UsageRow(dice.randrange(9_000), dice.randrange(900), cost_nanousd=dice.randrange(10**8), source="reported")
    return Row(
        f"r-{number:012}", 1, "settled", at_ms, at_ms, at_ms, CallInfo(labels), usage, Amounts(), Plan(()),
        latency_ms=int(dice.lognormvariate(7, 0.7)),
    )  # fmt: skip


def rows(count: int) -> Iterator[tuple[Any, ...]]:
    """So many rows of the last eight days. Only what makes a difference is made anew for each."""
    dice = random.Random(1)
    some = [ledger_row("prod", row(number, NOW_MS, dice)) for number in range(min(count, 5_000))]
    begins_ms, step = NOW_MS - 8 * DAY_MS, 8 * DAY_MS / count
    for number in range(count):
        at = timestamp(begins_ms + int(number * step))
        yield (f"r-{number:012}", "prod", 1, at, at, *dice.choice(some)[5:])


def filled(path: Path, count: int) -> None:
    """A ledger with so many rows; summed at once, which takes a tenth of the time."""
    SQLiteLedger(str(path)).write(())
    db = apsw.Connection(str(path))
    db.execute("PRAGMA synchronous = OFF; PRAGMA cache_size = -400000")
    for name in TRIGGERS:
        db.execute(f"DROP TRIGGER usage_rollups_{name}")
    for some in batched(rows(count), 100_000):
        with db:
            db.executemany(ADD_ROW, some)
    db.execute(rollups.FILL)
    db.close()


def questions(sizes: Sizes, count: int) -> list[Figure]:
    """Of a figure the slower of the first question and the median of the others: nothing may be warm."""
    figures = []
    with fresh_folder(sizes) as folder:
        filled(folder / "ledger.db", count)
        for what, span_ms in SPANS.items():
            stretch = Stretch("prod", NOW_MS - span_ms, NOW_MS)
            book = open_book(f"sqlite:///{folder / 'ledger.db'}")
            took_ms = [_ms(partial(book.totals, stretch, ("agent",))) for _ in range(sizes.rounds + 1)]
            book.close()
            made_of = f"{count:,} rows; the first {took_ms[0]:.0f} ms"
            figures.append(at_most(f"by agent over the last {what}, ms", median(took_ms[1:]), 100, made_of, "{:.0f}"))
    return figures


def drained(sizes: Sizes, count: int) -> list[Figure]:
    """Rows per second of the ledger's own write, over those of a plain table."""
    dice = random.Random(2)
    made = [("prod", row(number, NOW_MS - 20 * number, dice)) for number in range(count)]
    rates: dict[str, list[float]] = {"ledger": [], "floor": []}
    with fresh_folder(sizes) as folder:
        for number in range(sizes.rounds):
            ledger = SQLiteLedger(str(folder / f"l{number}.db"))
            ledger.write(())
            floor = apsw.Connection(str(folder / f"f{number}.db"))
            floor.execute("PRAGMA journal_mode = WAL").fetchall()
            floor.execute("PRAGMA synchronous = FULL")
            floor.execute(_one(folder / f"l{number}.db", "SELECT sql FROM sqlite_schema WHERE name = 'token_usage'")[0])
            for name, write in (("floor", partial(_plainly, floor)), ("ledger", ledger.write)):
                rates[name].append(count / _ms(partial(_each, write, made)) * 1_000)
            ledger.close()
            floor.close()
    mine, theirs = median(rates["ledger"]), median(rates["floor"])
    return [
        at_least("rows drained, per executemany of the same", mine / theirs, 0.5, f"{mine:.0f}/s by {theirs:.0f}/s")
    ]


def _plainly(floor: apsw.Connection, some: Sequence[tuple[str, Row]]) -> None:
    with floor:
        floor.executemany(WRITE_ROW, [ledger_row(*one) for one in some])


def _each(write: Callable[[Sequence[tuple[str, Row]]], object], made: Sequence[tuple[str, Row]]) -> None:
    for some in batched(made, BATCH):
        write(some)


def _ms(job: Callable[[], object]) -> float:
    began = time.perf_counter()
    job()
    return (time.perf_counter() - began) * 1_000


def _one(path: Path, question: str) -> tuple[Any, ...]:
    db = apsw.Connection(str(path))
    try:
        return tuple(db.execute(question).fetchall()[0])
    finally:
        db.close()


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS, help="in the ledger that is asked (default: ten million)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="once, and small: shows that it runs, measures nothing")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="where files are made (5 GB)")
    asked = parser.parse_args()
    sizes = Sizes(rounds=1 if asked.quick else asked.rounds, folder=asked.folder.resolve())
    print(heading(sizes), end="\n\n", flush=True)
    figures = drained(sizes, 1_000 if asked.quick else DRAINED)
    figures += questions(sizes, 20_000 if asked.quick else asked.rows)
    show(figures)
    return int(any(figure.met is False for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
