"""Storms: many processes on one store, killed and stopped at random, and afterwards the books agree to the last token.

Each storm prints its seed; `STORM_SEED` runs that one again.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from storm_books import GUESSED, Books, books_of, check_balance, check_bill, holds_of
from storm_fleet import Fleet, strikes_of, until
from storm_world import BUDGETS, MODEL, PROVIDER_PRICE, TEAM_TOKENS, storm_guard

from budgetguard.testing import BilledCall, FakeProvider, read_bill

SEED = int(os.environ.get("STORM_SEED") or random.randrange(10**6))
LINES_PER_LOOK = 400
LONG_STORMS = 25


class Storm:
    """A fleet, looked at while it works, and its books once nothing is held any more."""

    def __init__(self, folder: Path, seed: int, workers: int, count: int, base_url: str = "", **strikes: int) -> None:
        self.folder, self.seed = folder, seed
        options: dict[str, Any] = {"seed": seed, "count": count, "base_url": base_url}
        self.fleet = Fleet(folder, workers, options, strikes_of(seed, workers, **strikes), self._on_line)
        self.looks = 0
        self._lines = 0
        self._look_now = asyncio.Event()

    async def run(self) -> Books:
        began = time.monotonic()
        guard = storm_guard(self.folder)
        async with guard:
            looking = asyncio.create_task(self._look())
            try:
                await self.fleet.run()
            finally:
                looking.cancel()
                await asyncio.wait([looking])
            if not looking.cancelled():
                looking.result()
            await until(self._nothing_held, "the sweeps to resolve what killed processes held")
            assert {row.reserved for row in await guard.status()} == {0}
        self.took_s = time.monotonic() - began
        return await books_of(self.folder / "budgets.db")

    async def _nothing_held(self) -> bool:
        return not await holds_of(self.folder / "budgets.db")

    def _on_line(self) -> None:
        self._lines += 1
        if self._lines % LINES_PER_LOOK == 0:
            self._look_now.set()

    async def _look(self) -> None:
        """No overspend at any moment, and the books balance in the midst of it all."""
        while True:
            await self._look_now.wait()
            self._look_now.clear()
            check_balance(await books_of(self.folder / "budgets.db"), BUDGETS)
            self.looks += 1

    def tell(self, books: Books, bill: list[BilledCall]) -> None:
        ids, fleet = self.fleet.ids, self.fleet
        guessed = known_by_estimate(books, bill)
        print(
            f"\nstorm {self.seed}: {len(ids['admitted'])} calls admitted, {len(bill)} billed, "
            f"{len(ids['refused'])} refused, {fleet.events['budget.delayed']} delayed, {len(ids['away'])} not decided; "
            f"{len(fleet.killed)} processes killed, {len(fleet.stopped)} stopped; ledger {dict(books.statuses)}, "
            f"of them {len(guessed)} billed and never settled; {self.looks} looks; {self.took_s:.1f} s"
        )


def known_by_estimate(books: Books, bill: list[BilledCall]) -> set[str]:
    """The billed calls whose truth died with their process."""
    return {row.id for row in books.ledger if row.status in GUESSED} & {str(call.request_id) for call in bill}


def check_storm(storm: Storm, books: Books, bill: list[BilledCall]) -> None:
    """What must hold after every storm."""
    ids = storm.fleet.ids
    check_balance(books, BUDGETS)
    check_bill(books, bill, BUDGETS)
    rows = {row.id: row for row in books.ledger}
    assert not [id for step in ("admitted", "recorded", "settled") for id, n in Counter(ids[step]).items() if n > 1]
    assert set(ids["refused"]).isdisjoint(rows), "a refused call was charged"
    assert set(ids["admitted"]) <= set(rows), "an admitted call was forgotten"
    assert {rows[id].status for id in ids["settled"]} <= {"settled", "late"}


def witness_tokens(folder: Path) -> int:
    """What check-then-act let the provider bill, against the same limit in the same storm."""
    return sum(call.input_tokens + call.output_tokens for call in read_bill(folder / "witness.jsonl"))


def test_nothing_is_overspent_or_lost_whoever_is_killed(tmp_path: Path) -> None:
    """And the storm has power: processes die with billed calls, budgets refuse, and check-then-act overspends in it."""
    storm = Storm(tmp_path, SEED, workers=8, count=200, kills=6, stops=1, latest=40)
    books = asyncio.run(storm.run())
    bill = read_bill(tmp_path / "bill.jsonl")
    storm.tell(books, bill)
    check_storm(storm, books, bill)
    assert len(storm.fleet.killed) >= 3 and known_by_estimate(books, bill)
    assert storm.fleet.ids["refused"] and storm.looks >= 3
    print(f"witness: check-then-act spent {witness_tokens(tmp_path)} tokens of {TEAM_TOKENS}")
    assert witness_tokens(tmp_path) > TEAM_TOKENS


def test_a_storm_through_the_openai_client_agrees_with_the_servers_bill(tmp_path: Path) -> None:
    async def scenario() -> Books:
        prices = {MODEL: PROVIDER_PRICE}
        async with FakeProvider(prices, bill_path=tmp_path / "bill.jsonl", latency_ms=20) as provider:
            books = await storm_at(provider.base_url).run()
            assert [call.request_id for call in provider.bill] == [call.request_id for call in bill()]
            return books

    def storm_at(base_url: str) -> Storm:
        storms.append(Storm(tmp_path, SEED, 2, 40, base_url, kills=2, stops=0, latest=15))
        return storms[0]

    def bill() -> list[BilledCall]:
        return read_bill(tmp_path / "bill.jsonl")

    storms: list[Storm] = []
    books = asyncio.run(scenario())
    storms[0].tell(books, bill())
    check_storm(storms[0], books, bill())
    assert storms[0].fleet.killed and books.statuses["expired"]


@pytest.mark.long
@pytest.mark.parametrize("number", range(LONG_STORMS))
def test_nothing_is_overspent_or_lost_in_many_storms(tmp_path: Path, number: int) -> None:
    storm = Storm(tmp_path, SEED + number, workers=8, count=200, kills=16, stops=2, latest=40)
    books = asyncio.run(storm.run())
    bill = read_bill(tmp_path / "bill.jsonl")
    storm.tell(books, bill)
    check_storm(storm, books, bill)
    assert len(storm.fleet.killed) >= 5
