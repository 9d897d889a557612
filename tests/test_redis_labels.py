"""Hostile labels, ids and namespaces on Redis: no two share a key, a namespace is one slot, and all are found again."""

from __future__ import annotations

import asyncio
import contextlib
import glob
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from redis_kit import MISSING, RedisServer, has_redis
from store_kit import NOON_MS, amounts, ask_one, claims, reserve

from budgetguard.core.grammar import parse_limit
from budgetguard.core.model import Account, Claim, Plan
from budgetguard.stores.redis import RedisStore
from budgetguard.stores.redis.keys import Keys
from budgetguard.stores.redis.plans import SentPlan
from budgetguard.testing.clock import FakeClock

TEXTS = (
    "a", "A", "b", "a:b", "b:c", "c", ":", "::", " ", "  ", "a ", "{", "}", "{}", "}{", "{a}", "a}b{c",
    "%7B", "%", "%257B", "\0", "a\0", "\0a", "\n", "\r\n", "a\nb", "\x1b[31m",
    "\u202e\u05d0\u05d1\u05d2abc", "\u05d0", "\u200b", "\ufeff", "\u0430", "\xe9", "e\u0301", "\ud55c",
    "\u1112\u1161\u11ab", "K", "\u212a", "\U0001f600", "*", "?", "a*", "[a]", "[!a]", "[a-z]", "\\", "\\*", '"',
    '["a",', "null", "(none)", "x" * 512, "x" * 511, "\xe9" * 256, "*" * 512, "../..", "$1", "'", "|", "#",
)  # fmt: skip
ESTIMATE = amounts(3, 2)


@pytest.fixture(scope="module")
def slots() -> Iterator[RedisServer]:
    """A server that can tell the slot of a key."""
    if not has_redis():
        pytest.skip(MISSING)
    with RedisServer(cluster_enabled="yes") as server:
        yield server


def keys_of(keys: Keys, plan: Plan, *ids: str) -> list[bytes]:
    """Every key that calls with these ids on this plan touch."""
    accounts = SentPlan(plan, keys).keys
    return [keys.meta, keys.open, keys.index, keys.outbox, *accounts, *map(keys.hold, ids)]


def plan_of(**labels: str | None) -> Plan:
    """A plan on accounts of these labels."""
    limits = ("9 requests/total", "900 tokens/rolling 1 hour")
    return Plan(claims(f"by {' '.join(labels)}", limits, NOON_MS, tuple(labels.items())))


def test_no_two_labels_budgets_or_namespaces_share_a_key() -> None:
    """Pairs of labels too: "a:b" and "c" are not "a" and "b:c"."""
    total = parse_limit("9 requests/total", "UTC").period
    pairs = [(("x", one), ("y", other)) for one, other in itertools.product((*TEXTS, None), repeat=2)]
    accounts = [Account("b", per, "requests", total) for per in pairs]
    accounts += [Account("b", ((name, "v"),), "requests", total) for name in TEXTS]
    accounts += [Account(name, per, "requests", total) for name in TEXTS for per in ((), (("x", None),))]
    plan = Plan(tuple(Claim(account, 9) for account in accounts))
    found = keys_of(Keys("n"), plan, *TEXTS)
    assert len(set(found)) == len(found) == 4 + len(accounts) + len(TEXTS)
    found = [key for text in TEXTS for key in keys_of(Keys(text), plan_of(x="a"), *TEXTS)]
    assert len(set(found)) == len(found)


def test_a_namespace_is_one_slot_whatever_its_name_and_ids(slots: RedisServer) -> None:
    for name in TEXTS:
        keys = keys_of(Keys(name), plan_of(x=name), name, "{", "}", "{}x")
        assert len({slots.ask("CLUSTER", "KEYSLOT", key) for key in keys}) == 1, name


def test_every_label_has_its_own_account_and_is_found_by_it(redis_server: RedisServer, namespace: str) -> None:
    async def run() -> None:
        async with opened(redis_server, namespace) as store:
            for number, text in enumerate(TEXTS):
                asked = ESTIMATE._replace(requests=number % 5 + 1)
                answer = await ask_one(store, reserve(text, plan_of(x=text), asked, x=text, y="same"))
                assert answer.word == "granted"
            for number, text in enumerate(TEXTS):
                pattern = {"x": glob.escape(text)}
                page = await store.read_accounts(labels=pattern)
                assert {(*row.account.per, row.account.unit, row.reserved) for row in page.rows} == {
                    (("x", text), "requests", number % 5 + 1), (("x", text), "tokens", 5)
                }  # fmt: skip
                held = await store.read_holds(labels=pattern)
                assert [(row.id, row.labels) for row in held.rows] == [(text, {"x": text, "y": "same"})]
                assert {account.subject["x"] for account in held.rows[0].accounts} == {text}
            assert len((await store.read_accounts(budget="by x")).rows) == 2 * len(TEXTS)
            assert len((await store.read_holds(labels={"y": "same"})).rows) == len(TEXTS)

    asyncio.run(run())


def test_every_namespace_has_its_own_state(redis_server: RedisServer, namespace: str) -> None:
    """Each is a part of another's name, and what one has spent no other knows of."""
    texts = TEXTS[:24] + TEXTS[-10:]

    async def run() -> None:
        async with contextlib.AsyncExitStack() as stack:
            stores = [await stack.enter_async_context(opened(redis_server, namespace + text)) for text in texts]
            for number, store in enumerate(stores):
                asked = ESTIMATE._replace(tokens=number + 1)
                assert (await ask_one(store, reserve("r", plan_of(x="v"), asked))).word == "granted"
            for number, store in enumerate(stores):
                page = await store.read_accounts()
                found = {(row.account.unit, row.reserved) for row in page.rows}
                assert found == {("requests", 1), ("tokens", number + 1)}
                assert [(row.id, row.estimate.tokens) for row in (await store.read_holds()).rows] == [("r", number + 1)]

    asyncio.run(run())


@contextlib.asynccontextmanager
async def opened(server: RedisServer, namespace: str) -> Any:
    """A store whose clock stands still."""
    store = RedisStore(server.url, namespace, clock=FakeClock(NOON_MS))
    try:
        yield store
    finally:
        await store.aclose()
