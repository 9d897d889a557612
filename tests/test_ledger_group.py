"""Several who drain one outbox: each entry is one reader's, and what a dead one had is taken over."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

from drain_kit import books
from postgres_kit import Books
from redis_kit import key_prefix
from redis_world import RedisWorld
from rollup_kit import rollups_in
from store_kit import amounts, ask, settle

from budgetguard.ledger.drain import drain
from budgetguard.ledger.postgres import PostgresLedger
from budgetguard.ledger.sqlite import SQLiteLedger
from budgetguard.stores import open_outbox
from budgetguard.stores.redis.outbox import GROUP, RedisOutbox

LONG_MS = 3_600_000


def reader(world: RedisWorld, claim_after_ms: int = LONG_MS) -> RedisOutbox:
    return open_outbox(world.url, world.namespace, 15_000, claim_after_ms)


def stream(world: RedisWorld) -> str:
    return f"{key_prefix(world.namespace)}outbox"


def readers(world: RedisWorld) -> int:
    """How many the group knows."""
    return len(world.server.ask("XINFO", "CONSUMERS", stream(world), GROUP))


async def filled(world: RedisWorld, count: int, first: int = 0) -> None:
    async with world.opened() as store:
        now_ms, of = world.now_ms(), world.plan("9M tokens/total")
        ops = [
            settle(f"r{n}", of, amounts(5), admitted_ms=now_ms, tried_since_ms=now_ms)
            for n in range(first, first + count)
        ]
        await ask(store, *ops)


def ids(entries: Any) -> list[str]:
    return [entry.row.id for entry in entries]


async def drop(outbox: RedisOutbox, entries: Any) -> None:
    await outbox.drop([entry.entry_id for entry in entries])


def test_two_who_read_at_once_have_different_entries_and_together_all(redis_world: RedisWorld) -> None:
    async def main() -> None:
        await filled(redis_world, 6)
        async with aclosing(reader(redis_world)) as one, aclosing(reader(redis_world)) as other:
            first, second = await one.read(2), await other.read(10)
            assert (ids(first), ids(second)) == (["r0", "r1"], ["r2", "r3", "r4", "r5"])
            assert (ids(await one.read(10)), ids(await other.read(2))) == (["r0", "r1"], ["r2", "r3"])
            assert ids(await other.read(2, second[1].entry_id)) == ["r4", "r5"]
            await drop(one, first)
            await drop(other, second)
            assert (await one.read(10), await other.read(10)) == ([], [])
        assert (redis_world.server.ask("XLEN", stream(redis_world)), readers(redis_world)) == (0, 0)

    asyncio.run(main())


def test_what_a_reader_had_that_is_gone_is_taken_over_after_a_while_and_at_once_by_who_reads_once(
    redis_world: RedisWorld,
) -> None:
    async def main() -> None:
        await filled(redis_world, 3)
        async with aclosing(reader(redis_world)) as dead:
            first = await dead.read(2)
            async with aclosing(reader(redis_world)) as patient:
                assert ids(await patient.read(10)) == ["r2"]
            async with aclosing(reader(redis_world, claim_after_ms=20)) as heir:
                async with asyncio.timeout(30):
                    found = await heir.read(10)
                    while ids(found) != ["r0", "r1", "r2"]:
                        found = await heir.read(10)
                await drop(heir, found)
            await drop(dead, first)  # it was only slow, and is late
        await filled(redis_world, 2, first=3)
        async with aclosing(reader(redis_world)) as dead:
            await dead.read(1)
            async with aclosing(reader(redis_world, claim_after_ms=0)) as once:
                found = await once.read(10)
                assert ids(found) == ["r3", "r4"]
                await drop(once, found)
        # The patient one left an entry: its name stays.
        assert (redis_world.server.ask("XLEN", stream(redis_world)), readers(redis_world)) == (0, 1)

    asyncio.run(main())


def test_a_reader_that_leaves_entries_stays_known_so_that_they_are_not_forgotten(redis_world: RedisWorld) -> None:
    async def main() -> None:
        await filled(redis_world, 2)
        async with aclosing(reader(redis_world)) as leaving:
            await drop(leaving, (await leaving.read(10))[:1])
        assert readers(redis_world) == 1
        async with aclosing(reader(redis_world, claim_after_ms=0)) as heir:
            found = await heir.read(10)
            assert ids(found) == ["r1"]
            await drop(heir, found)

    asyncio.run(main())


def test_entries_that_others_have_deleted_hold_up_nobody(redis_world: RedisWorld) -> None:
    """As where the stream was trimmed while a reader had them."""

    async def main() -> None:
        await filled(redis_world, 5)
        async with aclosing(reader(redis_world)) as one:
            found = await one.read(4)
            redis_world.server.ask("XDEL", stream(redis_world), *(entry.entry_id for entry in found[:3]))
            assert ids(await one.read(2)) == ["r3", "r4"]
            assert ids(await one.read(9)) == ["r3", "r4"]
            await drop(one, await one.read(9))
            assert redis_world.server.ask("XPENDING", stream(redis_world), GROUP)["pending"] == 0

    asyncio.run(main())


def test_a_group_that_was_lost_is_made_anew_and_reads_all_that_is_left(redis_world: RedisWorld) -> None:
    async def main() -> None:
        await filled(redis_world, 3)
        async with aclosing(reader(redis_world)) as one:
            await drop(one, await one.read(1))
            redis_world.server.ask("XGROUP", "DESTROY", stream(redis_world), GROUP)
            assert ids(await one.read(9)) == ["r1", "r2"]
            await drop(one, await one.read(9))

    asyncio.run(main())


def test_a_look_at_a_namespace_without_rows_makes_nothing_there(redis_world: RedisWorld) -> None:
    async def main() -> None:
        async with aclosing(reader(redis_world)) as one:
            assert await one.read(9) == []

    asyncio.run(main())
    assert redis_world.server.keys(f"{key_prefix(redis_world.namespace)}*") == []


def test_many_drains_at_once_move_each_row_and_leave_nothing(redis_world: RedisWorld, tmp_path: Any) -> None:
    async def one() -> int:
        ledger = SQLiteLedger(str(tmp_path / "ledger.db"), timeout_ms=60_000)
        async with aclosing(reader(redis_world)) as outbox:
            drained = await drain(outbox, ledger, 7)
        ledger.close()
        return drained.rows

    async def main() -> None:
        await filled(redis_world, 100)
        assert sum(await asyncio.gather(*(one() for _ in range(4)))) == 100

    asyncio.run(main())
    assert len(books(tmp_path / "ledger.db")) == 100 and redis_world.server.ask("XLEN", stream(redis_world)) == 0


STEPS = 6
"""Of a batch: before and after it is read, written, dropped."""


class Killed(BaseException):
    """The process ends here, without another word."""


class Mortal:
    """An outbox and a ledger of a process that is killed before its n-th step, or right after it."""

    def __init__(self, outbox: RedisOutbox, ledger: PostgresLedger, fatal: int) -> None:
        self.outbox, self.ledger, self.left = outbox, ledger, fatal

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed

    async def read(self, most: int, after: str = "") -> Any:
        self.step()
        found = await self.outbox.read(most, after)
        self.step()
        return found

    def write(self, rows: Any) -> None:
        self.step()
        self.ledger.write(rows)
        self.step()

    async def drop(self, entry_ids: Any) -> None:
        self.step()
        await self.outbox.drop(entry_ids)
        self.step()


def test_a_drain_that_is_killed_between_any_two_steps_leaves_each_row_once_and_no_entry(
    redis_world: RedisWorld, postgres: Books
) -> None:
    """Again and again, a step later each time: what it had is taken over by the next, and delivered more than once."""

    async def life(fatal: int) -> bool:
        ledger = PostgresLedger(postgres.url)
        async with aclosing(reader(redis_world, claim_after_ms=0)) as outbox:
            mortal = Mortal(outbox, ledger, fatal)
            try:
                await drain(mortal, mortal, 3)  # type: ignore[arg-type]
            except Killed:
                return False
            finally:
                ledger.close()
        return True

    async def main() -> None:
        for fatal in range(1, 2 * STEPS + 1):
            await filled(redis_world, 4, first=4 * fatal)
            assert not await life(fatal)
        assert await life(0)

    asyncio.run(main())
    assert {id for _, id in postgres.books()} == {f"r{n}" for n in range(4, 4 * (2 * STEPS + 1))}
    assert rollups_in(postgres.ask)[0] == rollups_in(postgres.ask)[1]
    assert redis_world.server.ask("XLEN", stream(redis_world)) == 0
