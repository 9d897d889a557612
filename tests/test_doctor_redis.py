"""`budgetguard doctor --fix` after a Redis has lost its state: by two at once, killed half-way, without its ledger."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import aclosing, closing
from pathlib import Path

import apsw
import pytest
from cli_kit import MAIN, command
from doctor_kit import Here, after_calls, drained, ended, flush, looked, made_ledger, rebuilt, source, store_of, sums
from guard_kit import ESTIMATE, PATIENT_MS
from postgres_kit import Books
from redis_kit import RedisServer, key_prefix
from redis_world import RedisWorld
from store_kit import REPLAY_KEEP_MS, amounts, ask_one, expire, release, reserve, settle

import budgetguard as bg
from budgetguard.errors import StateLost, StoreAway
from budgetguard.ledger import open_ledger
from budgetguard.ledger.charges import Charge
from budgetguard.stores.redis import rebuilding
from budgetguard.stores.redis.books import RedisBooks
from budgetguard.stores.redis.rebuilding import Rebuild

KILLED = """
import os, signal
import budgetguard.stores.redis.rebuilding as rebuilding

write, written = rebuilding.Rebuild._write, []
rebuilding.MOST = 1

async def write_some(self, *sent):
    await write(self, *sent)
    written.append(sent)
    if len(written) == int(os.environ["WRITES"]):
        os.kill(os.getpid(), signal.SIGKILL)

rebuilding.Rebuild._write = write_some
"""


@pytest.fixture
def here(redis_server: RedisServer, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Here(redis_server, namespace, tmp_path, f"sqlite:///{tmp_path}/ledger.db")


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_two_that_rebuild_at_once_count_nothing_twice_and_guards_go_on_within_their_limits(
    here: Here, request: pytest.FixtureRequest, kind: str
) -> None:
    if kind == "postgres":
        books: Books = request.getfixturevalue("postgres")
        here = Here(here.server, here.namespace, here.folder, books.url)

    async def main() -> None:
        async with after_calls(here, 10) as before:
            both = [here.started(MAIN, "doctor", "--fix", "--format", "json") for _ in range(2)]
            for done in [await asyncio.to_thread(ended, *one) for one in both]:
                assert done.code == 0, done
                assert {check["state"] for check in json.loads(done.out)["checks"]} <= {"ok", "warning"}
            assert await here.stands() == before
            for _ in range(20):
                await here.call()
            with pytest.raises(bg.BudgetExceeded):
                await here.call()
            await here.stands()

    asyncio.run(main())


@pytest.mark.parametrize("writes", ["1", "8"])
def test_one_that_is_killed_half_way_leaves_nobody_admitted_and_the_next_takes_it_over(here: Here, writes: str) -> None:
    """After its first write, or after all but the one that ends it."""

    async def main() -> None:
        async with after_calls(here, 8) as before:
            killed = await asyncio.to_thread(ended, *here.started(KILLED + MAIN, "doctor", "--fix", WRITES=writes))
            assert killed.code == -9, killed
            for store in (here.guard, bg.Guard("9 requests/day", store=bg.StoreSettings(
                url=here.server.unix_url, namespace=here.namespace, timeout_ms=PATIENT_MS))):  # fmt: skip
                with pytest.raises(StateLost, match="is being rebuilt by `budgetguard doctor --fix`"):
                    async with store.reserve(model="acme-1", estimate=ESTIMATE):
                        raise AssertionError("it was admitted")
            looked_at = await asyncio.to_thread(here.doctor)
            assert looked_at.code == 1 and "is being rebuilt by" in looked_at.out
            refused = await asyncio.to_thread(command, here.folder, "init", "--accept-loss")
            assert refused.code == 2 and "is being rebuilt" in refused.err
            here.server.ask("HSET", f"{key_prefix(here.namespace)}meta", "claimed_ms", 1)  # as after 15 s
            done = await asyncio.to_thread(here.doctor, "--fix")
            assert done.code == 0, done
            assert await here.stands() == before
            await here.call()
            assert here.meta("claimed_ms", "claimed_from") == [None, None]

    asyncio.run(main())


def test_a_stale_claim_ends_also_where_the_loss_is_accepted(here: Here) -> None:
    async def main() -> None:
        async with after_calls(here, 2):
            await asyncio.to_thread(ended, *here.started(KILLED + MAIN, "doctor", "--fix", WRITES="1"))
            here.server.ask("HSET", f"{key_prefix(here.namespace)}meta", "claimed_ms", 1)
            accepted = await asyncio.to_thread(command, here.folder, "init", "--accept-loss")
            assert accepted.code == 0, accepted
            await here.call()

    asyncio.run(main())


def test_one_that_was_held_up_until_another_took_over_changes_nothing(here: Here) -> None:
    async def main() -> None:
        books = RedisBooks(here.server.unix_url, here.namespace, PATIENT_MS)
        async with aclosing(books), after_calls(here, 4) as before:
            slow, other = Rebuild(books, REPLAY_KEEP_MS), Rebuild(books, REPLAY_KEEP_MS)
            assert (await slow.claim(), await slow.claim()) == ("", "")
            assert await other.claim() != ""
            here.server.ask("HSET", f"{key_prefix(here.namespace)}meta", "claimed_ms", 1)
            assert await other.claim() == "" and await slow.claim() != ""
            await other.run(source(here.ledger, here.namespace))
            assert await here.stands() == before
            await here.call()
            after = await here.stands()
            with pytest.raises(StateLost):
                await slow.run(source(here.ledger, here.namespace))
            assert await here.stands() == after != before
            await here.call()

    asyncio.run(main())


def test_one_that_is_taken_over_while_it_reads_does_not_claim_it_back(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has read by then is old."""
    monkeypatch.setattr(rebuilding, "BEAT_S", 0.01)
    of = source(here.ledger, here.namespace)

    def slowly(since_ms: int) -> Iterator[Charge]:
        yield from of.told(since_ms)
        here.server.ask("HSET", f"{key_prefix(here.namespace)}meta", "claimed_ms", 1, "incarnation", "rebuild:other")
        asyncio.run(rebuilt(here.server.unix_url, here.namespace, here.ledger))
        until = time.monotonic() + 0.2  # twenty beats
        while time.monotonic() < until and b"rebuild:" not in (here.meta("incarnation")[0] or b""):
            time.sleep(0.01)

    async def main() -> None:
        books = RedisBooks(here.server.unix_url, here.namespace, PATIENT_MS)
        async with aclosing(books), after_calls(here, 3) as before:
            slow = Rebuild(books, REPLAY_KEEP_MS)
            assert await slow.claim() == ""
            with pytest.raises(StateLost):
                await slow.run(of._replace(told=slowly))
            assert await here.stands() == before
            await here.call()

    asyncio.run(main())


