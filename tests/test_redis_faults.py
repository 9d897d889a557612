"""What networks do to single scripts of the Redis store: each operation has one effect, and the answer says which."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
from fault_kit import (
    BLACK_HOLE,
    CUT_AFTER,
    CUT_BEFORE,
    CUT_MIDDLE,
    DRIBBLE,
    DUPLICATE,
    LOSE_REPLY,
    PASS,
    Fault,
    Gate,
    Once,
    Request,
    answered,
    swapped,
)  # fmt: skip
from guard_kit import until
from redis_kit import RedisServer
from redis_proxy import Proxy
from redis_world import RedisWorld, says
from store_kit import amounts, ask, ask_one, release, reserve, settle

import budgetguard as bg
from budgetguard.core.model import Plan

ESTIMATE, ACTUAL = amounts(100, 50), amounts(100, 40)
TOKENS = "all tokens/total"
TIMEOUT_MS, LONG_MS = 600, 20_000


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    with Proxy(redis_server) as made:
        yield made


@pytest.fixture
def world(redis_world: RedisWorld, proxy: Proxy) -> RedisWorld:
    """The test's namespace, through the proxy."""
    redis_world.url = proxy.url
    return redis_world


def op_of(verb: str, of: Plan, now_ms: int, id: str = "a") -> Any:
    """An operation of the verb on that reservation."""
    if verb == "release":
        return release(id)
    if verb == "settle":
        return settle(id, of, ACTUAL, ESTIMATE, admitted_ms=now_ms, tried_since_ms=now_ms)
    return reserve(id, of, ESTIMATE, tried_since_ms=now_ms)


ANSWERS = {"reserve": "granted", "settle": "settled", "release": "released"}
AFTER = {"reserve": (0, 150), "settle": (140, 0), "release": (0, 0)}


@pytest.mark.parametrize("verb", ANSWERS)
@pytest.mark.parametrize(
    ("fault", "applied"),
    [
        pytest.param(CUT_BEFORE, False, id="cut before it is forwarded"),
        pytest.param(BLACK_HOLE, False, id="swallowed"),
        pytest.param(DRIBBLE, False, id="the reply byte by byte"),
        pytest.param(DUPLICATE, False, id="doubled"),
        pytest.param(CUT_AFTER, True, id="cut before the reply"),
        pytest.param(CUT_MIDDLE, True, id="cut in the middle of the reply"),
        pytest.param(LOSE_REPLY, True, id="the reply lost"),
    ],
)
def test_an_operation_that_meets_a_fault_has_one_effect_and_is_answered(
    world: RedisWorld, proxy: Proxy, verb: str, fault: Fault, applied: bool
) -> None:
    """If it was applied the first time, the answer to the second says that it is a repeat."""

    async def main() -> None:
        async with world.opened(TIMEOUT_MS) as store:
            of, now_ms = world.plan("1000 tokens/total"), world.now_ms()
            await ask_one(store, release("another"))  # the server has the script: else its first answer is NOSCRIPT
            if verb != "reserve":
                await ask_one(store, op_of("reserve", of, now_ms))
            proxy.faults = once = Once(fault, when=says(verb))
            answer = await ask_one(store, op_of(verb, of, now_ms))
            assert len(once.hits) == 1
            assert answer.word == ("replayed" if applied else ANSWERS[verb])
            assert await world.stands() == {TOKENS: AFTER[verb]}
            assert [(row.id, row.status) for row in world.rows()] == ([("a", "settled")] if verb == "settle" else [])

    asyncio.run(main())


def test_what_was_perhaps_applied_is_never_called_unusable(world: RedisWorld, proxy: Proxy) -> None:
    """The first try was made without a task; that its reply was lost is known to those that follow."""

    async def main() -> None:
        async with world.opened(TIMEOUT_MS) as store:
            op = op_of("reserve", world.plan("1000 tokens/total"), world.now_ms())
            lost, meant = Once(LOSE_REPLY, when=says("reserve")), says("reserve")
            proxy.faults = lambda request: (
                lost(request) if not lost.hits else answered("-OOM x") if meant(request) else PASS
            )
            with pytest.raises(bg.StoreAway, match="raise maxmemory"):
                await ask_one(store, op)
            assert lost.hits

    asyncio.run(main())


