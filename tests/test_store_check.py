"""`check_store` passes our stores, and says of a broken one which rule it breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from redis_kit import RedisServer

from budgetguard.core.amounts import MAX_AMOUNT
from budgetguard.core.model import Account, Plan
from budgetguard.core.verbs import Settlement
from budgetguard.store import Clock, Page
from budgetguard.stores.redis import RedisStore
from budgetguard.stores.sqlite import SQLiteStore
from budgetguard.testing import StoreContractBroken, check_store

SEED = 20261122
PATIENT_MS = 60_000
"""A process that is stopped for three seconds, as on a busy machine, has found its own thread to hang."""


def in_memory(clock: Clock) -> SQLiteStore:
    return SQLiteStore(":memory:", timeout_ms=PATIENT_MS, clock=clock)


def test_the_sqlite_store_keeps_the_contract() -> None:
    asyncio.run(check_store(in_memory))


def test_the_redis_store_keeps_the_contract(redis_server: RedisServer, namespace: str) -> None:
    made = []

    def factory(clock: Clock) -> RedisStore:
        made.append(clock)
        return RedisStore(redis_server.unix_url, f"{namespace}-{len(made)}", 20_000, clock)

    asyncio.run(check_store(factory, operations=1_200))
    assert len(made) == 3


class Broken(SQLiteStore):
    """A right store, until a subclass breaks one of its rules."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(":memory:", timeout_ms=PATIENT_MS, clock=clock)
        self.clock = clock


class Overspends(Broken):
    async def reserve(self, ops: Sequence[Any]) -> Any:
        return [
            v._replace(word="granted", violations=()) if v.word == "refused" else v for v in await super().reserve(ops)
        ]


class HoldsWhatItRefuses(Broken):
    async def reserve(self, ops: Sequence[Any]) -> Any:
        answers = await super().reserve(ops)
        for op, answer in zip(ops, answers, strict=True):
            if answer.word == "refused":
                boundless = tuple(replace(claim, limit=MAX_AMOUNT) for claim in op.plan.claims)
                await super().reserve([op._replace(id=f"part-{op.id}", plan=Plan(boundless))])
        return answers


class ForgetsTheViolations(Broken):
    async def reserve(self, ops: Sequence[Any]) -> Any:
        return [verdict._replace(violations=verdict.violations[:1]) for verdict in await super().reserve(ops)]


class ChargesTwice(Broken):
    async def settle(self, ops: Sequence[Any]) -> Any:
        answers = await super().settle(ops)
        again = [op._replace(id=f"again-{op.id}") for op, a in zip(ops, answers, strict=True) if a.word == "replayed"]
        if again:
            await super().settle(again)
        return answers


class LosesLateSettles(Broken):
    async def settle(self, ops: Sequence[Any]) -> Any:
        return [
            answer._replace(word="finished") if answer.word == "late" else answer
            for answer in await super().settle(ops)
        ]


class KeepsNoTombstones(Broken):
    async def release(self, ops: Sequence[Any]) -> Any:
        known = {row.id for row in (await self.read_holds()).rows}
        answers = await super().release([op for op in ops if op.id in known])
        found = dict(zip([op.id for op in ops if op.id in known], answers, strict=True))
        missing = Settlement("tombstone", self.clock.now_ms())
        return [found.get(op.id, missing) for op in ops]


class GrowsNothing(Broken):
    async def grow(self, ops: Sequence[Any]) -> Any:
        return await super().grow([op._replace(to=type(op.to)()) for op in ops])


class ExpiresTooSoon(Broken):
    async def expire(self, ops: Sequence[Any]) -> Any:
        return [
            answer._replace(word="expired") if answer.word == "not_due" else answer
            for answer in await super().expire(ops)
        ]


class AnswersInAnyOrder(Broken):
    async def reserve(self, ops: Sequence[Any]) -> Any:
        return (await super().reserve(ops))[::-1]


class SwallowsTheLast(Broken):
    async def extend(self, ops: Sequence[Any]) -> Any:
        return (await super().extend(ops))[: max(1, len(ops) - 1)]


class AlertsNobody(Broken):
    async def settle(self, ops: Sequence[Any]) -> Any:
        return [answer._replace(alerts=()) for answer in await super().settle(ops)]


