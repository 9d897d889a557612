"""What a store keeps of calls' outputs: added once, shared, bounded, and no harm where somebody else has written."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from lua_kit import LuaServer
from redis_kit import RedisServer, key_prefix
from store_kit import HOUR_MS, NOON_MS, rows

from budgetguard.core.amounts import MAX_AMOUNT
from budgetguard.errors import InvalidAmount
from budgetguard.store import OUTPUT_PLACES, OUTPUT_SLICES, Clock, OutputCount, OutputSet, Store
from budgetguard.stores.redis import RedisStore
from budgetguard.stores.redis.plans import pack
from budgetguard.stores.sqlite import SQLiteStore
from budgetguard.stores.sqlite.mending import SQLiteBooks
from budgetguard.testing import FakeClock

Make = Callable[[Clock], Store]
SLICE = NOON_MS // HOUR_MS
HOSTILE = ('["out", "a}b\x00"]', "{x}:meta", "ç" * 2_000)


@pytest.fixture(params=["sqlite", "redis", "5.4"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """A worker's store; all of them are on one file or namespace. "5.4": the script under that Lua."""
    if request.param == "sqlite":
        yield lambda clock: SQLiteStore(str(tmp_path / "store.db"), clock=clock)
        return
    if request.param == "5.4":
        with LuaServer("5.4") as lua:
            yield lambda clock: RedisStore(lua.url, "n", 20_000, clock)
        return
    server, namespace = request.getfixturevalue("redis_server"), request.getfixturevalue("namespace")
    yield lambda clock: RedisStore(server.unix_url, namespace, 20_000, clock)


def told(found: list[OutputSet]) -> dict[str, list[tuple[int, int, int]]]:
    return {one.words: sorted(one.counts) for one in found}


def test_what_workers_note_is_added_in_the_slice_of_now_and_a_flush_that_comes_again_counts_once(make: Make) -> None:
    async def main() -> None:
        clock = FakeClock(NOON_MS)
        async with aclosing(make(clock)) as one, aclosing(make(clock)) as other:
            rows = [OutputCount("a", 7, 2), OutputCount("b", 0, 1), OutputCount("a", 7, 1), OutputCount("a", 9, 4)]
            for _ in range(3):
                await one.note_outputs("f-1", HOUR_MS, rows)
            await other.note_outputs("f-2", HOUR_MS, [OutputCount("a", 7, 10)])
            clock.advance(HOUR_MS)
            await other.note_outputs("f-3", HOUR_MS, [OutputCount("a", 7, 5)])
            a, b = [(SLICE, 7, 13), (SLICE, 9, 4), (SLICE + 1, 7, 5)], [(SLICE, 0, 1)]
            assert told(await one.read_outputs()) == {"a": a, "b": b}
            assert told(await one.read_outputs(["b", "none", "a"])) == {"a": a, "b": b}
            assert [found.words for found in await one.read_outputs(None, 1)] == ["a"], "the latest"
            assert await other.read_outputs([]) == []

    asyncio.run(main())