@pytest.mark.parametrize(
    ("faults", "told"),
    [
        pytest.param([PASS, answered("-NOSCRIPT x")], {"granted", bg.StoreUnusable}, id="the second of two"),
        pytest.param([LOSE_REPLY, answered("-NOSCRIPT x")], {bg.StoreAway}, id="one whose reply was lost"),
    ],
)
def test_where_a_script_was_forgotten_what_was_perhaps_applied_is_never_called_unusable(
    world: RedisWorld, proxy: Proxy, faults: list[Fault], told: set[object]
) -> None:
    """Its text is refused until the deadline: that tells nothing of what was asked before."""

    async def main(timeout_ms: int) -> list[Any]:
        of, now_ms = world.plan("40k tokens/total"), world.now_ms()
        count = 100 if PASS in faults else 1
        ops = [op_of("reserve", of, now_ms, f"{timeout_ms}-{number}") for number in range(count)]
        proxy.faults = lambda request: PASS
        async with world.opened(timeout_ms) as store:
            by_sha = Once(*faults, when=lambda request: request.name == "EVALSHA")
            proxy.faults = lambda request: answered("-OOM x") if request.name == "EVAL" else by_sha(request)
            answers = await asyncio.gather(*(ask_one(store, op) for op in ops), return_exceptions=True)
            assert len(by_sha.hits) == len(faults)
        return [getattr(answer, "word", type(answer)) for answer in answers]

    granted = 0
    for timeout_ms in (TIMEOUT_MS, LONG_MS):  # the second where a busy machine has not heard the last refusal in time
        words = asyncio.run(main(timeout_ms))
        granted += words.count("granted")
        if set(words) == told:
            break
    assert set(words) == told
    assert asyncio.run(world.stands()) == {TOKENS: (0, 150 * (granted or 1))}


def test_an_answer_that_cannot_be_read_is_told_to_those_whose_it_is(world: RedisWorld, proxy: Proxy) -> None:
    async def main() -> None:
        async with world.opened(TIMEOUT_MS) as store:
            of, now_ms = world.plan("1000 tokens/total"), world.now_ms()
            for count in 1, 2:
                ops = [op_of("reserve", of, now_ms, f"{count}-{number}") for number in range(count)]
                proxy.faults = once = Once(Fault(copies=0, answer=b"$3\r\nabc\r\n"), when=says("reserve"))
                asked = await asyncio.gather(*(ask_one(store, op) for op in ops), return_exceptions=True)
                assert once.hits
                told = [getattr(answer, "word", type(answer)) for answer in asked]
                assert told == ([msgpack.ExtraData] if count == 1 else ["granted", "granted"])

    asyncio.run(main())


def test_an_error_line_that_breaks_its_reader_keeps_nobody_waiting(world: RedisWorld, proxy: Proxy) -> None:
    """More digits than Python makes a number of, where the line of a script is told."""

    async def main() -> None:
        store = world.store(TIMEOUT_MS)
        async with asyncio.timeout(60):
            await store.open()
            of, now_ms = world.plan("1000 tokens/total"), world.now_ms()
            line = f"-ERR The user executing the script: {'a' * 40}, on @user_script:{'9' * 5000}."
            proxy.faults = once = Once(answered(line), when=says("reserve"))
            answers = await asyncio.gather(*(ask_one(store, op_of("reserve", of, now_ms, id)) for id in "ab"))
            assert {answer.word for answer in answers} == {"granted"}
            assert once.hits
            await store.aclose()

    asyncio.run(main())


class Delays:
    """Holds back the next requests that it is for. `all_came` lets them go, and says whether all were answered."""

    def __init__(self, most: int, verb: str) -> None:
        self._gate = Gate()
        self._left = most
        self._is_meant = says(verb)
        self._answered: list[Gate] = []

    def __call__(self, request: Request) -> Fault:
        if self._left == 0 or not self._is_meant(request):
            return PASS
        self._left -= 1
        self._answered.append(Gate())
        return Fault(wait=self._gate, opens=self._answered[-1])

    def all_came(self) -> bool:
        self._left = 0
        self._gate.open()
        return bool(self._answered) and all(gate.opened.is_set() for gate in self._answered)


