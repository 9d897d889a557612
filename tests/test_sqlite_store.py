"""The SQLite store while it is in use: group commit, waiting for others, event loops, namespaces, spoiled rows."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import apsw
import pytest
from store_kit import (
    NOON_MS,
    NOTHING,
    amounts,
    ask,
    ask_one,
    claims,
    dump,
    expire,
    extend,
    grow,
    plan,
    release,
    reserve,
    rows,
    settle,
    stands,
)

from budgetguard.core.model import Plan
from budgetguard.errors import StoreAway, StoreUnusable
from budgetguard.stores.sqlite import SQLiteStore
from budgetguard.testing.clock import FakeClock

TOTAL = plan("1000000 tokens/total")


class SlowClock:
    """A clock that stops whoever asks it, until told to go on; each answer is a millisecond after the last.

    A store asks it once in each transaction, so that `now_ms` of an answer says in which transaction it was decided.
    """

    def __init__(self) -> None:
        self._last_ms = NOON_MS
        self.asked = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def now_ms(self) -> int:
        self._last_ms += 1
        self.asked.set()
        assert self.go_on.wait(30)
        return self._last_ms


def test_what_arrives_while_a_transaction_runs_shares_the_next_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = SlowClock()
        store = SQLiteStore(str(tmp_path / "store.db"), clock=clock)
        await store.open()
        clock.asked.clear()
        clock.go_on.clear()
        first = asyncio.create_task(ask_one(store, reserve("first", TOTAL, amounts(1))))
        await asyncio.to_thread(clock.asked.wait, 30)
        # The transaction of the first is under way. Of what comes meanwhile, nothing is decided before it ends.
        await_all = [asyncio.create_task(ask_one(store, reserve(f"r{n}", TOTAL, amounts(1)))) for n in range(300)]
        await_all += [asyncio.create_task(ask_one(store, release(f"r{n}"))) for n in range(0, 300, 2)]
        for _ in range(3):
            await asyncio.sleep(0)
        assert not any(task.done() for task in await_all)
        clock.go_on.set()
        answers = await asyncio.gather(*await_all)
        assert {answer.word for answer in answers} == {"granted", "released"}
        assert len({answer.now_ms for answer in answers}) == 1
        assert {answer.now_ms for answer in answers} != {(await first).now_ms}
        await store.aclose()

    asyncio.run(scenario())


def test_a_thousand_callers_need_few_transactions_and_each_gets_its_own_answer(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = SQLiteStore(str(tmp_path / "store.db"), clock=SlowClock())

        async def call(n: int) -> list[int]:
            granted = await ask_one(store, reserve(f"r{n}", TOTAL, amounts(n), NOON_MS))
            assert (granted.word, granted.admitted_ms) == ("granted", granted.now_ms)
            actual = amounts(2 * n + 1)
            settled = await ask_one(store, settle(f"r{n}", TOTAL, actual, amounts(n), admitted_ms=granted.admitted_ms))
            assert (settled.word, settled.overage.tokens) == ("settled", n + 1)
            return [granted.now_ms, settled.now_ms]

        told = await asyncio.gather(*map(call, range(1_000)))
        transactions = {now_ms for pair in told for now_ms in pair}
        print(f"\n2000 operations in {len(transactions)} transactions")
        assert len(transactions) <= 20
        assert await stands(store) == {"all tokens/total": (1_000**2, 0)}
        await store.aclose()

    asyncio.run(scenario())


def test_a_file_that_another_process_holds_is_away_and_nothing_is_applied(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "store.db"
        store = SQLiteStore(str(path), timeout_ms=30, clock=FakeClock(NOON_MS))
        await ask_one(store, reserve("a", TOTAL, amounts(5)))
        before = dump(path, clocks=True)
        other = apsw.Connection(str(path))
        other.execute("BEGIN IMMEDIATE")
        for op in (reserve("b", TOTAL, amounts(5)), settle("a", TOTAL, amounts(1)), release("a"), expire("a")):
            with pytest.raises(StoreAway, match="another process"):
                await ask_one(store, op)
        with pytest.raises(StoreAway):
            await store.due(1)
        assert await stands(store) == {"all tokens/total": (0, 5)}  # reading waits for nobody
        other.execute("ROLLBACK")
        other.close()
        assert dump(path, clocks=True) == before
        assert (await ask_one(store, release("a"))).word == "released"
        await store.aclose()

    asyncio.run(scenario())


ACCOUNT = "UPDATE accounts SET {} WHERE budget = 'spoiled'"
HOLD = "UPDATE reservations SET {} WHERE id = 'spoiled'"
SPOILED = [
    ACCOUNT.format("spent = -1"), ACCOUNT.format("spent = 9007199254740992"), ACCOUNT.format("reserved = 'many'"),
    ACCOUNT.format("reserved = 1.5"), ACCOUNT.format("slots = '['"), ACCOUNT.format("slots = '[[1,2]]'"),
    ACCOUNT.format("slots = '[[1,-2,0]]'"), ACCOUNT.format("announced = X'00'"),
    HOLD.format("body = 'null'"), HOLD.format("body = ''"), HOLD.format("body = '[[1],[2],[3],[4],[5],[6],[7],[8]]'"),
    HOLD.format("body = replace(body, '7', '-7')"), HOLD.format("body = replace(body, '7', '\"7\"')"),
    HOLD.format("body = replace(body, '7', '7.5')"), HOLD.format("state = 'paid'"), HOLD.format("plan = X'00'"),
    HOLD.format("admitted_ms = 'noon'"), HOLD.format("lease_end_ms = -5"), HOLD.format("revision = 0.5"),
    "UPDATE plans SET body = '{}' WHERE digest = (SELECT plan FROM reservations WHERE id = 'spoiled')",
]  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILED)
def test_a_row_that_somebody_spoiled_spoils_only_the_operations_that_need_it(tmp_path: Path, spoil: str) -> None:
    """Each is told which row; the others of its transaction are done, and the row stays as it was found."""

    async def scenario() -> None:
        path = tmp_path / "store.db"
        clock = FakeClock(NOON_MS)
        first = SQLiteStore(str(path), clock=clock)
        bad, good = plan("100 tokens/total", "9 requests/day", name="spoiled"), plan("100 tokens/total", name="good")
        await ask(first, reserve("spoiled", bad, amounts(7)), reserve("good", good, amounts(7)))
        await first.aclose()
        db = apsw.Connection(str(path))
        db.execute(spoil)
        assert db.changes() >= 1
        db.close()
        found = rows(path, "SELECT * FROM accounts WHERE budget = 'spoiled'")
        found += rows(path, "SELECT * FROM reservations WHERE id = 'spoiled'")
        store = SQLiteStore(str(path), clock=clock)
        ops = [
            reserve("spoiled", bad, amounts(7)), settle("spoiled", bad, amounts(7)), release("spoiled"),
            grow("spoiled", bad, amounts(8)), extend("spoiled", 90_000), expire("spoiled"),
            reserve("new", good, amounts(1)), settle("good", good, amounts(3), amounts(7)),
        ]  # fmt: skip
        answers = await asyncio.gather(*(ask_one(store, op) for op in ops), return_exceptions=True)
        told = [answer for answer in answers[:6] if isinstance(answer, StoreUnusable)]
        assert len(told) >= 4  # extending or repeating a reserve needs no account
        assert all("spoiled" in str(error) for error in told)
        assert [answer.word for answer in answers[6:]] == ["granted", "settled"]  # type: ignore[union-attr]
        after = rows(path, "SELECT * FROM accounts WHERE budget = 'spoiled'")
        assert after + rows(path, "SELECT * FROM reservations WHERE id = 'spoiled'") == found
        assert rows(path, "SELECT spent, reserved FROM accounts WHERE budget = 'good'") == [(3, 1)]
        await store.aclose()

    asyncio.run(scenario())


@pytest.mark.parametrize("id", ["\ud800", "a\udfff", b"r", ("a",)])
def test_an_operation_that_no_row_can_hold_fails_alone(tmp_path: Path, id: Any) -> None:
    async def scenario() -> None:
        store = SQLiteStore(str(tmp_path / "store.db"), clock=FakeClock(NOON_MS))
        ops = [reserve("a", TOTAL, amounts(1)), reserve(id, TOTAL, amounts(1)), reserve("b", TOTAL, amounts(1))]
        answers = await asyncio.gather(*(ask_one(store, op) for op in ops), return_exceptions=True)
        assert [getattr(answer, "word", "no") for answer in answers] == ["granted", "no", "granted"]
        assert isinstance(answers[1], (TypeError, ValueError))
        assert await stands(store) == {"all tokens/total": (0, 2)}
        await store.aclose()

    asyncio.run(scenario())


def test_ids_and_labels_are_kept_apart_however_they_look(tmp_path: Path) -> None:
    async def scenario() -> None:
        names = ["a", "A", "a ", "a\x00", "a\x00b", "a\n", "\u00e9", "e\u0301", "\u0430", "%", "{}", "'", "\U0001f986"]
        names += ['"', '\\"', "]", '["a",[]', "a" * 512]
        store = SQLiteStore(str(tmp_path / "store.db"), clock=FakeClock(NOON_MS))
        for number, name in enumerate(names):
            of = Plan(claims(name, ("9999 tokens/total",), NOON_MS, ((name, name),)))
            answer = await ask_one(store, reserve(name, of, amounts(number + 1), **{name: name}))
            assert (answer.word, name) == ("granted", name)
        page = await store.read_accounts()
        assert {(r.account.budget, r.account.per, r.reserved) for r in page.rows} == {
            (name, ((name, name),), number + 1) for number, name in enumerate(names)
        }
        holds = await store.read_holds()
        assert {(row.id, row.labels[row.id], row.estimate.tokens) for row in holds.rows} == {
            (name, name, number + 1) for number, name in enumerate(names)
        }
        words = Counter([(await ask_one(store, release(name))).word for name in names])
        assert words == {"released": len(names)}
        await store.aclose()

    asyncio.run(scenario())


def test_namespaces_share_a_file_and_nothing_else(tmp_path: Path) -> None:
    """The same ids and budgets, clocks that are years apart: neither sees, settles or forgets what is the other's."""

    async def scenario() -> None:
        path = tmp_path / "store.db"
        theirs = SQLiteStore(str(path), "theirs", clock=FakeClock(NOON_MS))
        await ask(theirs, reserve("r", TOTAL, amounts(5)), reserve("s", TOTAL, amounts(5)))
        await ask_one(theirs, settle("s", TOTAL, amounts(4), amounts(5)))
        before = {name: [row for row in found if "theirs" in row] for name, found in dump(path, clocks=True).items()}
        later_ms = NOON_MS + 10**12
        mine = SQLiteStore(str(path), "mine", clock=FakeClock(later_ms))
        assert (await ask_one(mine, settle("s", TOTAL, amounts(9), tried_since_ms=later_ms))).word == "late"
        assert (await ask_one(mine, reserve("r", TOTAL, amounts(8), later_ms))).word == "granted"
        assert await mine.due(10) == []
        assert await stands(mine) == {"all tokens/total": (9, 8)}
        assert [row.id for row in (await mine.read_holds()).rows] == ["r"]
        after = {name: [row for row in found if "theirs" in row] for name, found in dump(path, clocks=True).items()}
        assert after == before
        assert await stands(theirs) == {"all tokens/total": (4, 5)}
        assert (await ask_one(theirs, settle("s", TOTAL, amounts(4), amounts(5)))).word == "replayed"
        for store in (mine, theirs):
            await store.aclose()

    asyncio.run(scenario())