def test_where_the_ledger_cannot_be_read_nothing_is_changed_and_calls_go_on(here: Here) -> None:
    def away(since_ms: int) -> list[Charge]:
        raise StoreAway("the database is down")

    async def main() -> None:
        url, namespace = here.server.unix_url, here.namespace
        async with here.guard:
            await here.call()
            before = here.meta("incarnation", "loss_accepted")
            for _ in range(2):
                books = RedisBooks(url, namespace, PATIENT_MS)
                rebuild = Rebuild(books, REPLAY_KEEP_MS)
                assert await rebuild.claim() == ""
                assert "rebuild:" in str(here.meta("incarnation"))
                with pytest.raises(StoreAway):
                    await rebuild.run(source(here.ledger, namespace)._replace(told=away))
                await books.aclose()
                assert here.meta("incarnation", "claimed_ms") == [before[0], None]
            await here.call()
            flush(here.server, namespace)
            books = RedisBooks(url, namespace, PATIENT_MS)
            rebuild = Rebuild(books, REPLAY_KEEP_MS)
            await rebuild.claim()
            with pytest.raises(StoreAway):
                await rebuild.run(source(here.ledger, namespace)._replace(told=away))
            await books.aclose()
            assert here.server.keys(f"{key_prefix(namespace)}*") == []

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_what_rows_that_were_pruned_had_charged_cannot_be_rebuilt_and_that_is_told(
    here: Here, request: pytest.FixtureRequest, kind: str
) -> None:
    if kind == "postgres":
        here = Here(here.server, here.namespace, here.folder, request.getfixturevalue("postgres").url)

    async def main() -> None:
        async with after_calls(here, 5) as before:
            ledger = open_ledger(here.ledger)
            assert ledger.prune(here.namespace, 2**42, 2) == 2
            ledger.close()
            done = await asyncio.to_thread(here.doctor, "--fix")
            assert done.code == 0 and "4 accounts lack what calls until" in done.err, done
            after = await here.stands()
            assert {key: amounts[0] * 5 for key, amounts in after.items()} == {
                key: amounts[0] * 3 for key, amounts in before.items()
            }

    asyncio.run(main())


