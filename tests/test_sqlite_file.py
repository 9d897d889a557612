"""The store's file: made by many at once, read-only, full, replaced, of another schema; killed processes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import apsw
import pytest
from store_kit import NOON_MS, amounts, ask_one, dump, plan, release, reserve, rows, settle, stands

from budgetguard.errors import StateLost, StoreUnusable
from budgetguard.stores.sqlite import SQLiteStore
from budgetguard.stores.sqlite.schema import SCHEMA
from budgetguard.testing.clock import FakeClock

HERE = Path(__file__).resolve().parent
TOTAL = plan("1000000 tokens/total")


def start(*arguments: Any, bound: bool = False) -> subprocess.Popen[str]:
    """A worker process; with `bound`, one that permissions bind even where the tests run as root."""
    command = [sys.executable, str(HERE / "sqlite_worker.py"), *map(str, arguments)]
    if bound and os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("runs as root, whom permissions do not bind, and `setpriv` is not there to give that up")
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def said(*arguments: Any, bound: bool = False) -> list[str]:
    """What a worker process says until it ends."""
    worker = start(*arguments, bound=bound)
    told, _ = worker.communicate(timeout=60)
    assert worker.returncode == 0
    return told.splitlines()


def check_conservation(path: Path) -> tuple[int, int]:
    """Accounts equal open reservations and the ledger; returns what is spent and reserved of the tokens."""
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    found = {unit: sums for unit, *sums in rows(path, "SELECT unit, spent, reserved FROM accounts")}
    held = [json.loads(body)[0] for (body,) in rows(path, "SELECT body FROM reservations WHERE state = 'held'")]
    ((tokens, requests),) = rows(path, "SELECT ifnull(sum(total_tokens), 0), count(*) FROM token_usage")
    assert found["tokens"] == [tokens, sum(estimate[0] for estimate in held)]
    assert found["requests"] == [requests, len(held)]
    assert found["concurrent"] == [0, len(held)]
    return tokens, found["tokens"][1]


def test_processes_on_one_file_never_overspend_and_lose_nothing(tmp_path: Path) -> None:
    """Four processes make the file together and share a limit that lasts for a third of their calls."""
    path = tmp_path / "new" / "store.db"
    workers = [start("calls", path, name, 100, 300) for name in "abcd"]
    words = Counter(line.split()[0] for w in workers for line in w.communicate(timeout=120)[0].splitlines())
    assert [worker.returncode for worker in workers] == [0] * 4
    assert set(words) == {"settled", "released", "refused"}
    assert words.total() == 400
    spent, reserved = check_conservation(path)
    assert (spent, reserved) == (2 * words["settled"], 0)
    assert 200 < spent <= 300
    assert rows(path, "SELECT count(*) FROM meta") == [(1,)]


def test_processes_that_are_killed_leave_a_whole_file(tmp_path: Path) -> None:
    """SIGKILL under load: what was acknowledged stands, accounts equal reservations and ledger, others go on."""
    path = tmp_path / "store.db"
    for attempt in range(3):
        workers = [start("calls", path, f"{attempt}-{name}", 50_000, 10**6) for name in "ab"]
        acknowledged = []
        for worker in workers:
            assert worker.stdout is not None
            acknowledged += [worker.stdout.readline() for _ in range(12 * (attempt + 1))]
        for worker in workers:
            worker.send_signal(signal.SIGKILL)
        for worker in workers:
            told, _ = worker.communicate(timeout=60)
            acknowledged += [line for line in told.splitlines(keepends=True) if line.endswith("\n")]
            assert worker.returncode == -signal.SIGKILL
        check_conservation(path)
        in_ledger = {id for (id,) in rows(path, "SELECT reservation_id FROM token_usage")}
        settled = {line.split()[1] for line in acknowledged if line.startswith("settled ")}
        assert settled
        assert settled <= in_ledger


def test_stores_that_make_the_file_together_meet_in_one_store(tmp_path: Path) -> None:
    async def scenario() -> None:
        for attempt in range(5):
            path = tmp_path / f"{attempt}.db"
            stores = [SQLiteStore(str(path), timeout_ms=30_000, clock=FakeClock(NOON_MS)) for _ in range(8)]
            await asyncio.gather(*(store.open() for store in stores))
            await asyncio.gather(*(ask_one(s, reserve(f"r{n}", TOTAL, amounts(1))) for n, s in enumerate(stores)))
            assert await stands(stores[0]) == {"all tokens/total": (0, 8)}
            for store in stores:
                await store.aclose()

    asyncio.run(scenario())


def test_opening_waits_for_whoever_writes_a_file_that_is_not_in_wal_mode_yet(tmp_path: Path) -> None:
    """What the one that comes second meets, when two make a file: SQLite itself would give up at once."""

    async def scenario() -> None:
        path = tmp_path / "store.db"
        other = apsw.Connection(str(path))
        other.execute("CREATE TABLE other (a)")
        other.execute("BEGIN IMMEDIATE")
        store = SQLiteStore(str(path), timeout_ms=60_000, clock=FakeClock(NOON_MS))
        leaving = threading.Timer(0.05, other.execute, ("COMMIT",))
        leaving.start()
        assert await store.open() == NOON_MS
        leaving.join()
        other.close()
        await store.aclose()

    asyncio.run(scenario())


def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o500)
    try:
        (line,) = said("probe", folder / "store.db", bound=True)
        assert line.startswith("StoreUnusable the store ")
        assert "check the file, its folder and the disk" in line
        (line,) = said("probe", folder / "deeper" / "store.db", bound=True)
        assert line.startswith("StoreUnusable the store ")
    finally:
        folder.chmod(0o700)


def test_a_file_that_may_not_be_written_is_told_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    assert said("probe", path) == ["granted"]
    before = dump(path, clocks=True)
    path.chmod(0o400)
    (line,) = said("probe", path, bound=True)
    assert line.startswith("StoreUnusable the store ")
    assert "readonly" in line
    assert dump(path, clocks=True) == before


def test_a_full_disk_undoes_the_batch_and_is_told(tmp_path: Path) -> None:
    told, unchanged, then = said("full", tmp_path / "store.db")
    assert told.startswith("StoreUnusable the store ")
    assert (unchanged, then) == ("True", "settled")


@pytest.mark.parametrize("what", ["text", "folder", "schema", "under a file", "another program's"])
def test_what_is_no_store_of_this_version_is_refused_and_stays(tmp_path: Path, what: str) -> None:
    path = tmp_path / "store.db"
    if what == "text":
        path.write_bytes(b"# a policy, not a store\n" * 100)
    elif what == "folder":
        path.mkdir()
    elif what == "under a file":
        path.write_bytes(b"")
        path = path / "store.db"
    else:
        db = apsw.Connection(str(path))
        db.execute("CREATE TABLE meta (mine)" if what == "another program's" else f"PRAGMA user_version = {SCHEMA + 1}")
        db.close()
    before = path.read_bytes() if path.is_file() else None

    async def scenario() -> None:
        store = SQLiteStore(str(path), clock=FakeClock(NOON_MS))
        for _ in range(2):
            with pytest.raises(StoreUnusable, match=f"schema {SCHEMA + 1}" if what == "schema" else "store"):
                await store.open()
            with pytest.raises(StoreUnusable):
                await ask_one(store, reserve("r", TOTAL, amounts(1)))
        await store.aclose()

    asyncio.run(scenario())
    assert what in ("folder", "under a file", "another program's", "schema") or path.read_bytes() == before
    if what in ("schema", "another program's"):
        tables = rows(path, "SELECT name FROM sqlite_schema")
        assert tables == ([] if what == "schema" else [("meta",)])


async def lose(path: Path, how: str, clock: FakeClock) -> None:
    """Take the state away from under a store."""
    if how == "emptied":
        rows(path, "DELETE FROM meta")
        return
    if how == "replaced":
        other = SQLiteStore(str(path.with_name("other.db")), clock=clock)
        await other.open()
        await other.aclose()
        path.with_name("other.db").replace(path)
    else:
        path.unlink()
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


@pytest.mark.parametrize("while_open", [True, False])
@pytest.mark.parametrize("how", ["replaced", "deleted", "emptied"])
def test_a_state_that_was_lost_admits_nothing_until_somebody_accepts_that(
    tmp_path: Path, how: str, while_open: bool
) -> None:
    async def scenario() -> None:
        path, clock = tmp_path / "store.db", FakeClock(NOON_MS)
        store = SQLiteStore(str(path), clock=clock)
        await ask_one(store, reserve("r", TOTAL, amounts(5)))
        if not while_open:
            await store.aclose()
        await lose(path, how, clock)
        for _ in range(2):
            for op in (reserve("s", TOTAL, amounts(1)), settle("r", TOTAL, amounts(1)), release("r")):
                with pytest.raises(StateLost, match="accept-loss"):
                    await ask_one(store, op)
            for ask in (store.open(), store.due(1), store.read_accounts(), store.read_holds()):
                with pytest.raises(StateLost):
                    await ask
        assert how != "deleted" or not path.exists()
        if how == "emptied":
            rows(path, "INSERT INTO meta VALUES ('incarnation', 'made by hand')")
        assert await store.open(accept_loss=True) == NOON_MS
        assert (await ask_one(store, reserve("s", TOTAL, amounts(1)))).word == "granted"
        assert await stands(store) == {"all tokens/total": (0, 6 if how == "emptied" else 1)}
        # The settle of a call that began before the loss is charged directly.
        assert (await ask_one(store, settle("lost", TOTAL, amounts(2)))).word == "late"
        await store.aclose()

    asyncio.run(scenario())


def test_accepting_a_loss_where_nothing_was_lost_loses_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        for path in (":memory:", str(tmp_path / "store.db")):
            store = SQLiteStore(path, clock=FakeClock(NOON_MS))
            await ask_one(store, reserve("r", TOTAL, amounts(5)))
            await store.open(accept_loss=True)
            assert await stands(store) == {"all tokens/total": (0, 5)}
            await store.aclose()

    asyncio.run(scenario())


def test_a_store_in_memory_that_was_closed_is_lost() -> None:
    async def scenario() -> None:
        store = SQLiteStore(":memory:", clock=FakeClock(NOON_MS))
        await ask_one(store, reserve("r", TOTAL, amounts(5)))
        await store.aclose()
        with pytest.raises(StateLost):
            await ask_one(store, settle("r", TOTAL, amounts(5)))
        await store.open(accept_loss=True)
        assert await stands(store) == {}
        await store.aclose()

    asyncio.run(scenario())


def test_what_was_done_before_the_close_is_there_after_the_opening(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = FakeClock(NOON_MS)
        store = SQLiteStore(str(tmp_path / "a" / "b" / "store.db"), clock=clock)
        await ask_one(store, reserve("r", TOTAL, amounts(5)))
        await store.aclose()
        clock.set(NOON_MS - 1)
        assert await store.open() == NOON_MS  # time that was told is not taken back
        again = SQLiteStore(str(tmp_path / "a" / "b" / "store.db"), clock=clock)
        assert await again.open() == NOON_MS
        assert (await ask_one(again, settle("r", TOTAL, amounts(5)))).word == "settled"
        for each in (store, again):
            await each.aclose()

    asyncio.run(scenario())
