"""Keys that somebody else has written over: only what needs them is refused, by the key's name; nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf, nan
from typing import Any

import pytest
from lua_raw import Raw, operation_tree, plan_tree, replaced
from redis_kit import RedisServer
from store_kit import amounts, expire, extend, grow, plan, release, reserve, settle

from budgetguard.stores.redis.batches import PLAN as PLAN_AT
from budgetguard.stores.redis.keys import digest_of
from budgetguard.stores.redis.operations import Announce
from budgetguard.stores.redis.plans import pack, unpack, unpack_all
from budgetguard.stores.redis.reading import ACCOUNT

LIMITS = ("9000 tokens/hour", "$9/rolling 1 hour", "500 requests/total", "50 concurrent")
PLAN = plan(*LIMITS, alert_levels=(7, 400))
OTHER, NEW = plan(*LIMITS, name="other"), plan(*LIMITS, name="new")
ESTIMATE = amounts(10, 5, 100)
NO_DOUBLES = (nan, inf, -inf, -1, 2.0**53, 2.0**60)
NO_TEXTS: tuple[Any, ...] = (nan, 7, True, None, [], {})
NO_NUMBERS: tuple[Any, ...] = (nan, inf, -1, 1.5, 2**53, 2**60, "12", True, None, [], [7], {1: 5})
TYPES = {
    "list": ("RPUSH", "x"), "set": ("SADD", "x"), "hash": ("HSET", "x", "1"), "zset": ("ZADD", "1", "x"),
    "stream": ("XADD", "*", "x", "1"), "string": ("SET", "x"), "number": ("SET", "17"), "empty": ("SET", ""),
}  # fmt: skip
ENDED = {
    "settled": settle("ended", PLAN, ESTIMATE),
    "assumed": settle("ended", PLAN, ESTIMATE, status="assumed"),
    "released": release("ended"),
    "expired": expire("ended"),
}
ACCOUNTS = [digest_of(claim.account.key) for claim in PLAN.claims]
ON_HELD = [
    reserve("held", PLAN, ESTIMATE), grow("held", PLAN, amounts(90)), extend("held", 900_000),
    settle("held", PLAN, ESTIMATE), expire("held"), release("held"),
]  # fmt: skip
BESIDE = [settle("beside", OTHER, ESTIMATE, ESTIMATE), reserve("new beside", OTHER, ESTIMATE)]
NEEDS_ACCOUNTS = [*ON_HELD[1:4], release("held"), reserve("new", PLAN, ESTIMATE), settle("lost", PLAN, ESTIMATE)]


@pytest.fixture
def raw(redis_server: RedisServer, namespace: str) -> Iterator[Raw]:
    """A namespace with two open reservations on one plan, and one on another."""
    with Raw(redis_server, namespace) as made:
        begun = [reserve(id, PLAN, ESTIMATE, lease_ms=0) for id in ("held", "ended")]
        made.begin([plan_tree(PLAN), plan_tree(OTHER)], [*trees(*begun), *trees(reserve("beside", OTHER, ESTIMATE))])
        yield made


def trees(*ops: Any) -> list[Any]:
    """Operations as they are sent; PLAN is the first plan, OTHER the second."""
    return [operation_tree(op, 2 if getattr(op, "plan", None) is OTHER else 1) for op in ops]


def damaged_account(value: bytes) -> Iterator[bytes]:
    """What may stand instead of an account's record: it is cut short, or one of its numbers is none."""
    yield from (value[:length] for length in range(len(value)))
    numbers, rest = list(ACCOUNT.unpack(value[: ACCOUNT.size])), value[ACCOUNT.size :]
    yield from (b"\xc1" + value, value[: ACCOUNT.size] + b"\x05", b"\xff" * len(value))
    for place in range(len(numbers)):
        for number in (*NO_DOUBLES, 1.5)[: None if place < 2 else -1]:  # a fraction of an instant does no harm
            yield ACCOUNT.pack(*replaced(numbers, (place,), number)) + rest
    slots = unpack(rest) if rest else []
    for place in range(len(slots)):
        for number in NO_NUMBERS:
            yield value[: ACCOUNT.size] + pack(replaced(slots, (place,), number))


def damaged_reservation(value: bytes) -> Iterator[bytes]:
    """The same of a reservation's; or a text of it is none."""
    yield from (value[:length] for length in range(len(value)))
    yield from (b"\xc1" + value, pack(unpack_all(value)), b"\xff" * 40)
    fields = unpack_all(value)
    for place, field in enumerate(fields):
        paths = [(place, at) for at in range(len(field))] if isinstance(field, list) else [(place,)]
        for path in paths:
            for number in NO_NUMBERS if path[1:] or isinstance(field, int) else NO_TEXTS:
                yield b"".join(map(pack, replaced(fields, path, number)))
    if fields[0] == b"held":  # else not everything needs the plan
        for text in (b"\xc1", b"\x92\x01", pack([1, "content", 7]), pack([1, "content", []]), pack([2, "content"])):
            yield b"".join(map(pack, replaced(fields, (PLAN_AT,), text)))


