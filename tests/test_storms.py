"""Storms: many processes on one store, killed and stopped at random, and afterwards the books agree to the last token.

Each storm prints its seed; `STORM_SEED` runs that one again.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from storm_books import Books
from storm_kit import SEED, Storm
from storm_stores import InFile
from storm_world import CALLS, MODEL, PROVIDER_PRICE

from budgetguard.testing import FakeProvider

LONG_STORMS = 25


def test_nothing_is_overspent_or_lost_whoever_is_killed(tmp_path: Path) -> None:
    """And the storm has power: processes die with billed calls, budgets refuse, and check-then-act overspends in it."""
    storm = Storm(tmp_path, InFile(tmp_path), SEED, 8, 200, witness="", kills=6, stops=1, latest=40)
    guessed = storm.check(asyncio.run(storm.run()))
    assert storm.fleet.spooled == 0, "workers that ended left operations in the spool"
    assert len(storm.fleet.killed) >= 3 and guessed
    assert storm.fleet.ids["refused"] and storm.looks >= 3
    assert storm.witness_overspent()


def test_a_storm_through_the_openai_client_agrees_with_the_servers_bill(tmp_path: Path) -> None:
    async def scenario() -> tuple[Storm, Books]:
        prices = {MODEL: PROVIDER_PRICE}
        async with FakeProvider(prices, bill_path=tmp_path / "bill.jsonl", latency_ms=20) as provider:
            storm = Storm(
                tmp_path, InFile(tmp_path), SEED, 2, 40, calls=CALLS, base_url=provider.base_url,
                kills=2, stops=0, latest=15,
            )  # fmt: skip
            books = await storm.run()
            assert [call.request_id for call in provider.bill] == [call.request_id for call in storm.bill()]
            return storm, books

    storm, books = asyncio.run(scenario())
    storm.check(books)
    assert storm.fleet.spooled == 0
    assert storm.fleet.killed and books.statuses["expired"]


@pytest.mark.long
@pytest.mark.parametrize("number", range(LONG_STORMS))
def test_nothing_is_overspent_or_lost_in_many_storms(tmp_path: Path, number: int) -> None:
    storm = Storm(tmp_path, InFile(tmp_path), SEED + number, 8, 200, witness="", kills=16, stops=2, latest=40)
    storm.check(asyncio.run(storm.run()))
    assert storm.fleet.spooled == 0
    assert len(storm.fleet.killed) >= 5
