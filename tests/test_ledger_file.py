"""The file into which an outbox is drained: made anew, a store's, or none that may be written."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import apsw
import pytest
from drain_kit import NAMESPACE, books, row, said_by
from store_kit import NOON_MS, amounts, ask_one, dump, ledger, plan, reserve, rows, settle, stands

from budgetguard.errors import ConfigError, StoreAway, StoreUnusable
from budgetguard.ledger import open_ledger
from budgetguard.ledger.sqlite import SQLiteLedger
from budgetguard.stores.sqlite import SQLiteStore
from budgetguard.testing.clock import FakeClock

HERE = Path(__file__).resolve().parent
ROWS = [(NAMESPACE, row("a")), (NAMESPACE, row("b"))]


def written(path: Path, timeout_ms: int = 5_000) -> None:
    found = SQLiteLedger(str(path), timeout_ms)
    try:
        found.write(ROWS)
    finally:
        found.close()


def said(*arguments: object, bound: bool = False) -> list[str]:
    """What a worker process says until it ends; with `bound`, permissions bind it even where the tests run as root."""
    command = [sys.executable, str(HERE / "drain_worker.py"), *map(str, arguments)]
    if bound and os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("runs as root, whom permissions do not bind, and `setpriv` is not there to give that up")
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, timeout=60, check=True)
    return done.stdout.splitlines()


def test_a_ledger_says_of_a_call_what_a_store_says_of_it(tmp_path: Path) -> None:
    """The same columns in the same order, and the same values for the same row."""

    async def scenario() -> None:
        store = SQLiteStore(str(tmp_path / "store.db"), NAMESPACE, clock=FakeClock(NOON_MS + 1))
        one = row("a")
        actual = amounts(10, 1, 77)
        op = settle("a", one.plan, actual, actual, session="a", team="search", agent="crawler", model="gpt-4o-mini")
        assert (await ask_one(store, op)).word == "late"
        await store.aclose()

    asyncio.run(scenario())
    written(tmp_path / "ledger.db")
    layout = "SELECT cid, name, type, \"notnull\", pk, hidden FROM pragma_table_xinfo('token_usage')"
    assert rows(tmp_path / "ledger.db", layout) == rows(tmp_path / "store.db", layout)
    drained, own = ledger(tmp_path / "ledger.db", "a"), ledger(tmp_path / "store.db", "a")
    assert drained is not None and own is not None
    assert {name for name in own if own[name] != drained[name]} == {"status"}
    assert drained["cost"] == 7.7e-08


def test_anyone_can_ask_it_while_it_is_written(tmp_path: Path) -> None:
    """With Python's own sqlite3, and on a file that is in WAL mode."""
    found = SQLiteLedger(str(tmp_path / "ledger.db"))
    found.write(ROWS)
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.db")) as db:
        assert db.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
        db.execute("BEGIN")
        query = "SELECT session_id, SUM(cost), SUM(prompt_tokens) FROM token_usage GROUP BY session_id"
        before = db.execute(query).fetchall()
        found.write([(NAMESPACE, row("c"))])
        assert before == db.execute(query).fetchall() == [("a", 7.7e-08, 10), ("b", 7.7e-08, 10)]
        db.execute("COMMIT")
        assert len(db.execute(query).fetchall()) == 3
    found.close()


def test_a_store_may_be_the_ledger_of_others_too(tmp_path: Path) -> None:
    """It goes on meanwhile; its accounts are untouched, and one id in two namespaces is two calls."""

    async def scenario() -> None:
        path, clock = tmp_path / "store.db", FakeClock(NOON_MS)
        of = plan("1000 tokens/total")
        store = SQLiteStore(str(path), clock=clock)
        await ask_one(store, reserve("a", of, amounts(5)))
        await ask_one(store, settle("a", of, amounts(3), amounts(5)))
        before = dump(path)
        found = SQLiteLedger(str(path))
        found.write(ROWS)
        found.write(ROWS)
        own = {("default", "a"): (1, "settled", 3, 0)}
        assert books(path) == said_by([row("a"), row("b")]) | own
        ledgers = ("token_usage", "usage_groups", "usage_stretches", "usage_sums")
        assert {name: rows for name, rows in dump(path).items() if name not in ledgers} == {
            name: rows for name, rows in before.items() if name not in ledgers
        }
        await ask_one(store, reserve("b", of, amounts(7)))
        assert await stands(store) == {"all tokens/total": (3, 7)}
        found.close()
        await store.aclose()

    asyncio.run(scenario())


def test_a_store_does_not_take_a_ledger_for_its_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = SQLiteStore(str(tmp_path / "ledger.db"), clock=FakeClock(NOON_MS))
        with pytest.raises(StoreUnusable, match=r"schema 1002.*another file"):
            await store.open()
        await store.aclose()

    written(tmp_path / "ledger.db")
    asyncio.run(scenario())
    assert books(tmp_path / "ledger.db") == said_by([row("a"), row("b")])


