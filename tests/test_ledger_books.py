"""`ledger export` and `ledger prune`, on SQLite and PostgreSQL: every row once, to the nano-dollar, and no formula."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cli_kit import Ended, command
from drain_kit import NAMESPACE, row
from postgres_kit import PASSWORD, Books
from pyarrow import parquet
from rollup_kit import rollups_in
from store_kit import DAY_MS, NOON_MS, amounts, ask_one, info, plan, reserve, rows, settle, stands

from budgetguard.core.model import UsageRow
from budgetguard.core.verbs import Row
from budgetguard.ledger import open_ledger
from budgetguard.ledger.exporting import KEYS
from budgetguard.stores.sqlite import SQLiteStore
from budgetguard.testing.clock import FakeClock

HOSTILE = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\uff1d1", "\x1b[31mred", "<b>&", 'a"b,c', "plain")
Ask = Callable[[str], Any]


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Ask]:
    """The URL of a ledger, and a look into it."""
    if request.param == "postgres":
        books: Books = request.getfixturevalue("postgres")
        return books.url, books.ask
    path = tmp_path / "ledger.db"
    return f"sqlite:///{path}", lambda query: rows(path, query)


def fill(url: str, *made: Row, namespace: str = NAMESPACE) -> None:
    ledger = open_ledger(url)
    ledger.write([(namespace, one) for one in made])
    ledger.close()


def days(count: int) -> list[Row]:
    """A call at noon of each day, and one whose cost nobody knows."""
    made = [row(f"r{n}", tokens=n, timestamp_ms=NOON_MS + n * DAY_MS) for n in range(count)]
    return [*made, row("free", usage=UsageRow(1, 1, cost_nanousd=None), timestamp_ms=NOON_MS)]


def export(folder: Path, url: str, *more: str) -> Ended:
    return command(folder, "ledger", "export", "--ledger", url, "--namespace", NAMESPACE, *more)


def prune(folder: Path, url: str, before: str, *more: str) -> Ended:
    return command(folder, "ledger", "prune", "--ledger", url, "--namespace", NAMESPACE, "--before", before, *more)


def test_every_form_says_the_same_of_every_row(place: tuple[str, Ask], tmp_path: Path) -> None:
    url, _ = place
    labels = {"team": "t", "tenant": "\u00e9"}
    whole = row(
        "whole", usage=UsageRow(9, 8, 7, 6, 5, 2**53 - 1, "reported", True, 44), would_refuse=("w",),
        info=info(amounts(1), **labels), error_type="APIError", timestamp_ms=NOON_MS + 1,
    )  # fmt: skip
    fill(url, *days(2), whole)
    fill(url, row("another's"), namespace="other")
    done = export(tmp_path, url, "--format", "json")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert [one["reservation_id"] for one in found] == ["free", "r0", "whole", "r1"]
    assert all(tuple(one) == KEYS for one in found)
    told = found[2]
    assert (told["timestamp"], told["cost"]) == ("2026-11-22 12:00:00.001000", "9007199.254740991")
    assert (told["labels"], told["would_refuse"], told["streamed"]) == ({"tenant": "\u00e9"}, ["w"], True)
    assert (found[0]["cost"], found[0]["cost_nanousd"]) == (None, None)
    done = export(tmp_path, url, "-o", "out.csv")
    assert (done.code, done.out, done.err) == (0, "", "4 rows written to out.csv\n")
    cells = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text(encoding="utf-8"))))
    assert [{name: as_cell(one[name]) for name in KEYS} for one in found] == cells
    done = export(tmp_path, url, "--format", "parquet", "-o", "out.parquet")
    assert (done.code, done.err) == (0, "4 rows written to out.parquet\n")
    table = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [one["reservation_id"] for one in table] == ["free", "r0", "whole", "r1"]
    assert table[2]["cost"] == Decimal("9007199.254740991")
    assert table[2]["timestamp"] == datetime(2026, 11, 22, 12, 0, 0, 1000, tzinfo=UTC)
    plain = [
        name for name in KEYS if name not in ("timestamp", "settled_at", "cost", "labels", "accounts", "would_refuse")
    ]
    assert [[one[name] for name in plain] for one in table] == [[one[name] for name in plain] for one in found]


def as_cell(value: Any) -> str:
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def test_no_cell_is_a_formula_or_a_command_to_a_terminal(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'l.db'}"
    fill(url, *(row(f"r{n}", info=info(amounts(1), agent=text)) for n, text in enumerate(HOSTILE)))
    done = export(tmp_path, url)
    cells = [one["agent"] for one in csv.DictReader(io.StringIO(done.out))]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\uff1d")) for cell in cells) and "\x1b" not in done.out
    assert cells == [
        "'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\\x09=1", "'\uff1d1", "\\x1b[31mred", "<b>&", 'a"b,c', "plain"
    ]  # fmt: skip
    told = json.loads(export(tmp_path, url, "--format", "json").out)
    assert [one["agent"] for one in told] == list(HOSTILE), "JSON says it as it is"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ((), [0, 1, 2, 3]),
        (("--since", "2026-11-23T12:00+00:00"), [1, 2, 3]),
        (("--until", "2026-11-23T12:00+00:00"), [0]),
        (("--since", "2026-11-23", "--until", "2026-11-25"), [1, 2]),
        (("--since", "2026-11-22T13:00", "--config", "berlin.toml"), [0, 1, 2, 3]),
        (("--since", "2026-11-22T13:00:01", "--config", "berlin.toml"), [1, 2, 3]),
        (("--since", "2030-01-01"), []),
    ],
)
def test_a_stretch_has_its_first_instant_and_not_its_last(
    tmp_path: Path, more: tuple[str, ...], expected: list[int]
) -> None:
    url = f"sqlite:///{tmp_path / 'l.db'}"
    (tmp_path / "berlin.toml").write_text('timezone = "Europe/Berlin"\n')
    fill(url, *days(4)[:-1])
    done = export(tmp_path, url, "--format", "json", *more)
    assert [int(one["reservation_id"][1:]) for one in json.loads(done.out)] == expected


def test_what_is_pruned_is_gone_with_its_sums_and_nothing_else_is(place: tuple[str, Ask], tmp_path: Path) -> None:
    url, ask = place
    past = [one._replace(timestamp_ms=one.timestamp_ms - 400 * DAY_MS) for one in days(4)]
    fill(url, *past)
    fill(url, past[0], namespace="other")
    assert prune(tmp_path, url, "2025-10-20").out.startswith(
        "3 rows of prod before 2025-10-20T00:00:00+00:00 forgotten"
    )
    left = ask("SELECT namespace, reservation_id FROM token_usage ORDER BY 1, 2")
    assert left == [("other", "r0"), ("prod", "r2"), ("prod", "r3")]
    found, expected = rollups_in(ask)
    assert found == expected
    assert ask("SELECT count(*) FROM usage_sums WHERE calls = 0") == [(0,)]
    done = prune(tmp_path, url, "2025-10-20", "--format", "json")
    (told,) = json.loads(done.out)
    assert (told["rows"], told["namespace"], PASSWORD in done.out) == (0, "prod", False)


def test_many_rows_are_pruned_in_several_transactions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'l.db'}"
    fill(url, *(row(f"r{n}", timestamp_ms=NOON_MS - 900 * DAY_MS) for n in range(25)))
    ledger = open_ledger(url)
    assert [ledger.prune(NAMESPACE, NOON_MS, 10) for _ in range(4)] == [10, 10, 5, 0]
    ledger.close()
    for table in ("usage_sums", "usage_stretches", "usage_groups"):
        assert rows(tmp_path / "l.db", f"SELECT count(*) FROM {table}") == [(0,)]


def test_a_store_whose_ledger_is_pruned_keeps_its_accounts_and_goes_on(tmp_path: Path) -> None:
    path, clock = tmp_path / "store.db", FakeClock(NOON_MS - 400 * DAY_MS)
    of = plan("1000 tokens/total")

    async def scenario() -> None:
        store = SQLiteStore(str(path), clock=clock)
        for id in "ab":
            at_ms = clock.now_ms()
            await ask_one(store, reserve(id, of, amounts(5), at_ms))
            await ask_one(store, settle(id, of, amounts(3), amounts(5), admitted_ms=at_ms, tried_since_ms=at_ms))
        done = await asyncio.to_thread(
            command, tmp_path, "ledger", "prune", "--store", f"sqlite:///{path}", "--before", "2026-01-01"
        )
        assert done.out.startswith("2 rows of default before")
        assert await stands(store) == {"all tokens/total": (6, 0)}
        await ask_one(store, reserve("c", of, amounts(5), clock.now_ms()))
        await store.aclose()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("export", "--ledger", "sqlite:///none.db"), "there is no ledger none.db"),
        (("prune", "--ledger", "sqlite:///none.db", "--before", "2026-01-01"), "there is no ledger none.db"),
        (("export", "--ledger", "mysql://u:canary@h"), "--ledger must be a URL such as"),
        (("export", "--ledger", "sqlite:///l.db", "--format", "parquet"), "say where to with -o FILE"),
        (("export", "--ledger", "sqlite:///l.db", "--since", "yesterday"), "--since: expected a date or time such as"),
        (("prune", "--ledger", "sqlite:///l.db", "--before", "9998-01-01"), "is not past"),
        (
            ("prune", "--ledger", "sqlite:///l.db", "--before", "2026-01-01", "--namespace", "a/b"),
            "--namespace must be",
        ),
        (("export", "--store", "redis://127.0.0.1:1/0"), "say which SQL ledger, or set ledger.url"),
        (("export", "--ledger", "sqlite:///newer.db"), "has schema 1003 and this budgetguard reads 1002"),
    ],
)
def test_what_cannot_be_done_is_told_and_makes_nothing(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    rows(tmp_path / "newer.db", "CREATE TABLE token_usage (a); PRAGMA user_version = 1003")
    before = sorted(file.name for file in tmp_path.iterdir())
    done = command(tmp_path, "ledger", *arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err and "canary" not in done.err
    assert sorted(file.name for file in tmp_path.iterdir()) == before


def test_the_policys_ledger_is_the_one_that_is_meant(tmp_path: Path) -> None:
    (tmp_path / "budgetguard.toml").write_text(
        '[store]\nurl = "redis://127.0.0.1:1/0"\nnamespace = "prod"\ntimeout = "200ms"\n[ledger]\nurl = "sqlite:///own.db"\n'
    )
    fill(f"sqlite:///{tmp_path / 'own.db'}", row("a"))
    (told,) = json.loads(command(tmp_path, "ledger", "export", "--format", "json").out)
    assert told["reservation_id"] == "a"
    assert "could not be reached" in command(tmp_path, "ledger", "drain").err, "it asks the store, and not for --to"


def test_a_postgres_without_a_ledger_is_told(postgres: Books, tmp_path: Path) -> None:
    done = export(tmp_path, postgres.url)
    assert (done.code, "has no tables yet" in done.err, PASSWORD in done.err) == (2, True, False)
