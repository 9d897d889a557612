"""The ledger's speed: `python benchmarks/bench_ledger.py`, in SQLite and, where its server is installed, PostgreSQL.

How long a question over many rows takes, and how many rows a drain writes, over what the database does with the same
rows in a table that keeps no sums. Prints a table with commit and versions; exits with 1 if a figure misses its bound.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import psycopg
from figures import Figure, Sizes, at_least, at_most, batched, fresh_folder, heading, median, progress, show
from ledger_rows import DAY_MS, HOUR_MS, NAMESPACE, NOW_MS, SHAPE, fill_postgres, fill_sqlite, row, step_ms
from postgres_server import fresh_schema, postgres_server, program

from budgetguard.core.verbs import Row
from budgetguard.ledger.books import open_book
from budgetguard.ledger.postgres import PostgresLedger, sent
from budgetguard.ledger.reading import Stretch
from budgetguard.ledger.sqlite import SQLiteLedger
from budgetguard.ledger.table import COLUMNS, WRITE_ROW, ledger_row

ROWS = 10_000_000
DRAINED, BATCH = 40_000, 1_000
SPANS = {"hour": HOUR_MS, "24 hours": DAY_MS, "7 days": 7 * DAY_MS}
BY = ("team", "agent", "task_type", "model")
NAMES = ", ".join(f'"{name}"' for name in COLUMNS)
PLAIN = "SELECT sql FROM sqlite_schema WHERE tbl_name = 'token_usage' AND type IN ('table', 'index') AND sql <> ''"
Write = Callable[[Sequence[tuple[str, Row]]], object]


def questions(sizes: Sizes, database: str, url: str) -> list[Figure]:
    """Of each span the slowest of the questions by one label: their medians, after a first one on a connection."""
    figures = []
    for what, span_ms in SPANS.items():
        stretch, took_ms = Stretch(NAMESPACE, NOW_MS - span_ms, NOW_MS), {}
        first_ms = best_ms = 0.0
        for name in BY:
            book = open_book(url)
            times_ms = [_ms(partial(book.totals, stretch, (name,))) for _ in range(sizes.rounds + 1)]
            book.close()
            first_ms, best_ms = max(first_ms, times_ms[0]), max(best_ms, min(times_ms))
            took_ms[name] = median(times_ms[1:])
        by = ", ".join(f"{name} {ms:.0f}" for name, ms in took_ms.items())
        title = f"{database}: by one label over the last {what}, ms"
        made_of = f"{by}; first asked {first_ms:.0f}, at best {best_ms:.0f}"
        figures.append(at_most(title, max(took_ms.values()), 100, made_of, "{:.0f}"))
    return figures


def drained(sizes: Sizes, what: str, count: int, writers: Callable[[int], Any]) -> Figure:
    """Rows per second of the ledger's own write, over those of a plain table: batch by batch in turn, so that whatever
    else the machine does slows both. `writers` makes the two, empty.
    """
    dice = random.Random(2)
    step = step_ms(ROWS)
    made = [(NAMESPACE, row(number, NOW_MS + int(number * step), dice)) for number in range(count)]
    took_ms = []
    for number in range(sizes.rounds):
        with writers(number) as (plain, ledger):
            times_ms = [(_ms(partial(plain, some)), _ms(partial(ledger, some))) for some in batched(made, BATCH)]
        took_ms.append([sum(column) for column in zip(*times_ms, strict=True)])
    ratios = [theirs / mine for theirs, mine in took_ms]
    theirs, mine = (count * 1_000 / median(column) for column in zip(*took_ms, strict=True))
    made_of = f"{mine:.0f}/s by {theirs:.0f}/s, {BATCH:,} at a time; from {min(ratios):.2f} to {max(ratios):.2f}"
    return at_least(what, median(ratios), 0.5, made_of)


@contextmanager
def in_sqlite(folder: Path, number: int) -> Iterator[tuple[Write, Write]]:
    """A plain table with the ledger's indexes and durability, and a ledger."""
    ledger = SQLiteLedger(str(folder / f"l{number}.db"))
    ledger.write(())
    db = apsw.Connection(str(folder / f"l{number}.db"))
    made = [sql for (sql,) in db.execute(PLAIN)]
    db.close()
    floor = apsw.Connection(str(folder / f"f{number}.db"))
    floor.execute("PRAGMA journal_mode = WAL").fetchall()
    floor.execute("PRAGMA synchronous = FULL")
    for sql in made:
        floor.execute(sql)

    def plainly(some: Sequence[tuple[str, Row]]) -> None:
        with floor:
            floor.executemany(WRITE_ROW, [ledger_row(*one) for one in some])

    yield plainly, ledger.write
    ledger.close()
    floor.close()


@contextmanager
def in_postgres(url: str, number: int) -> Iterator[tuple[Write, Write]]:
    """The same: the floor is COPY."""
    ledger = PostgresLedger(fresh_schema(url, f"l{number}"))
    ledger.write(())
    with psycopg.connect(fresh_schema(url, f"f{number}"), autocommit=True) as floor:
        floor.execute(f"CREATE TABLE token_usage (LIKE l{number}.token_usage INCLUDING ALL)")

        def plainly(some: Sequence[tuple[str, Row]]) -> None:
            with floor.cursor().copy(f"COPY token_usage ({NAMES}) FROM STDIN") as copy:
                for one in some:
                    copy.write_row(sent(COLUMNS, ledger_row(*one)))

        yield plainly, ledger.write
    ledger.close()


def _ms(job: Callable[[], object]) -> float:
    began = time.perf_counter()
    job()
    return (time.perf_counter() - began) * 1_000


def sqlite_figures(sizes: Sizes, count: int, moved: int) -> list[Figure]:
    """Of a file."""
    with fresh_folder(sizes) as folder:
        figures = [
            drained(sizes, "SQLite: rows drained, per executemany of the same", moved, partial(in_sqlite, folder))
        ]
        progress("filling SQLite")
        fill_sqlite(folder / "ledger.db", count)
        return figures + questions(sizes, "SQLite", f"sqlite:///{folder / 'ledger.db'}")


def postgres_figures(sizes: Sizes, count: int, moved: int) -> list[Figure]:
    """Of a server of its own."""
    with postgres_server(sizes) as url:
        figures = [drained(sizes, "PostgreSQL: rows drained, per COPY of the same", moved, partial(in_postgres, url))]
        progress("filling PostgreSQL")
        full = fresh_schema(url, "books")
        fill_postgres(full, count)
        return figures + questions(sizes, "PostgreSQL", full)


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS, help="in the ledger that is asked (default: ten million)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="once, and small: shows that it runs, measures nothing")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="where files are made (some 8 GB)")
    parser.add_argument("--only", choices=["sqlite", "postgres"], help="one of the two databases")
    asked = parser.parse_args()
    sizes = Sizes(rounds=1 if asked.quick else asked.rounds, folder=asked.folder.resolve())
    count, moved = (20_000, 1_000) if asked.quick else (asked.rows, DRAINED)
    print(heading(sizes), f"{count:,} rows: {SHAPE}", sep="\n", end="\n\n", flush=True)
    figures = sqlite_figures(sizes, count, moved) if asked.only != "postgres" else []
    if asked.only != "sqlite" and program("postgres"):
        figures += postgres_figures(sizes, count, moved)
    show(figures)
    return int(any(figure.met is False for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
