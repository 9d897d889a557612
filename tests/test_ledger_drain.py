"""Draining an outbox into a ledger: exactly once in effect, whatever is interrupted, repeated or done by two."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from drain_kit import NAMESPACE, FolderOutbox, MemoryOutbox, books, row, said_by
from hypothesis import strategies as st
from store_kit import rows

from budgetguard.core.model import CallInfo
from budgetguard.core.verbs import Row
from budgetguard.errors import StoreAway, StoreUnusable
from budgetguard.ledger.drain import Drained, Ledger, drain
from budgetguard.ledger.outbox import OutboxRow
from budgetguard.ledger.sqlite import SQLiteLedger

HERE = Path(__file__).resolve().parent
UNREADABLE = StoreUnusable("entry x cannot be read")


def drained_into(path: Path, outbox: Any, most: int = 1_000) -> Drained:
    ledger = SQLiteLedger(str(path))
    try:
        return asyncio.run(drain(outbox, ledger, most))
    finally:
        ledger.close()


@pytest.mark.parametrize("most", [1, 3, 7, 8, 1_000])
def test_what_stands_in_the_outbox_is_in_the_ledger_afterwards_and_nowhere_else(tmp_path: Path, most: int) -> None:
    found = [row(f"r{n}", tokens=n) for n in range(7)]
    outbox = MemoryOutbox(found)
    assert drained_into(tmp_path / "ledger.db", outbox, most) == Drained(7, {})
    assert (books(tmp_path / "ledger.db"), outbox.entries) == (said_by(found), {})
    assert max(asked[1] for asked in outbox.log if asked[0] == "read") == most
    assert drained_into(tmp_path / "ledger.db", outbox, most) == Drained(0, {})


def test_an_entry_is_dropped_only_after_its_row_is_in_the_file(tmp_path: Path) -> None:
    """Seen by another connection at the moment of the drop."""
    path, outbox, seen = tmp_path / "ledger.db", MemoryOutbox([row(f"r{n}") for n in range(5)]), []
    outbox.before = lambda what: seen.append(len(books(path))) if what == "drop" else None
    drained_into(path, outbox, 2)
    assert seen == [2, 4, 5]


@hypothesis.settings(max_examples=30)
@hypothesis.given(data=st.data())
def test_revisions_may_come_in_any_order_and_any_number_of_times(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("any") / "ledger.db"
    statuses = {1: "expired", 2: "assumed", 3: "late"}
    made = [row(f"r{n}", revision, tokens=100 * n + revision) for n in range(3) for revision in (1, 2, 3)]
    made = [one._replace(status=statuses[one.revision]) for one in made]  # type: ignore[arg-type]
    found = data.draw(st.lists(st.sampled_from(made), max_size=20))
    for some in data.draw(st.sampled_from([[found], [found[:7], found[7:]], [[one] for one in found]])):
        drained_into(path, MemoryOutbox(some), data.draw(st.integers(1, 5)))
    assert not found or books(path) == said_by(found)


def test_an_entry_that_comes_again_changes_nothing(tmp_path: Path) -> None:
    """What was dropped comes back, as after a failover that lost the drop; a truth that came meanwhile stands."""
    path, outbox = tmp_path / "ledger.db", MemoryOutbox([row("a"), row("b")])
    again = dict(outbox.entries)
    drained_into(path, outbox)
    drained_into(path, MemoryOutbox([row("a", 2, 99, status="late")]))
    outbox.entries = again
    assert drained_into(path, outbox).rows == 2
    assert books(path) == said_by([row("a", 2, 99, status="late"), row("b")])


@pytest.mark.parametrize("most", [1, 2, 3, 100])
def test_what_cannot_be_read_stays_is_named_and_holds_up_no_other(tmp_path: Path, most: int) -> None:
    def counted(what: str) -> None:
        assert len(outbox.log) < 40, "it reads the same again and again"

    readable = [row(f"r{n}") for n in range(4)]
    outbox = MemoryOutbox([UNREADABLE, UNREADABLE, *readable[:2], UNREADABLE, *readable[2:], UNREADABLE])
    outbox.before = counted
    for moved in (4, 0):
        drained = drained_into(tmp_path / "ledger.db", outbox, most)
        assert drained.rows == moved
        assert drained.unreadable == dict.fromkeys(["000001", "000002", "000005", "000008"], str(UNREADABLE))
    assert sorted(outbox.entries) == sorted(drained.unreadable)
    assert books(tmp_path / "ledger.db") == said_by(readable)


@pytest.mark.parametrize(
    "spoiled",
    [
        {"latency_ms": None}, {"latency_ms": 2**70}, {"settled_ms": 2**60}, {"info": None}, {"host": "\ud800"},
        {"status": frozenset()},
    ],
    ids=str,
)  # fmt: skip
def test_a_row_that_no_ledger_can_hold_is_found_among_the_others_and_stays(
    tmp_path: Path, spoiled: dict[str, Any]
) -> None:
    if "host" in spoiled:
        spoiled = {"info": CallInfo(row("r").info.labels, "", spoiled["host"])}
    found = [row(f"r{n}") for n in range(9)]
    outbox = MemoryOutbox([*found[:4], row("bad", **spoiled), *found[4:]])
    drained = drained_into(tmp_path / "ledger.db", outbox)
    assert (drained.rows, list(drained.unreadable), list(outbox.entries)) == (9, ["000005"], ["000005"])
    assert drained.unreadable["000005"].startswith("its row cannot be written: ")
    assert books(tmp_path / "ledger.db") == said_by(found)


class Away:
    """A ledger that cannot be written, once, at its n-th write."""

    def __init__(self, ledger: Ledger, number: int) -> None:
        self.ledger, self.writes = ledger, count(1)
        self.number = number

    def write(self, rows: Sequence[tuple[str, Row]]) -> None:
        if next(self.writes) == self.number:
            raise StoreAway("the ledger is held by another process's transaction")
        self.ledger.write(rows)

    def close(self) -> None:
        self.ledger.close()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_ledger_that_is_away_leaves_the_rest_in_the_outbox(tmp_path: Path, number: int) -> None:
    async def scenario() -> None:
        found = [row(f"r{n}") for n in range(6)]
        outbox, drained = MemoryOutbox(found), Drained()
        ledger = Away(SQLiteLedger(str(tmp_path / "ledger.db")), number)
        with pytest.raises(StoreAway):
            await drain(outbox, ledger, 2, drained)
        moved = 2 * (number - 1)
        assert (drained.rows, len(outbox.entries)) == (moved, 6 - moved)
        assert (await drain(outbox, ledger, 2, drained)).rows == 6
        assert (books(tmp_path / "ledger.db"), outbox.entries) == (said_by(found), {})
        ledger.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("what", ["read", "drop"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_outbox_that_goes_away_anywhere_is_drained_by_the_next(tmp_path: Path, what: str, number: int) -> None:
    def failing(asked: str) -> None:
        if asked == what and next(times) == number:
            raise StoreAway("no answer in time")

    found = [row(f"r{n}") for n in range(6)]
    outbox, times = MemoryOutbox(found), count(1)
    outbox.before = failing
    with pytest.raises(StoreAway):
        drained_into(tmp_path / "ledger.db", outbox, 2)
    drained_into(tmp_path / "ledger.db", outbox, 2)
    assert (books(tmp_path / "ledger.db"), outbox.entries) == (said_by(found), {})


def worker(*arguments: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    command = [sys.executable, str(HERE / "drain_worker.py"), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_a_drain_that_is_killed_at_any_step_is_taken_up_by_the_next(tmp_path: Path) -> None:
    """SIGKILL before each step in turn: in reads, inside transactions, between write and drop, amid the drops."""
    found = [row("a"), row("b"), row("a", 2, 50, status="late")]
    steps = []
    for fatal in count(1):
        place = tmp_path / str(fatal)
        path, outbox = place / "ledger.db", FolderOutbox(place / "outbox")
        place.mkdir()
        outbox.fill(found)
        process = worker("moved", path, outbox.folder, 2, fatal)
        said = process.communicate(timeout=60)[0].splitlines()
        if process.returncode == 0:
            assert (said, books(path), outbox.standing()) == (["moved 3"], said_by(found), [])
            break
        assert process.returncode == -signal.SIGKILL
        steps.append(said[-1].removeprefix("killed before "))
        standing = [entry.row for entry in outbox.standing()]
        recorded = books(path) if path.exists() and rows(path, "SELECT 1 FROM sqlite_schema") else {}
        assert [one for one in found if one not in standing and recorded[NAMESPACE, one.id][0] < one.revision] == []
        drained_into(path, outbox, 2)
        assert (books(path), outbox.standing()) == (said_by(found), [])
    assert steps.count("drop") == 3 and steps.count("transaction ends") >= 3, steps  # the table, and two pages
    assert {"read", "has read", "drop", "has dropped", "transaction ends"} == set(steps)


def test_two_drainers_of_one_outbox_do_no_harm(tmp_path: Path) -> None:
    """Both have read every page before either writes it, so each row is written and each entry dropped twice."""

    class Both(MemoryOutbox):
        async def read(self, most: int, after: str = "") -> list[OutboxRow]:
            found = await super().read(most, after)
            await together.wait()
            return found

    async def scenario() -> None:
        nonlocal together
        together = asyncio.Barrier(2)
        ledgers = [SQLiteLedger(str(path)) for _ in range(2)]
        drained = await asyncio.gather(*(drain(outbox, ledger, 10) for ledger in ledgers))
        assert [one.rows for one in drained] == [35, 35]
        for ledger in ledgers:
            ledger.close()

    together: asyncio.Barrier
    path, found = tmp_path / "ledger.db", [row(f"r{n % 30}", 1 + n // 30, tokens=n) for n in range(35)]
    outbox = Both(found)
    asyncio.run(scenario())
    assert (books(path), outbox.entries) == (said_by(found), {})


def test_drainers_in_several_processes_do_no_harm(tmp_path: Path) -> None:
    """They make the file together, and drain at will."""
    found = [row(f"r{n % 150}", 1 + n // 150, tokens=n) for n in range(200)]
    outbox = FolderOutbox(tmp_path / "outbox")
    outbox.fill(found)
    workers = [worker("moved", tmp_path / "new" / "ledger.db", outbox.folder, 7, 0) for _ in range(3)]
    said = [process.communicate(timeout=60)[0] for process in workers]
    assert [process.returncode for process in workers] == [0] * 3, said
    assert sum(int(text.removeprefix("moved ")) for text in said) >= 200
    assert (books(tmp_path / "new" / "ledger.db"), outbox.standing()) == (said_by(found), [])


def test_a_drain_that_is_cancelled_tells_how_far_it_came(tmp_path: Path) -> None:
    class Hanging(MemoryOutbox):
        async def drop(self, entry_ids: Sequence[str]) -> None:
            if len(self.entries) == 2:
                reached.set()
                await asyncio.Event().wait()
            await super().drop(entry_ids)

    async def scenario() -> None:
        nonlocal reached
        reached = asyncio.Event()
        ledger, drained = SQLiteLedger(str(path)), Drained()
        task = asyncio.create_task(drain(outbox, ledger, 2, drained))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (drained, len(outbox.entries)) == (Drained(4, {}), 2)
        ledger.close()

    reached: asyncio.Event
    path, found = tmp_path / "ledger.db", [row(f"r{n}") for n in range(6)]
    outbox = Hanging(found)
    asyncio.run(scenario())
    assert books(path) == said_by(found), "the last two are there already, and come again"
    assert drained_into(path, MemoryOutbox(found[4:])).rows == 2
    assert books(path) == said_by(found)
