"""A running store learns that somebody else has accepted the loss of its state."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from store_kit import NOON_MS, amounts, ask_one, plan, reserve, stands

from budgetguard.errors import StateLost
from budgetguard.stores.sqlite import SQLiteStore
from budgetguard.testing.clock import FakeClock

TOTAL = plan("1M tokens/total")


def remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def test_a_loss_that_another_process_accepts_is_accepted_by_all_but_the_next_one_is_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        path, clock = tmp_path / "store.db", FakeClock(NOON_MS)
        running = SQLiteStore(str(path), clock=clock)
        await ask_one(running, reserve("r", TOTAL, amounts(5)))
        remove(path)
        made_anew = SQLiteStore(str(path), clock=clock)
        await made_anew.open()
        with pytest.raises(StateLost):
            await ask_one(running, reserve("s", TOTAL, amounts(1)))
        await made_anew.open(accept_loss=True)
        assert (await ask_one(running, reserve("s", TOTAL, amounts(1)))).word == "granted"
        assert await stands(made_anew) == {"all tokens/total": (0, 1)}
        await made_anew.aclose()
        remove(path)
        again = SQLiteStore(str(path), clock=clock)
        await again.open()
        with pytest.raises(StateLost):
            await ask_one(running, reserve("t", TOTAL, amounts(1)))
        await again.aclose()
        await running.aclose()

    asyncio.run(scenario())
