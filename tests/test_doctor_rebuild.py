"""Accounts of Redis, rebuilt from the ledger after their state was lost."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing, closing
from pathlib import Path

import apsw
import pytest
from doctor_kit import History, Sums, drained, flush, looked, made_ledger, rebuilt, store_of, sums
from lua_raw import seed_of
from redis_kit import RedisServer
from redis_world import RedisWorld
from store_kit import NOON_MS, REPLAY_KEEP_MS, amounts, ask_one, expire, plan, release, reserve, settle

from budgetguard.core.amounts import Amounts
from budgetguard.core.verbs import EndStatus, Settle
from budgetguard.errors import StateLost
from budgetguard.testing.clock import FakeClock

PROBE = reserve("probe", plan("1 tokens/total", name="probe"), amounts(1))


@pytest.mark.parametrize("accepts", [False, True])
def test_after_any_history_a_rebuild_makes_what_was_lost_and_ledger_and_accounts_agree_ever_after(
    redis_server: RedisServer, namespace: str, request: pytest.FixtureRequest, tmp_path: Path, accepts: bool
) -> None:
    """Calls that were under way are settled afterwards, others settled once more: each is counted once.

    Also where the loss was accepted, and calls have gone on from nothing before anybody thought of the ledger.
    """
    dice = random.Random(seed_of(request))
    url, ledger, clock = redis_server.unix_url, f"sqlite:///{tmp_path}/ledger.db", FakeClock(NOON_MS)

    async def agree(history: History, operations: int) -> Sums:
        await history.go_on([dice.randbytes(8) for _ in range(operations)])
        look = await looked(url, namespace, ledger, clock)
        assert look.tally.differences(look.after) == []
        assert look.waiting and look.held and not look.moved()
        await drained(url, namespace, ledger)
        drained_look = await looked(url, namespace, ledger, clock)
        assert (drained_look.waiting, drained_look.tally.differences(look.after)) == (0, [])
        return {key: (spent, 0) for key, (spent, _) in sums(look.after, look).items() if spent}

    async def main() -> None:
        async with aclosing(store_of(url, namespace, clock)) as store:
            await store.open()
            history = History(store, clock)
            made_ledger(ledger)
            await agree(history, 150)
            before = await agree(history, 150)
            flush(redis_server, namespace)
            with pytest.raises(StateLost):
                await ask_one(store, PROBE)
            if accepts:
                await store.open(accept_loss=True)
                await history.go_on([dice.randbytes(8) for _ in range(60)])
                assert (await rebuilt(url, namespace, ledger, clock)).differences
                assert await agree(history, 200)
                return
            done = await rebuilt(url, namespace, ledger, clock)
            assert {found.account.key: (found.told_spent, 0) for found in done.differences} == before
            look = await looked(url, namespace, ledger, clock)
            assert sums(look.after, look) == before
            assert await agree(history, 200)

    asyncio.run(main())


def test_calls_that_have_ended_are_known_again_each_as_what_it_was(redis_world: RedisWorld, tmp_path: Path) -> None:
    """What is said of them once more is answered as if nothing had been lost, and the ledger keeps their labels."""
    url, namespace, ledger = redis_world.server.unix_url, redis_world.namespace, f"sqlite:///{tmp_path}/ledger.db"
    estimate, actual, other = amounts(100, 50, 7), amounts(60, 5, 3), amounts(1, 1, 1)

    async def main() -> None:
        store = store_of(url, namespace)
        now_ms = await store.open()
        of = redis_world.plan("9000 tokens/total", "900 tokens/rolling 1 hour", "$9/day")
        ids = ("settled", "assumed", "expired", "taken-back", "abandoned")
        for id in ids:
            assert (await ask_one(store, reserve(id, of, estimate, now_ms, lease_ms=1))).word == "granted"

        def ends(id: str, amount: Amounts, status: EndStatus = "settled") -> Settle:
            return settle(id, of, amount, estimate, status, admitted_ms=now_ms, tried_since_ms=now_ms)

        ops = [ends("settled", actual), ends("assumed", estimate, "assumed"), *map(expire, ids[2:])]
        assert [(await ask_one(store, op)).word for op in ops] == ["settled", "settled", *["expired"] * 3]
        await drained(url, namespace, ledger)
        flush(redis_world.server, namespace)
        assert (await rebuilt(url, namespace, ledger)).remembered == 5
        said = [
            ends("settled", actual), ends("settled", other), ends("settled", other, "assumed"),
            reserve("settled", of, estimate, now_ms), ends("assumed", estimate, "assumed"), ends("assumed", actual),
            ends("expired", actual), release("taken-back"), release("taken-back"), expire("abandoned"),
        ]  # fmt: skip
        assert [(await ask_one(store, op)).word for op in said] == [
            "replayed", "conflict", "finished", "finished", "replayed", "settled", "late", "released", "replayed",
            "replayed",
        ]  # fmt: skip
        look = await looked(url, namespace, ledger)
        assert look.tally.differences(look.after) == []
        assert {amount for amount, _ in sums(look.after, look).values()} == {3 * 65 + 150, 3 * 3 + 7}
        await drained(url, namespace, ledger)
        with closing(apsw.Connection(ledger.removeprefix("sqlite:///"))) as db:
            told = "SELECT reservation_id, revision, status, agent, model, expired_tokens FROM token_usage ORDER BY 1"
            assert list(db.execute(told)) == [
                ("abandoned", 1, "expired", "crawler", "gpt-4o-mini", 150),
                ("assumed", 2, "settled", "crawler", "gpt-4o-mini", 0),
                ("expired", 2, "late", "crawler", "gpt-4o-mini", 150),
                ("settled", 1, "settled", "crawler", "gpt-4o-mini", 0),
                ("taken-back", 2, "released", "crawler", "gpt-4o-mini", 150),
            ]
        await store.aclose()

    asyncio.run(main())


def test_what_an_uncounted_row_may_have_charged_is_not_taken_away(
    redis_server: RedisServer, namespace: str, tmp_path: Path
) -> None:
    """A settle that comes once more when it is forgotten: its row says that nobody knows, and names no account."""
    url, ledger, clock = redis_server.unix_url, f"sqlite:///{tmp_path}/ledger.db", FakeClock(NOON_MS)

    async def main() -> None:
        async with aclosing(store_of(url, namespace, clock)) as store:
            of = plan("9000 tokens/total")
            ops = [settle(id, of, amounts(7), tried_since_ms=NOON_MS) for id in ("a", "b")]
            held = [reserve(id, of, amounts(9)) for id in ("a", "b")]
            words = [(await ask_one(store, op)).word for op in (*held, *ops)]
            assert words == ["granted", "granted", "settled", "settled"]
            await drained(url, namespace, ledger)
            clock.advance(REPLAY_KEEP_MS + 1)
            assert (await ask_one(store, ops[0])).word == "uncounted"
            look = await looked(url, namespace, ledger, clock)
            (found,) = look.tally.differences(look.after)
            assert (found.spent, found.told_spent, found.whole) == (14, 7, False)
            await rebuilt(url, namespace, ledger, clock)
            look = await looked(url, namespace, ledger, clock)
            assert set(sums(look.after, look).values()) == {(14, 0)}

    asyncio.run(main())
