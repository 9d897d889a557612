"""A `RedisStore` over keys that somebody else has written over: who needs one is told its name, the others go on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from redis_kit import RedisServer
from store_kit import NOON_MS, amounts, ask_one, extend, grow, plan, release, reserve, settle

from budgetguard.core.verbs import Settlement, Verdict
from budgetguard.errors import StoreError, StoreUnusable
from budgetguard.stores.redis import RedisStore
from budgetguard.stores.redis.batches import PLAN as PLAN_AT
from budgetguard.stores.redis.keys import Keys, digest_of
from budgetguard.stores.redis.plans import pack, unpack, unpack_all
from budgetguard.testing.clock import FakeClock

ESTIMATE = amounts(10, 5, 100)
LIMITS = ("9000 tokens/hour", "$9/rolling 1 hour", "500 requests/total", "50 concurrent")
PLAN, OTHER = plan(*LIMITS), plan(*LIMITS, name="other")
NEW = plan(*LIMITS, name="new")
GARBAGE = {
    "empty": b"", "no packing": b"\xc1", "a number": b"17", "a list": b"\x93\x01\x02\x03", "text": b"\xda\0\x03abc",
    "not a number": b"\xcb\x7f\xf8\0\0\0\0\0\0" * 6, "negative": b"\xff" * 40,
    "infinite": b"\xcb\x7f\xf0\0\0\0\0\0\0" * 6, "doubles": b"\0\0\0\0\0\0\xf8\x7f" * 5,
    "cut short": b"\xdd\xff\xff\xff\xff", "deep": b"\x91" * 5_000 + b"\x01", "map": b"\x83\x01\x01\x02\x02\x03\x03",
}  # fmt: skip
ON_HELD = {
    "reserve again": reserve("held", PLAN, ESTIMATE), "grow": grow("held", PLAN, amounts(90)),
    "extend": extend("held", 900_000), "settle": settle("held", PLAN, ESTIMATE), "release": release("held"),
}  # fmt: skip
ON_PLAN = {
    "grow": ON_HELD["grow"], "extend": ON_HELD["extend"], "settle": ON_HELD["settle"], "release": ON_HELD["release"],
    "reserve": reserve("new", PLAN, ESTIMATE), "settle lost": settle("lost", PLAN, ESTIMATE),
}  # fmt: skip
BESIDE = {
    "settle beside": settle("beside", OTHER, ESTIMATE, ESTIMATE), "reserve beside": reserve("more", OTHER, ESTIMATE),
    "release beside": release("never"),
}  # fmt: skip


class Bench:
    """Two stores of one namespace, as two machines: the first knows the reservations, the second does not."""

    def __init__(self, server: RedisServer, namespace: str) -> None:
        self.server = server
        self.keys = Keys(namespace)
        self.clock = FakeClock(NOON_MS)
        self.stores = [RedisStore(server.url, namespace, clock=self.clock) for _ in range(2)]

    async def begin(self) -> None:
        for id, of in (("held", PLAN), ("beside", OTHER)):
            assert (await ask_one(self.stores[0], reserve(id, of, ESTIMATE))).word == "granted"

    async def ask(self, ops: dict[str, Any], which: int) -> dict[str, Any]:
        """How operations end that are asked at once."""
        asked = (ask_one(self.stores[which], op) for op in ops.values())
        return dict(zip(ops, await asyncio.gather(*asked, return_exceptions=True), strict=True))

    async def aclose(self) -> None:
        for store in self.stores:
            await store.aclose()


@pytest.fixture
def bench(redis_server: RedisServer, namespace: str) -> Bench:
    return Bench(redis_server, namespace)


def told(found: dict[str, Any], key: str, needing: dict[str, Any]) -> list[str]:
    """What is wrong with these ends: each that needs the key must have heard its name, each other must be done."""
    faults = []
    for name, end in found.items():
        is_told = isinstance(end, StoreUnusable) and key in str(end)
        if is_told != (name in needing) or not (is_told or isinstance(end, (Verdict, Settlement))):
            faults.append(f"{name}: {end!r}")
    return faults


@pytest.mark.parametrize("which", [0, 1], ids=["who reserved", "another machine"])
@pytest.mark.parametrize("what", GARBAGE)
def test_only_what_needs_a_damaged_account_or_reservation_hears_of_it(bench: Bench, what: str, which: int) -> None:
    async def run() -> None:
        await bench.begin()
        account = bench.keys.account(digest_of(PLAN.claims[1].account.key))
        for key, needing in ((account, ON_PLAN), (bench.keys.hold("held"), ON_HELD)):
            value = bench.server.ask("GET", key)
            bench.server.ask("SET", key, GARBAGE[what], "KEEPTTL")
            found = await bench.ask({**needing, **BESIDE}, which)
            assert told(found, key.decode(), needing) == []
            assert bench.server.ask("GET", key) == GARBAGE[what]
            bench.server.ask("SET", key, value, "KEEPTTL")
        assert {end.word for end in (await bench.ask(ON_HELD, which)).values()} >= {"granted", "extended", "settled"}
        await bench.aclose()

    asyncio.run(run())


@pytest.mark.parametrize("which", [0, 1], ids=["who reserved", "another machine"])
def test_only_what_needs_a_key_of_another_type_hears_of_it(bench: Bench, which: int) -> None:
    async def run() -> None:
        await bench.begin()
        account = bench.keys.account(digest_of(PLAN.claims[1].account.key))
        for key, needing in ((account, ON_PLAN), (bench.keys.hold("held"), ON_HELD)):
            dumped = bench.server.ask("DUMP", key)
            for command in (("RPUSH", key, "x"), ("HSET", key, "x", "1")):
                bench.server.ask("DEL", key)
                bench.server.ask(*command)
                bench.server.ask("EXPIRE", key, 1_000)
                assert told(await bench.ask({**needing, **BESIDE}, which), key.decode(), needing) == []
            bench.server.ask("RESTORE", key, 10**8, dumped, "REPLACE")
        await bench.aclose()

    asyncio.run(run())


def other_plans(text: bytes) -> Iterator[bytes]:
    """Texts instead of a stored plan that Lua takes for one and Python does not, or the other way round."""
    fields = unpack(text)
    as_map, claim_as_map = dict(enumerate(fields, 1)), dict(enumerate(fields[2], 1))
    yield from map(
        pack, (as_map, [*fields[:2], claim_as_map], [*fields[:2], [2**40, *fields[2][1:]]], fields[:1], 7, {})
    )


@pytest.mark.parametrize("which", [0, 1], ids=["who reserved", "another machine"])
def test_a_stored_plan_that_only_one_side_could_read_holds_up_nobody(bench: Bench, which: int) -> None:
    async def run() -> None:
        await bench.begin()
        key = bench.keys.hold("held")
        record = unpack_all(bench.server.ask("GET", key))
        for text in other_plans(record[PLAN_AT]):
            value = b"".join(map(pack, [*record[:PLAN_AT], text, *record[PLAN_AT + 1 :]]))
            bench.server.ask("SET", key, value, "KEEPTTL")
            found = await bench.ask({"extend": ON_HELD["extend"], **BESIDE}, which)
            assert told({name: found[name] for name in BESIDE}, key.decode(), {}) == []
            is_told = isinstance(found["extend"], StoreUnusable) and key.decode() in str(found["extend"])
            assert is_told or (which == 0 and found["extend"].word in ("extended", "replayed")), (text, found["extend"])
        await bench.aclose()

    asyncio.run(run())


def structures() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """A structure, what needs it, and what does not."""
    new = {"reserve new": reserve("new", NEW, ESTIMATE)}
    yield "open", {**ON_PLAN, **BESIDE, **new}, {"reserve again": ON_HELD["reserve again"]}
    yield "outbox", {"settle": ON_HELD["settle"], "reserve": ON_PLAN["reserve"]}, {"release": ON_HELD["release"]}
    yield "index", new, {"reserve": ON_PLAN["reserve"], "settle": ON_HELD["settle"]}


@pytest.mark.parametrize(("name", "needing", "beside"), list(structures()), ids=["open", "outbox", "index"])
def test_only_what_writes_a_structure_of_another_type_hears_of_it(
    bench: Bench, name: str, needing: dict[str, Any], beside: dict[str, Any]
) -> None:
    async def run() -> None:
        await bench.begin()
        key = f"{bench.keys.prefix}{name}"
        bench.server.ask("DEL", key)
        bench.server.ask("SET", key, "x", "EX", 1_000)
        before = dumps(bench)
        assert told(await bench.ask(needing, 0), key, needing) == []
        assert dumps(bench) == before
        assert told(await bench.ask({**needing, **beside}, 1), key, needing) == []
        await bench.aclose()

    asyncio.run(run())


def dumps(bench: Bench) -> dict[str, bytes]:
    """Every key but `meta`, byte for byte."""
    keys = [key for key in bench.server.keys(f"{bench.keys.prefix}*") if not key.endswith("}:meta")]
    return {key: bench.server.ask("DUMP", key) for key in keys}


META = {
    "last_ms": ("nan", "inf", "-1", "abc", "", "1e300", "9007199254740993", "0x10", "1.5"),
    "schema": ("2", "abc", "", "nan"), "clock": ("", "other"), "incarnation": ("", "x"),
}  # fmt: skip


@pytest.mark.parametrize("field", META)
def test_nothing_is_admitted_or_written_where_meta_is_damaged(bench: Bench, field: str) -> None:
    async def run() -> None:
        await bench.begin()
        value = bench.server.ask("HGET", bench.keys.meta, field)
        for garbage in META[field]:
            bench.server.ask("HSET", bench.keys.meta, field, garbage)
            before = dumps(bench)
            for end in (await bench.ask({**ON_PLAN, **BESIDE}, 0)).values():
                assert isinstance(end, StoreError), (garbage, end)
            assert (dumps(bench), bench.server.ask("HGET", bench.keys.meta, field)) == (before, garbage.encode())
        bench.server.ask("HSET", bench.keys.meta, field, value)
        assert not [end for end in (await bench.ask({**ON_PLAN, **BESIDE}, 0)).values() if isinstance(end, Exception)]
        await bench.aclose()

    asyncio.run(run())