def test_whatever_is_noted_both_stores_keep_what_a_plain_sum_says(make: Make) -> None:
    chance, clock, sums = random.Random(66), FakeClock(NOON_MS), Counter[tuple[str, int, int]]()

    async def main() -> None:
        async with aclosing(make(clock)) as store:
            for number in range(60):
                clock.advance(chance.choice((0, 1, HOUR_MS // 2, HOUR_MS)))
                slice = clock.now_ms() // HOUR_MS
                noted = [
                    OutputCount(
                        chance.choice(HOSTILE), chance.choice((0, 1, OUTPUT_PLACES - 1)),
                        chance.choice((0, 1, 2**32, MAX_AMOUNT // 2, MAX_AMOUNT)),
                    )
                    for _ in range(chance.randint(0, 5))
                ]  # fmt: skip
                await store.note_outputs(f"f-{number}", HOUR_MS, noted)
                for words, place, calls in noted:
                    sums[words, slice, place] = min(sums[words, slice, place] + calls, MAX_AMOUNT)
            found = {(one.words, *count[:2]): count[2] for one in await store.read_outputs() for count in one.counts}
            written = {words: max(s for w, s, _ in sums if w == words) for words in HOSTILE}
            assert found == {k: n for k, n in sums.items() if k[1] > written[k[0]] - OUTPUT_SLICES}

    asyncio.run(main())


def test_a_clock_that_is_set_back_or_far_ahead_spoils_nothing_that_comes_after(make: Make) -> None:
    async def main() -> None:
        clock = FakeClock(NOON_MS)
        async with aclosing(make(clock)) as store:
            await store.note_outputs("f-1", HOUR_MS, [OutputCount("a", 7, 1)])
            clock.set(NOON_MS - HOUR_MS)
            await store.note_outputs("f-2", HOUR_MS, [OutputCount("a", 7, 1)])
            (found,) = await store.read_outputs(["a"])
            assert sum(calls for *_, calls in found.counts) == 2
            clock.set(NOON_MS + 40 * HOUR_MS)
            await store.note_outputs("f-3", HOUR_MS, [OutputCount("a", 7, 3)])
            assert told(await store.read_outputs(["a"])) == {"a": [(SLICE + 40, 7, 3)]}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("slice_ms", "row"),
    [
        (HOUR_MS, OutputCount("a", OUTPUT_PLACES, 1)), (HOUR_MS, OutputCount("a", -1, 1)), (0, OutputCount("a", 1, 1)),
        (HOUR_MS, OutputCount("a", 1, MAX_AMOUNT + 1)), (HOUR_MS, OutputCount("a", 1, -1)),
        (HOUR_MS, OutputCount("a", 1.5, 1)), (HOUR_MS, OutputCount("a", 1, True)),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_what_is_no_number_is_refused_and_nothing_is_kept(make: Make, slice_ms: int, row: OutputCount) -> None:
    async def main() -> None:
        async with aclosing(make(FakeClock(NOON_MS))) as store:
            await store.open()
            with pytest.raises(InvalidAmount):
                await store.note_outputs("f", slice_ms, [OutputCount("b", 1, 1), row])
            assert await store.read_outputs() == []

    asyncio.run(main())


def test_beyond_the_most_the_oldest_sets_are_forgotten(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("sqlite", "redis"):
        monkeypatch.setattr(f"budgetguard.stores.{place}.outputs.MOST_OUTPUT_SETS", 100)

    async def main() -> None:
        clock = FakeClock(NOON_MS)
        async with aclosing(make(clock)) as store:
            await store.note_outputs("old", HOUR_MS, [OutputCount("kept", 1, 1)])
            for number in range(10):
                clock.advance(1)
                sets = [OutputCount(f"{number} {each}", 1, 1) for each in range(70)]
                await store.note_outputs(f"f-{number}", HOUR_MS, [*sets, OutputCount("kept", 1, 1)])
                assert len(await store.read_outputs()) <= 100
            found = told(await store.read_outputs())
            assert len(found) == 100 and found["kept"] == [(SLICE, 1, 11)]
            assert {f"9 {each}" for each in range(70)} < set(found)

    asyncio.run(main())


def test_on_redis_a_record_that_somebody_else_has_written_is_left_out_and_begins_anew(
    redis_server: RedisServer, namespace: str
) -> None:
    async def main() -> None:
        async with aclosing(RedisStore(redis_server.unix_url, namespace, 20_000)) as store:
            await store.note_outputs("f-0", HOUR_MS, [OutputCount("a", 7, 1), OutputCount("search}", 7, 1)])
            keys = redis_server.keys(key_prefix(namespace) + "o:*")
            assert len(keys) == 2 and not any("search" in key for key in keys)
            for number, made in enumerate([("SET", "x"), ("SET", b"\x93\x01\x02"), ("RPUSH", "x"), ("HSET", "x", "1")]):
                for key in keys:
                    redis_server.ask("DEL", key)
                    redis_server.ask(made[0], key, *made[1:])
                    redis_server.ask("PEXPIRE", key, HOUR_MS)
                assert await store.read_outputs() == []
                await store.note_outputs(
                    f"f-{number + 1}", HOUR_MS, [OutputCount("a", 7, 1), OutputCount("search}", 7, 2)]
                )
                found = told(await store.read_outputs())
                assert [counts[0][1:] for _, counts in sorted(found.items())] == [(7, 1), (7, 2)]
            for key in (*keys, key_prefix(namespace) + "outputs"):
                assert OUTPUT_SLICES * HOUR_MS < redis_server.ask("PTTL", key) <= (OUTPUT_SLICES + 1) * HOUR_MS

    asyncio.run(main())


@pytest.mark.parametrize(
    "slice",
    [b"", b"\xc1", pack("x"), pack([7]), pack([7, -1]), pack([600, 1]), pack([7, 0.5]), pack({7: 1}), pack([7, "1"])],
)
def test_on_redis_a_slice_that_somebody_else_has_written_hides_no_other_and_that_of_now_begins_anew(
    redis_server: RedisServer, namespace: str, slice: bytes
) -> None:
    async def main() -> None:
        clock = FakeClock(NOON_MS)
        async with aclosing(RedisStore(redis_server.unix_url, namespace, 20_000, clock)) as store:
            await store.note_outputs("f-1", HOUR_MS, [OutputCount("a", 7, 1)])
            (key,) = redis_server.keys(key_prefix(namespace) + "o:*")
            for now, wanted in ((slice, []), (pack([8, 2]), [(SLICE, 8, 2)])):
                record = ["a", NOON_MS, SLICE - 1, slice, -3, pack([7, 1]), SLICE, now, 2**60, pack([7, 1]), "odd"]
                redis_server.ask("SET", key, pack(record), "PX", HOUR_MS)
                assert told(await store.read_outputs()) == {"a": wanted}
            redis_server.ask("SET", key, pack(["a", NOON_MS, SLICE - 1, slice, SLICE, slice]), "PX", HOUR_MS)
            await store.note_outputs("f-2", HOUR_MS, [OutputCount("a", 7, 5)])
            assert told(await store.read_outputs()) == {"a": [(SLICE, 7, 5)]}

    asyncio.run(main())


@pytest.mark.parametrize(
    "body",
    [
        "", "x", "[1]", '{"1":[1]}', '{"1":[600,1]}', '{"1":[1,-1]}', '{"1":[1,0.5]}', '{"x":[]}', '{"-1":[1,1]}',
        '{"9007199254740992":[1,1]}', '{"__proto__":[]}', "[" * 9_999, f'{{"{"9" * 5_000}":[]}}', '{"1":{"1":1}}',
    ],
)  # fmt: skip
def test_on_sqlite_likewise_and_a_sweep_forgets_what_nobody_writes_any_more(tmp_path: Path, body: str) -> None:
    path, clock = tmp_path / "store.db", FakeClock(NOON_MS)

    async def main() -> None:
        async with aclosing(SQLiteStore(str(path), clock=clock)) as store:
            await store.note_outputs("f-1", HOUR_MS, [OutputCount("a", 7, 1), OutputCount("b", 7, 1)])
            rows(path, "UPDATE outputs SET counts = ? WHERE words = 'a'", body)
            assert told(await store.read_outputs()) == {"b": [(SLICE, 7, 1)]}
            await store.note_outputs("f-2", HOUR_MS, [OutputCount("a", 7, 1)])
            assert told(await store.read_outputs(["a"])) == {"a": [(SLICE, 7, 1)]}
            clock.advance((OUTPUT_SLICES + 1) * HOUR_MS)
            assert await store.read_outputs() == []
            books = SQLiteBooks(str(path), "default", clock=clock)
            assert books.outlived() == 2, "as doctor tells"
            await store.due(1)
            assert books.outlived() == 0

    asyncio.run(main())
    assert rows(path, "SELECT * FROM outputs") == []