class AnnouncesToAll(Broken):
    async def announce(self, levels: Sequence[tuple[Account, int]]) -> list[bool]:
        await super().announce(levels)
        return [True] * len(levels)


class HasItsOwnTime(Broken):
    async def extend(self, ops: Sequence[Any]) -> Any:
        return [answer._replace(now_ms=answer.now_ms + 1) for answer in await super().extend(ops)]


class SweepsTheYoungestFirst(Broken):
    async def due(self, most: int) -> list[str]:
        return (await super().due(1_000_000))[::-1][:most]


class ReadsOnePage(Broken):
    async def read_accounts(self, *args: Any, **options: Any) -> Any:
        return Page((await super().read_accounts(*args, **options)).rows, None)


class NeverEndsAPage(Broken):
    async def read_holds(self, *args: Any, **options: Any) -> Any:
        return (await super().read_holds(*args, **options))._replace(cursor="")


class IgnoresGlobs(Broken):
    async def read_holds(self, budget: str = "*", labels: Any = None, cursor: Any = None, most: int = 1) -> Any:
        return await super().read_holds("*", None, cursor, most)


class SeesNoBalance(Broken):
    async def read_balances(self, accounts: Sequence[Account]) -> Any:
        return [row._replace(reserved=0) for row in await super().read_balances(accounts)]


class LearnsAFlushTwice(Broken):
    async def note_outputs(self, flush_id: str, slice_ms: int, rows: Sequence[Any]) -> None:
        await super().note_outputs(flush_id, slice_ms, rows)
        await super().note_outputs(f"{flush_id} again", slice_ms, rows)


class LearnsInOneSlice(Broken):
    async def note_outputs(self, flush_id: str, slice_ms: int, rows: Sequence[Any]) -> None:
        await super().note_outputs(flush_id, 400 * 86_400_000, rows)


class ShowsTheOldestFirst(Broken):
    async def read_outputs(self, words: Sequence[str] | None = None, most: int = 1000) -> Any:
        return (await super().read_outputs(words, most))[::-1]


BROKEN: list[tuple[Callable[[Clock], Any], str]] = [
    (Overspends, "reserve of an id that is unknown answers 'refused'"),
    (HoldsWhatItRefuses, "a refused call changes no account|every account shows what was decided"),
    (ForgetsTheViolations, "a refusal names every limit that refused"),
    (ChargesTwice, "what changes nothing changes no account"),
    (LosesLateSettles, "settle of an id that is .* answers 'late'"),
    (KeepsNoTombstones, "release of an id that is .* answers"),
    (GrowsNothing, "grow of an id that is held answers"),
    (ExpiresTooSoon, "expire of an id that is held answers 'not_due'"),
    (AnswersInAnyOrder, "reserve of an id that is .* answers|every account shows|instant"),
    (SwallowsTheLast, "a batch has one answer for each operation"),
    (AlertsNobody, "an account's alert is told once"),
    (AnnouncesToAll, "announced to exactly one asker"),
    (HasItsOwnTime, "every answer carries the store's time"),
    (SweepsTheYoungestFirst, "the oldest first"),
    (ReadsOnePage, "read_accounts shows every account on which something stands"),
    (NeverEndsAPage, "the pages of a read come to an end"),
    (IgnoresGlobs, "read_holds shows the open reservations that match"),
    (SeesNoBalance, "every account shows what was decided"),
    (LearnsAFlushTwice, "outputs is added up, each flush once"),
    (LearnsInOneSlice, "in the slice of the store's time"),
    (ShowsTheOldestFirst, "the latest first"),
]


@pytest.mark.parametrize(("factory", "rule"), BROKEN, ids=[made.__name__ for made, _ in BROKEN])
def test_a_broken_store_is_told_which_rule_it_breaks(factory: Callable[[Clock], Any], rule: str) -> None:
    with pytest.raises(StoreContractBroken, match=rule) as broken:
        asyncio.run(check_store(factory, seed=SEED))
    assert f"repeat with check_store(factory, seed={SEED})" in broken.value.__notes__[0]
    with pytest.raises(StoreContractBroken) as again:
        asyncio.run(check_store(factory, seed=SEED))
    assert (str(again.value), again.value.__notes__) == (str(broken.value), broken.value.__notes__)