MADE = {
    "text": b"# a policy, no ledger\n" * 100,
    "newer": "CREATE TABLE token_usage (reservation_id); PRAGMA user_version = 1003",
    "newer store": "CREATE TABLE token_usage (reservation_id); PRAGMA user_version = 5",
    "other columns": "CREATE TABLE token_usage (reservation_id); PRAGMA user_version = 1002",
    "old without a way": "CREATE TABLE token_usage (reservation_id); PRAGMA user_version = 1000",
    "another's": "CREATE TABLE events (a)",
    "another's of schema 1": "CREATE TABLE events (a); PRAGMA user_version = 1",
    "another's, empty": "PRAGMA user_version = 7",
}


@pytest.mark.parametrize("what", MADE)
def test_what_is_no_ledger_of_this_version_is_refused_and_stays_byte_for_byte(tmp_path: Path, what: str) -> None:
    path, made = tmp_path / "ledger.db", MADE[what]
    if isinstance(made, bytes):
        path.write_bytes(made)
    else:
        rows(path, made)
    before = path.read_bytes()
    expected = {"text": "not a database", "newer": "has schema 1003 and", "newer store": "has schema 5 and"}
    for _ in range(2):
        with pytest.raises(StoreUnusable, match=expected.get(what, "schema|name another file")):
            written(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["ledger.db"]


@pytest.mark.parametrize("what", ["folder", "under a file"])
def test_what_can_be_no_file_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "ledger.db"
    if what == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"")
        path = path / "ledger.db"
    with pytest.raises(StoreUnusable, match="check the file, its folder and the disk"):
        written(path)


def test_a_file_that_another_holds_is_waited_for_and_then_told(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    written(path)
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    found = SQLiteLedger(str(path), timeout_ms=30)
    for _ in range(2):
        with pytest.raises(StoreAway, match="held by another process's transaction"):
            found.write([(NAMESPACE, row("c"))])
    other.execute("ROLLBACK")
    found.write([(NAMESPACE, row("c"))])
    assert len(books(path)) == 3
    patient = SQLiteLedger(str(path), timeout_ms=60_000)
    other.execute("BEGIN IMMEDIATE")
    leaving = threading.Timer(0.05, other.execute, ("COMMIT",))
    leaving.start()
    patient.write([(NAMESPACE, row("d"))])
    leaving.join()
    assert len(books(path)) == 4
    for db in (other, found, patient):
        db.close()


def test_a_file_that_may_not_be_written_is_told_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    written(path)
    before = dump(path)
    path.chmod(0o400)
    (line,) = said("once", path, bound=True)
    assert line.startswith("StoreUnusable the ledger ") and "readonly" in line
    assert dump(path) == before


def test_rows_are_written_together_or_not_at_all(tmp_path: Path) -> None:
    found = SQLiteLedger(str(tmp_path / "ledger.db"))
    found.write([(NAMESPACE, row("a"))])
    spoiled = row("x", latency_ms=None)
    with pytest.raises(apsw.ConstraintError):
        found.write([(NAMESPACE, row("a", 2)), (NAMESPACE, row("b")), (NAMESPACE, spoiled), (NAMESPACE, row("c"))])
    found.close()
    assert books(tmp_path / "ledger.db") == said_by([row("a")])


def test_a_full_disk_undoes_the_write_and_is_told(tmp_path: Path) -> None:
    (line,) = said("full", tmp_path / "ledger.db")
    assert line.startswith("StoreUnusable the ledger ") and "check the file, its folder and the disk" in line
    assert books(tmp_path / "ledger.db") == said_by([row("first"), row("last")])


def test_a_file_that_was_spoiled_is_told(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    found = SQLiteLedger(str(path))
    found.write([(NAMESPACE, row(f"r{n}")) for n in range(500)])
    found.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:8192] + b"\xa5" * (len(whole) - 8192))
    with pytest.raises(StoreUnusable, match=r"the ledger .* cannot be used: .*malformed"):
        written(path)


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_file_that_is_moved_under_a_drain_is_not_written_to(tmp_path: Path, how: str) -> None:
    """Else a service would go on writing to a file that nobody has any more."""
    path = tmp_path / "ledger.db"
    found = SQLiteLedger(str(path))
    found.write(ROWS)
    path.rename(tmp_path / "old.db")
    if how == "replaced":
        path.write_bytes(b"")
    with pytest.raises(StoreUnusable, match="moved or deleted"):
        found.write([(NAMESPACE, row("c"))])
    found.close()
    assert (path.exists(), how == "deleted" or path.stat().st_size == 0) == (how == "replaced", True)


@pytest.mark.parametrize("url", ["sqlite:///", "sqlite:///:memory:", "sqlite://ledger.db", "ledger.db", "", "x"])
def test_what_is_no_url_of_a_ledger_is_told_with_those_that_are(url: str) -> None:
    with pytest.raises(ConfigError, match="expected sqlite:///file"):
        open_ledger(url)


def test_a_url_that_is_refused_shows_no_password() -> None:
    with pytest.raises(ConfigError) as told:
        open_ledger("mysql://me:secret@db/ledger")
    assert "secret" not in str(told.value) and "mysql" in str(told.value)
