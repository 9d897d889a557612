"""A disk that hangs does not hang its callers."""

from __future__ import annotations

import asyncio
import threading

import pytest
from store_kit import NOON_MS, amounts, ask_one, plan, reserve, stands

from budgetguard.errors import StoreAway
from budgetguard.stores.sqlite import SQLiteStore
from budgetguard.testing.clock import FakeClock


class HangingClock(FakeClock):
    """Hangs the store's thread, as a disk that does not answer would."""

    def __init__(self, start_ms: int) -> None:
        super().__init__(start_ms)
        self.answers = threading.Event()
        self.answers.set()

    def now_ms(self) -> int:
        self.answers.wait(timeout=60)
        return super().now_ms()


def test_a_store_that_hangs_is_told_as_away_and_serves_again_when_it_answers() -> None:
    async def scenario() -> None:
        clock = HangingClock(NOON_MS)
        store = SQLiteStore(":memory:", timeout_ms=1, clock=clock)
        total = plan("1M tokens/total")
        await store.open()
        clock.answers.clear()
        with pytest.raises(StoreAway, match="did not answer"):
            await ask_one(store, reserve("r", total, amounts(5)))
        clock.answers.set()
        # Away says that the outcome is not known: it was applied, and a repeat says so.
        assert (await ask_one(store, reserve("r", total, amounts(5)))).word == "replayed"
        assert await stands(store) == {"all tokens/total": (0, 5)}
        await store.aclose()

    asyncio.run(scenario())
