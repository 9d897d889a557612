"""A storm over a store: its processes, looks into its books meanwhile, and what must hold at its end."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from storm_again import spooled
from storm_books import GUESSED, Books, check_balance, check_bill
from storm_fleet import Fleet, strikes_of, until
from storm_stores import StormStore
from storm_world import budgets_of, storm_guard, team_tokens_of

from budgetguard.testing import BilledCall, read_bill

SEED = int(os.environ.get("STORM_SEED") or random.randrange(10**6))
LOOKS = 10
"""About so many in a storm: a call that is admitted tells four lines."""


async def nothing(number: int) -> None:
    """What happens before a look when nothing is to happen."""


class Storm:
    """A fleet, looked at while it works, and its books once nothing is held or spooled any more.

    Args:
        count: tasks of each worker.
        calls: for how many the budgets are made; default that of all tasks.
        at_once: how many tasks a worker has under way; default all of them.
        guard: more options of the workers' `storm_guard`.
        witness, base_url: for `storm_worker`.
        before_look: awaited before each look, with its number, from 1.
        strikes: for `strikes_of`.
    """

    def __init__(
        self, folder: Path, store: StormStore, seed: int, workers: int, count: int, *, calls: int = 0,
        at_once: int = 0, guard: dict[str, Any] | None = None, witness: str | None = None, base_url: str = "",
        before_look: Callable[[int], Awaitable[None]] = nothing, **strikes: int,
    ) -> None:  # fmt: skip
        self.folder, self.store, self.seed = folder, store, seed
        self.calls = calls or workers * count
        self.budgets = budgets_of(self.calls)
        self._guard: dict[str, Any] = {"url": store.url, "namespace": store.namespace, "calls": self.calls}
        options = {
            "seed": seed, "count": count, "at_once": at_once or count, "guard": {**self._guard, **(guard or {})},
            "witness": witness, "base_url": base_url,
        }  # fmt: skip
        self.fleet = Fleet(folder, store, workers, options, strikes_of(seed, workers, **strikes), self._on_line)
        self.looks = 0
        self._before_look = before_look
        self.lines, self._lines_per_look = 0, 4 * workers * count // LOOKS
        self._look_now = asyncio.Event()

    async def run(self) -> Books:
        began = time.monotonic()
        async with storm_guard(self.folder, **self._guard) as guard:
            async with asyncio.TaskGroup() as group:
                looking = group.create_task(self._look())
                await self.fleet.run()
                looking.cancel()
            await until(self._at_rest, "what killed processes held to be resolved, and what was spooled delivered")
            assert {row.reserved for row in await guard.status()} == {0}
        self.took_s = time.monotonic() - began
        return await self.store.books()

    async def _at_rest(self) -> bool:
        return spooled(self.folder) == 0 and not await self.store.holds()

    def _on_line(self) -> None:
        self.lines += 1
        if self.lines % self._lines_per_look == 0:
            self._look_now.set()

    async def _look(self) -> None:
        """No overspend at any moment, and the books balance in the midst of it all."""
        while True:
            await self._look_now.wait()
            self._look_now.clear()
            await self._before_look(self.looks + 1)
            check_balance(await self.store.books(), self.budgets)
            self.looks += 1

    def bill(self) -> list[BilledCall]:
        """What the provider says."""
        return read_bill(self.folder / "bill.jsonl")

    def check(self, books: Books) -> set[str]:
        """What must hold after every storm. The billed calls whose truth died with their process."""
        ids, bill = self.fleet.ids, self.bill()
        guessed = {row.id for row in books.ledger if row.status in GUESSED} & {str(call.request_id) for call in bill}
        print(
            f"\nstorm {self.seed}: {len(ids['admitted'])} calls admitted, {len(bill)} billed, "
            f"{len(ids['refused'])} refused, {self.fleet.events['budget.delayed']} delayed, {len(ids['away'])} not "
            f"decided, {self.fleet.events['budget.spooled']} times spooled; {len(self.fleet.killed)} processes killed, "
            f"{len(self.fleet.stopped)} stopped; ledger {dict(books.statuses)}, of them {len(guessed)} billed and "
            f"never settled; {self.looks} looks; {self.took_s:.1f} s"
        )
        check_balance(books, self.budgets)
        check_bill(books, bill, self.budgets)
        rows = {row.id: row for row in books.ledger}
        assert not [id for step in ("admitted", "recorded", "settled") for id, n in Counter(ids[step]).items() if n > 1]
        assert set(ids["refused"]).isdisjoint(rows), "a refused call was charged"
        assert set(ids["admitted"]) <= set(rows), "an admitted call was forgotten"
        assert {rows[id].status for id in ids["settled"]} <= {"settled", "late"}
        return guessed

    def witness_overspent(self) -> bool:
        """Whether check-then-act let the provider bill more than the same limit in the same storm."""
        bill = read_bill(self.folder / "witness.jsonl")
        tokens, limit_tokens = sum(call.input_tokens + call.output_tokens for call in bill), team_tokens_of(self.calls)
        print(f"witness: check-then-act spent {tokens} tokens of {limit_tokens}")
        return tokens > limit_tokens