def check(raw: Raw, key: bytes, needing: list[Any]) -> str:
    """What is wrong if these operations are asked, and others beside, while `key` is as it is now."""
    before = raw.dumps()
    ops = trees(*needing, *BESIDE)
    touched = raw.touched([plan_tree(PLAN), plan_tree(OTHER)], [op for op in ops if op[0] != "announce"])
    reply = raw.ask(raw.batch([plan_tree(PLAN), plan_tree(OTHER)], ops, touched))
    if isinstance(reply, Exception):
        return str(reply)
    answers = reply[-1]
    if answers[: len(needing)] != [[b"broken", key]] * len(needing):
        return f"{answers[: len(needing)]}"
    after = raw.dumps()
    mine = [name for name in before if name.startswith(raw.keys.prefix.encode() + b"h:") or name == key]
    mine += [raw.keys.account(digest) for digest in ACCOUNTS]
    changed = [name for name in mine if b"beside" not in name and after.get(name) != before.get(name)]
    done = [answer[0] for answer in answers[len(needing) :]] == [b"settled", b"granted"]
    return f"changed: {changed}" if changed else "" if done else f"beside: {answers[len(needing) :]}"


@pytest.mark.parametrize("number", range(len(ACCOUNTS)), ids=LIMITS)
def test_a_damaged_account_refuses_what_needs_it_and_nothing_else(raw: Raw, number: int) -> None:
    raw.again()
    key = raw.keys.account(ACCOUNTS[number])
    needing = [*NEEDS_ACCOUNTS, expire("held"), Announce((PLAN.claims[number].account, 3_000))]
    faults = []
    for value in damaged_account(raw.link.get(key)):
        raw.again()
        raw.link.set(key, value, keepttl=True)
        faults += [f"{value!r}: {fault}"] if (fault := check(raw, key, needing)) else []
    assert faults == []


@pytest.mark.parametrize("state", ["held", *ENDED])
def test_a_damaged_reservation_refuses_what_needs_it_and_nothing_else(raw: Raw, state: str) -> None:
    raw.again()
    id = "held" if state == "held" else "ended"
    if state != "held":
        assert raw.ask(raw.batch([plan_tree(PLAN)], trees(ENDED[state])))[0] == b"ok"
    key = raw.keys.hold(id)
    needing = [op._replace(id=id) for op in ON_HELD]
    faults = []
    for value in damaged_reservation(raw.link.get(key)):
        raw.again()
        raw.link.set(key, value, keepttl=True)
        faults += [f"{value!r}: {fault}"] if (fault := check(raw, key, needing)) else []
    assert faults == []


@pytest.mark.parametrize("kind", TYPES)
def test_a_key_of_another_type_refuses_what_needs_it_and_nothing_else(raw: Raw, kind: str) -> None:
    command, *arguments = TYPES[kind]
    faults = []
    keys = {raw.keys.hold("held"): ON_HELD, raw.keys.account(ACCOUNTS[1]): NEEDS_ACCOUNTS}
    for key, needing in keys.items():
        raw.again()
        raw.link.delete(key)
        raw.link.execute_command(command, key, *arguments)
        raw.link.expire(key, 1_000)
        faults += [fault] if (fault := check(raw, key, needing)) else []
    assert faults == []


CHANGE = [
    *NEEDS_ACCOUNTS, *BESIDE, expire("held"), reserve("new too", NEW, ESTIMATE), release("never"),
    Announce((PLAN.claims[0].account, 3_000)),
]  # fmt: skip
WRITES = {
    "open": {"Reserve", "Settle", "Release", "Grow", "Extend", "Expire", "Announce"},
    "index": {"Expire"},  # whoever sweeps may not know the accounts; of new ones see below
    "outbox": {"Settle", "Expire", "Reserve"},
}  # fmt: skip


@pytest.mark.parametrize("name", WRITES)
def test_a_structure_of_another_type_refuses_what_writes_it_and_nothing_is_half_done(raw: Raw, name: str) -> None:
    key, faults = raw.keys.prefix.encode() + name.encode(), []
    own = {"open": "zset", "index": "hash", "outbox": "stream"}[name]
    for op in CHANGE:
        of = NEW if getattr(op, "plan", None) is NEW else PLAN
        plans = [plan_tree(of), plan_tree(OTHER)]
        call = raw.batch(plans, trees(op), raw.touched([*plans, plan_tree(PLAN)], trees(op)))
        raw.again()
        assert raw.ask(call)[0] == b"ok"
        whole = {name: value for name, value in raw.picture().items() if name != key}
        for kind in TYPES.keys() - {own}:
            raw.again()
            raw.link.delete(key)
            command, *arguments = TYPES[kind]
            raw.link.execute_command(command, key, *arguments)
            raw.link.expire(key, 1_000)
            before, reply = raw.dumps(), raw.ask(call)
            is_needed = type(op).__name__ in WRITES[name] or (name == "index" and of is NEW)
            if is_needed != (isinstance(reply, Exception) or reply[-1][0] == [b"broken", key]):
                faults.append(f"{kind}, {op}: {reply}")
            after = {name: value for name, value in raw.picture().items() if name != key}
            if raw.dumps() != before if is_needed else after != whole:
                faults.append(f"{kind}, {op}: {reply} and changes")
    assert faults == []
