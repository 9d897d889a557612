"""Accounts of Redis, rebuilt from the ledger after their state was lost."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from pathlib import Path

import pytest
from doctor_kit import History, Sums, drained, flush, looked, made_ledger, rebuilt, store_of, sums
from lua_raw import seed_of
from redis_kit import RedisServer
from store_kit import NOON_MS, amounts, ask_one, plan, reserve

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
