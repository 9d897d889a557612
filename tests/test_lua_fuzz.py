"""Whatever is packed into a script's argument or said in KEYS: nothing invalid is admitted, nothing is half written.

Every case starts from the same state, on a real Redis; the operations beside the damaged one are done as if it were
not there.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from math import inf, nan
from typing import Any

import pytest
from lua_raw import Raw, Tree, changed, numbers_in, operation_tree, plan_tree, replaced, seed_of
from redis import ResponseError
from redis_kit import RedisServer
from store_kit import amounts, expire, extend, grow, plan, release, reserve, settle

from budgetguard.core.amounts import MAX_AMOUNT
from budgetguard.stores.redis.operations import Announce
from budgetguard.stores.redis.plans import pack, unpack
from budgetguard.stores.redis.reading import balance_from

LIMITS = ("9000 tokens/hour", "$9/rolling 1 hour", "500 requests/total", "50 concurrent")
PLAN = plan(*LIMITS, alert_levels=(7, 400))
HOSTILE: tuple[Any, ...] = (
    nan, inf, -1, -0.5, 1.5, 5e-324, 2**53, 2**63, 2**64 - 1, 1e300, "12", " 12 ", "0x10",
    "1e3", "nan", "", True, False, None, [], [5], [None], {}, {1: 5},
)  # fmt: skip
ASKED = {
    "reserve": reserve("new", PLAN, amounts(10, 5, 100)),
    "settle": settle("held", PLAN, amounts(12, 5, 90), amounts(10, 5, 100)),
    "settle unknown": settle("lost", PLAN, amounts(12, 5, 90), amounts(10, 5, 100)),
    "release": release("held"),
    "release unknown": release("never"),
    "grow": grow("held", PLAN, amounts(20, 9, 300)),
    "extend": extend("held", 900_000),
    "expire": expire("held"),
    "announce": Announce((PLAN.claims[0].account, 3_000)),
}
GOOD, FUZZED = 1, 2
"""The numbers under which the plan is sent: to the operations beside, and to the one that is damaged."""
BEFORE = [operation_tree(reserve("first", PLAN, amounts(3, 2, 7)), GOOD)]
AFTER = [
    operation_tree(settle("first", PLAN, amounts(3, 1, 6), amounts(3, 2, 7)), GOOD),
    operation_tree(reserve("second", PLAN, amounts(1, 1, 1)), GOOD),
]
NOT_DONE = {
    b"invalid", b"broken", b"undeclared", b"failed", b"refused", b"replayed", b"conflict", b"finished", b"voided",
    b"unknown", b"too_old", b"clock", b"stale_window", b"not_due", b"no", b"untold",
}  # fmt: skip


@pytest.fixture
def raw(redis_server: RedisServer, namespace: str) -> Iterator[Raw]:
    """A namespace with a reservation that is held, one that is settled, and so all its structures."""
    with Raw(redis_server, namespace) as made:
        begun = [operation_tree(reserve(id, PLAN, amounts(10, 5, 100)), GOOD) for id in ("held", "old")]
        begun.append(operation_tree(settle("old", PLAN, amounts(10, 5, 100)), GOOD))
        made.begin([plan_tree(PLAN)], begun)
        yield made


def hostile() -> Iterator[tuple[str, Tree, Tree]]:
    """Every operation with every number in it, or in its plan, replaced by what is none; and the plan."""
    plain = plan_tree(PLAN)
    for name, asked in ASKED.items():
        op = operation_tree(asked, FUZZED)
        for path in numbers_in(op):
            for value in HOSTILE:
                yield f"{name}{list(path)} = {value!r}", replaced(op, path, value), plain
        for path in numbers_in(plain) if hasattr(asked, "plan") else ():
            for value in HOSTILE:
                if not is_sound_in_plan(path, value):
                    yield f"{name}, plan{list(path)} = {value!r}", op, replaced(plain, path, value)


def is_sound_in_plan(path: tuple[int, ...], value: Any) -> bool:
    """-1 is a window that does not end, also where its bits are told as 2^64 - 1; a last level may be `true`, which is
    the limit itself, or be left out."""
    return (path == (2,) and value in (-1, 2**64 - 1)) or (path[0] == 0 and path[-1] == 7 and value in (None, True))


def test_a_number_that_is_none_is_invalid_and_only_its_own_operation_is_not_done(raw: Raw) -> None:
    raw.again()
    plain = plan_tree(PLAN)
    alone = raw.ask(raw.batch([plain, plain], [*BEFORE, *AFTER]))
    picture, cases, faults = raw.picture(), 0, []
    for cases, (name, op, of) in enumerate(hostile(), 1):  # noqa: B007 - counted
        raw.again()
        reply = raw.ask(raw.batch([plain, of], [*BEFORE, op, *AFTER]))
        if isinstance(reply, Exception) or reply[-1][1][0] not in (b"invalid", b"failed"):
            faults.append(f"{name}: {reply}")
        elif [*reply[:-1], [reply[-1][0], *reply[-1][2:]]] != alone or raw.picture() != picture:
            faults.append(f"{name}: the others")
    assert faults == []
    assert cases > 3_000


@pytest.mark.parametrize("place", [0, 1, 2, 4])
def test_nothing_is_done_for_a_caller_whose_schema_incarnation_clock_or_outbox_is_none(raw: Raw, place: int) -> None:
    raw.again()
    before = raw.dumps()
    call = raw.batch([plan_tree(PLAN)], BEFORE)
    for value in HOSTILE:
        reply = raw.ask(call._replace(argument=pack(replaced(unpack(call.argument), (place,), value))))
        assert nothing_done(reply) and raw.dumps() == before, (value, reply)
    assert raw.ask(call)[-1][0][0] == b"granted"


def test_the_largest_numbers_leave_nothing_that_cannot_be_read(raw: Raw) -> None:
    """2^53 - 1 is an amount; as a lease, a window or a span it would bring instants that are none."""
    plain = plan_tree(PLAN)
    for name, asked in ASKED.items():
        op = operation_tree(asked, 1)
        cases = [(replaced(op, path, MAX_AMOUNT), plain) for path in numbers_in(op)]
        cases += [(op, replaced(plain, path, MAX_AMOUNT)) for path in numbers_in(plain) if hasattr(asked, "plan")]
        for tried, of in cases:
            raw.again()
            assert not isinstance(raw.ask(raw.batch([of], [tried])), Exception), (name, tried, of)
            assert_readable(raw, of)


def nothing_done(reply: Any) -> bool:
    """Whether a script did nothing, going by what it says."""
    return isinstance(reply, Exception) or reply[0] != b"ok" or {answer[0] for answer in reply[-1]} <= NOT_DONE


def assert_readable(raw: Raw, of: Tree) -> None:
    """No account and no reservation is broken: a next operation reads them all."""
    picture = raw.picture()
    for key, value in picture.items():
        if key.startswith(raw.keys.account(b"")):
            balance_from(value)
    ids = [key.removeprefix(raw.keys.hold("")).decode() for key in picture if key.startswith(raw.keys.hold(""))]
    reply = raw.ask(raw.batch([of], [operation_tree(release(id), 1) for id in ids], touched=list(picture)))
    assert not {answer[0] for answer in reply[-1]} & {b"broken", b"failed", b"invalid"}, reply


def test_an_argument_that_is_cut_doubled_or_not_packed_does_nothing_or_what_it_says_once(raw: Raw) -> None:
    raw.again()
    before = raw.dumps()
    call = raw.batch([plan_tree(PLAN)], [*BEFORE, *AFTER])
    whole = call.argument
    deep = [b"\x91" * 200_000, b"\x91" * 1_000 + b"\x01", b"\xdd\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"]
    not_packed = [b"", b"\xc1", b"nan", b"{}", pack(17), pack("batch"), pack([]), pack({}), pack(None), *deep]
    for argument in [whole[:length] for length in range(len(whole))] + not_packed:
        reply = raw.ask(call._replace(argument=argument))
        assert isinstance(reply, Exception) or reply[0] == b"schema", argument
    assert raw.dumps() == before
    for arguments in ((), (b"", whole)):
        with pytest.raises(ResponseError):
            raw.send("EVAL", call.of.body, call.keys, *arguments)
    assert raw.dumps() == before
    once = raw.ask(call), raw.picture()
    raw.again()
    assert (raw.ask(call._replace(argument=whole * 2)), raw.picture()) == once
    raw.again()
    assert unpack(raw.send("EVAL", call.of.body, call.keys, whole, whole)) == once[0]


def test_keys_that_are_missing_are_asked_for_and_further_keys_are_left_alone(raw: Raw) -> None:
    plain = plan_tree(PLAN)
    strangers = {b"": b"x", b"elsewhere": b"\xc1", raw.keys.hold("elsewhere"): b"\xc1", raw.keys.account(b"x"): b"1"}
    for op in (operation_tree(asked, 1) for asked in ASKED.values()):
        call = raw.batch([plain], [op])
        raw.again()
        before, done = raw.dumps(), (raw.ask(call), raw.picture())
        for place in range(len(call.keys)):
            raw.again()
            reply = raw.ask(call._replace(keys=[*call.keys[:place], *call.keys[place + 1 :]]))
            is_needed = nothing_done(reply) and raw.dumps() == before
            assert is_needed or (place > 4 and (reply, raw.picture()) == done), (op, place, reply)
        raw.again()
        raw.link.mset(strangers)
        assert raw.ask(call._replace(keys=[*call.keys, *strangers, *call.keys[4:]])) == done[0]
        assert raw.link.mget(strangers) == list(strangers.values())
        raw.link.delete(*strangers)
        assert raw.picture() == done[1]


def test_whatever_is_asked_is_done_wholly_or_not_at_all(raw: Raw, request: pytest.FixtureRequest) -> None:
    """Parts of requests are replaced, doubled, left out and exchanged, or bytes of them changed."""
    dice, done = random.Random(seed_of(request)), 0
    plain = plan_tree(PLAN)
    touched = raw.touched([plain], [operation_tree(asked, 1) for asked in ASKED.values()])
    for _ in range(1_200):
        op, of = operation_tree(dice.choice(list(ASKED.values())), 1), plain
        for _ in range(dice.choice((1, 1, 2, 5))):
            op, of = (changed(op, dice, HOSTILE), of) if dice.random() < 0.5 else (op, changed(of, dice, HOSTILE))
        raw.again()
        before = raw.dumps()
        call = raw.batch([of], [op], touched)
        argument = bytearray(call.argument)
        for _ in range(dice.choice((0, 0, 1, 3))):
            argument[dice.randrange(len(argument))] = dice.randrange(256)
        reply = raw.ask(call._replace(argument=bytes(argument)))
        if nothing_done(reply):
            assert raw.dumps() == before, (op, of, reply)
        else:
            done += 1
            assert_readable(raw, plain)
    assert done > 100