@pytest.mark.parametrize("tries", [1, 1_000], ids=["its first try", "every try"])
def test_a_reserve_that_arrives_after_its_release_holds_nothing(world: RedisWorld, proxy: Proxy, tries: int) -> None:
    """Its client had tried again, or given up; either way the copies that are still on the way come too late."""

    async def main() -> None:
        async with world.opened(TIMEOUT_MS) as store:
            of, now_ms = world.plan("1000 tokens/total"), world.now_ms()
            proxy.faults = delays = Delays(tries, "reserve")
            if tries == 1:
                assert (await ask_one(store, op_of("reserve", of, now_ms))).word == "granted"
            else:
                with pytest.raises(bg.StoreAway):
                    await ask_one(store, op_of("reserve", of, now_ms))
            assert (await ask_one(store, release("a"))).word == ("released" if tries == 1 else "tombstone")
            await until(delays.all_came, "the delayed copies")
            assert set((await world.stands()).values()) <= {(0, 0)}
            again = await ask_one(store, op_of("reserve", of, now_ms))
            assert again.word == ("finished" if tries == 1 else "voided")

    asyncio.run(main())


def test_a_guard_whose_reserve_is_not_answered_leaves_no_hold_behind(world: RedisWorld, proxy: Proxy) -> None:
    async def main() -> None:
        async with world.guard("9k tokens/day", timeout_ms=TIMEOUT_MS) as guard:
            proxy.faults = delays = Delays(1_000, "reserve")
            with pytest.raises(bg.StoreAway):
                await guard.reserve(estimate=bg.Usage(600, 200))
            await until(lambda: any(says("release")(request) for request in proxy.requests), "the release")
        await until(delays.all_came, "the delayed copies")
        assert set((await world.stands()).values()) <= {(0, 0)}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("overtaken", "overtaking", "words", "stands"),
    [
        ("reserve", "release", ["voided", "tombstone"], {}),
        ("settle", "release", ["late", "released"], {TOKENS: (140, 0)}),
        ("release", "settle", ["finished", "settled"], {TOKENS: (140, 0)}),
    ],
)
def test_operations_of_two_machines_that_overtake_each_other_end_as_the_matrix_says(
    world: RedisWorld, proxy: Proxy, overtaken: str, overtaking: str, words: list[str], stands: dict[str, Any]
) -> None:
    async def main() -> None:
        of, now_ms = world.plan("1000 tokens/total"), world.now_ms()
        async with world.opened() as one, world.opened() as other:
            if overtaken != "reserve":
                await ask_one(one, op_of("reserve", of, now_ms))
            first, second = swapped()
            proxy.faults = once = Once(first, second)
            asking = asyncio.create_task(ask_one(one, op_of(overtaken, of, now_ms)))
            await until(lambda: once.hits, "the first script to be on its way")
            answers = [await ask_one(other, op_of(overtaking, of, now_ms)), await asking]
        assert [answer.word for answer in reversed(answers)] == words
        assert await world.stands() == stands

    asyncio.run(main())


def test_of_two_calls_that_overtake_each_other_the_one_that_arrives_first_gets_the_room(
    world: RedisWorld, proxy: Proxy
) -> None:
    async def main() -> None:
        of, now_ms = world.plan("200 tokens/total"), world.now_ms()
        async with world.opened() as one, world.opened() as other:
            first, second = swapped()
            proxy.faults = once = Once(first, second)
            asking = asyncio.create_task(ask_one(one, op_of("reserve", of, now_ms, "a")))
            await until(lambda: once.hits, "the first script to be on its way")
            assert (await ask_one(other, op_of("reserve", of, now_ms, "b"))).word == "granted"
            assert (await asking).word == "refused"
        assert await world.stands() == {TOKENS: (0, 150)}

    asyncio.run(main())


@pytest.mark.parametrize("fault", [CUT_BEFORE, CUT_AFTER, CUT_MIDDLE, LOSE_REPLY])
@pytest.mark.parametrize("place", [0, 1], ids=["the first", "the second"])
def test_of_two_scripts_in_a_round_trip_either_may_be_cut_off(
    world: RedisWorld, proxy: Proxy, fault: Fault, place: int
) -> None:
    async def main() -> None:
        of, now_ms = world.plan("20k tokens/total"), world.now_ms()
        async with world.opened(TIMEOUT_MS) as store:
            proxy.faults = once = Once(*[PASS] * place, fault)
            answers = await ask(store, *[op_of("reserve", of, now_ms, f"r{number}") for number in range(100)])
        assert len(once.hits) == place + 1
        assert {answer.word for answer in answers} <= {"granted", "replayed"}
        assert await world.stands() == {TOKENS: (0, 15_000)}

    asyncio.run(main())