def test_what_abandoned_calls_hold_is_returned_before_the_first_row_is_drained(here: Here) -> None:
    """An empty ledger is refused only where more was spent than it and the outbox tell."""

    async def main() -> None:
        made_ledger(here.ledger)
        async with here.guard:
            hold = await here.guard.reserve(model="acme-1", estimate=ESTIMATE)
            here.server.ask("DEL", f"{key_prefix(here.namespace)}h:{hold.id}")
            await here.call()
            done = await asyncio.to_thread(here.doctor, "--fix")
            assert done.code == 0 and "concurrent: reserved 1 concurrent -> 0 concurrent" in done.err, done
            assert "the ledger ends at" not in done.err
            assert {reserved for _, reserved in (await here.stands()).values()} == {0}
            here.server.ask("DEL", f"{key_prefix(here.namespace)}outbox")
            refused = await asyncio.to_thread(here.doctor, "--fix")
            assert refused.code == 2 and "has no row of" in refused.err, refused
            await hold.release()

    asyncio.run(main())


def test_a_ledger_without_its_rows_or_none_at_all_is_refused_by_name(here: Here) -> None:
    async def main() -> None:
        async with after_calls(here, 1):
            with closing(apsw.Connection(str(here.folder / "ledger.db"))) as db:
                db.execute("DELETE FROM token_usage")
            refused = await asyncio.to_thread(here.doctor, "--fix")
            assert refused.code == 2 and "has no row of" in refused.err
            (here.folder / "budgetguard.toml").unlink()
            refused = await asyncio.to_thread(here.doctor, "--fix", "--store", here.server.unix_url)
            assert refused.code == 2 and "--fix: say with --ledger" in refused.err
            assert here.server.keys(f"{key_prefix(here.namespace)}*") == []

    asyncio.run(main())


def test_a_settle_that_only_the_ledger_still_knows_ends_its_hold_again(redis_world: RedisWorld, tmp_path: Path) -> None:
    """As after a failover to a replica that lagged: the hold stands again, though its row was drained."""
    server, namespace, ledger = redis_world.server, redis_world.namespace, f"sqlite:///{tmp_path}/ledger.db"

    async def main() -> None:
        store = store_of(server.unix_url, namespace)
        now_ms, estimate = await store.open(), amounts(100, 50)
        of = redis_world.plan("9000 tokens/total", "900 tokens/rolling 1 hour", "9 concurrent")
        ops = [reserve(id, of, estimate, now_ms) for id in ("lost", "kept", "free")]
        assert [(await ask_one(store, op)).word for op in ops] == ["granted"] * 3
        before = {key: server.ask("DUMP", key) for key in server.keys(f"{key_prefix(namespace)}*")}
        ends = settle("lost", of, amounts(70, 5), estimate, admitted_ms=now_ms, tried_since_ms=now_ms)
        assert (await ask_one(store, ends)).word == "settled"
        await drained(server.unix_url, namespace, ledger)
        for key, value in before.items():
            server.ask("RESTORE", key, 0 if key.endswith(("meta", "index")) else 86_400_000, value, "REPLACE")
        look = await looked(server.unix_url, namespace, ledger)
        assert {(one.account.unit, one.spent, one.told_spent, one.reserved, one.told_reserved)
                for one in look.tally.differences(look.after)} == {
            ("tokens", 0, 75, 450, 300), ("concurrent", 0, 0, 3, 2)}  # fmt: skip
        done = await rebuilt(server.unix_url, namespace, ledger)
        assert done.remembered == 1
        assert (await ask_one(store, ends)).word == "replayed"
        assert (await ask_one(store, expire("lost"))).word == "finished"
        assert (await ask_one(store, release("free"))).word == "released"
        look = await looked(server.unix_url, namespace, ledger)
        assert look.tally.differences(look.after) == [] and look.held == 1
        assert set(sums(look.after, look).values()) == {(75, 150), (0, 1)}
        await store.aclose()

    asyncio.run(main())