def test_one_store_serves_event_loops_one_after_the_other_and_at_once(tmp_path: Path) -> None:
    store = SQLiteStore(str(tmp_path / "store.db"), clock=FakeClock(NOON_MS))
    assert asyncio.run(ask_one(store, reserve("first", TOTAL, amounts(1)))).word == "granted"
    told: list[str] = []

    async def many(name: str) -> None:
        for _ in range(10):
            ops = [reserve(f"{name}-{n}", TOTAL, amounts(1)) for n in range(20)]
            told.extend(answer.word for answer in await asyncio.gather(*(ask_one(store, op) for op in ops)))

    threads = [threading.Thread(target=lambda name=name: asyncio.run(many(name))) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert Counter(told) == {"granted": 80, "replayed": 720}

    async def close() -> None:
        assert await stands(store) == {"all tokens/total": (0, 81)}
        await store.aclose()

    asyncio.run(close())


def test_a_loop_that_is_closed_over_an_operation_leaves_the_store_in_order(tmp_path: Path) -> None:
    """What was under way is done or not done as a whole, and the next loop finds the store at work."""
    clock = SlowClock()
    store = SQLiteStore(str(tmp_path / "store.db"), clock=clock)
    asyncio.run(store.open())

    async def abandon() -> None:
        clock.asked.clear()
        clock.go_on.clear()
        task = asyncio.create_task(ask_one(store, reserve("abandoned", TOTAL, amounts(3), NOON_MS)))
        await asyncio.to_thread(clock.asked.wait, 30)
        assert not task.done()

    asyncio.run(abandon())
    clock.go_on.set()

    async def afterwards() -> None:
        assert (await ask_one(store, reserve("abandoned", TOTAL, amounts(3), NOON_MS))).word == "replayed"
        assert await stands(store) == {"all tokens/total": (0, 3)}
        await store.aclose()
        assert (await ask_one(store, settle("abandoned", TOTAL, NOTHING, amounts(3)))).word == "settled"
        await store.aclose()

    asyncio.run(afterwards())
