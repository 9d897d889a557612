"""The public coroutines, each as a play that can be cancelled, with what must be true afterwards."""

from __future__ import annotations

import asyncio
from typing import Protocol

from guard_kit import ESTIMATE, USAGE, LossyStore, World, until
from store_kit import ask_one, expire, plan, reserve

import budgetguard as bg
from budgetguard.core.amounts import Amounts

BUDGETS = [
    bg.Budget("all", ["900M tokens/day"]),
    bg.Budget("small", ["700 tokens/total"], where={"team": "small"}),
    bg.Budget("one", ["1 concurrent"], where={"team": "one"}, on_exceed="delay", max_delay="60s"),
]


class Look(Protocol):
    """Into the store, over one connection that stays open: there are thousands of looks."""

    def held(self) -> int:
        """How many reservations are open."""

    def reserved(self) -> int:
        """What is reserved on all accounts together."""

    def charged(self, id: str) -> int | None:
        """The tokens of the ledger's row of a call."""

    def total(self) -> int:
        """The tokens of all rows."""


class Case:
    """One public coroutine. `before` and `after` are not struck; `billed` is what the ledger must have, by id."""

    fresh = False
    """Whether it needs a guard of its own, which the play opens or closes."""

    def __init__(self, world: World, look: Look, guard: bg.Guard, store: LossyStore) -> None:
        self.world, self.look, self.guard, self.store = world, look, guard, store
        self.billed: dict[str, int] = {}
        self.holds: list[bg.Hold] = []

    async def before(self) -> None: ...

    async def play(self) -> None:
        raise NotImplementedError

    async def after(self) -> None:
        for hold in self.holds:
            if hold.open:
                await hold.release()

    async def call(self, hold: bg.Hold) -> None:
        """A call to a provider: billed as soon as it is sent."""
        self.billed[hold.id] = ESTIMATE.total_tokens
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        hold.record(USAGE)
        self.billed[hold.id] = USAGE.total_tokens


class ReserveByAwait(Case):
    async def play(self) -> None:
        self.holds.append(await self.guard.reserve(estimate=ESTIMATE))


class Block(Case):
    async def play(self) -> None:
        async with self.guard.reserve(estimate=ESTIMATE) as hold:
            await self.call(hold)
            await asyncio.sleep(0)


class BlockWithAnError(Case):
    async def play(self) -> None:
        try:
            async with self.guard.reserve(estimate=ESTIMATE):
                await asyncio.sleep(0)
                raise ConnectionRefusedError
        except ConnectionRefusedError:
            pass


class Prepared(Case):
    """The play is a verb of a hold."""

    async def before(self) -> None:
        self.holds.append(await self.guard.reserve(estimate=ESTIMATE))


class Settle(Prepared):
    async def play(self) -> None:
        (hold,) = self.holds
        self.billed[hold.id] = USAGE.total_tokens
        await hold.settle(USAGE)


class Release(Prepared):
    async def play(self) -> None:
        await self.holds[0].release()


class Grow(Prepared):
    async def play(self) -> None:
        await self.holds[0].grow(bg.Usage(5_000, 0))


class Budgeted(Case):
    async def before(self) -> None:
        self.steps, self.charged = 0, self.look.total()

    async def play(self) -> None:
        @self.guard.budgeted(estimate=ESTIMATE)
        async def ask() -> bg.Usage:
            self.steps = 1
            await asyncio.sleep(0)
            self.steps = 2
            return USAGE

        await ask()

    async def after(self) -> None:
        charged = self.charged + [0, ESTIMATE.total_tokens, USAGE.total_tokens][self.steps]
        await until(lambda: self.look.total() == charged, "what was sent is in the ledger")


class Within(Case):
    async def play(self) -> None:
        async with self.guard.within("1k tokens", name="run"):
            async with self.guard.reserve(estimate=ESTIMATE) as hold:
                await self.call(hold)
            try:
                await self.guard.reserve(estimate=ESTIMATE)
            except bg.BudgetExceeded:
                self.swallowed = True


class Refused(Prepared):
    """Because it is held: the open calls are counted for the text."""

    async def before(self) -> None:
        self.holds.append(await self.guard.reserve(team="small", estimate=bg.Usage(600, 0)))

    async def play(self) -> None:
        await self.guard.reserve(team="small", estimate=bg.Usage(600, 0))


class RefusedAndSwept(Case):
    """An abandoned reservation is due: it is swept, and the store is asked again."""

    async def before(self) -> None:
        of = plan("700 tokens/total", name="small", on_expiry="release")
        id, lease_ms = f"r-abandoned-{self.world.clock.now_ms()}", 1
        abandoned = reserve(id, of, Amounts(tokens=600, requests=1), self.world.clock.now_ms(), lease_ms, team="small")
        assert (await ask_one(self.store, abandoned)).word == "granted"  # type: ignore[arg-type]
        self.abandoned = id
        self.world.clock.advance(2)

    async def play(self) -> None:
        self.holds.append(await self.guard.reserve(team="small", estimate=bg.Usage(600, 0)))

    async def after(self) -> None:
        await super().after()
        await ask_one(self.store, expire(self.abandoned))  # type: ignore[arg-type]  # a sweep may have been cancelled


class Delayed(Case):
    """It waits in line until what it waits for is returned."""

    async def before(self) -> None:
        self.over = False
        # In a task of its own: nobody waits inside an open hold.
        self.holds.append(await asyncio.create_task(self.take()))
        self.returning = asyncio.create_task(self.return_soon())

    async def take(self) -> bg.Hold:
        return await self.guard.reserve(team="one", estimate=ESTIMATE)

    async def return_soon(self) -> None:
        line = self.guard._engines.current().line
        await until(lambda: line.busy or self.over, "it waits")
        await self.holds[0].release()

    async def play(self) -> None:
        self.holds.append(await self.guard.reserve(team="one", estimate=ESTIMATE))

    async def after(self) -> None:
        self.over = True
        await asyncio.wait([self.returning])
        await super().after()
        assert not self.guard._engines.current().line.busy


class Status(Case):
    async def play(self) -> None:
        assert await self.guard.status()


class Available(Case):
    async def play(self) -> None:
        assert await self.guard.available()


class Open(Case):
    """`async with guard`, with a call inside: opens the store, and closes it."""

    fresh = True

    async def play(self) -> None:
        async with self.guard, self.guard.reserve(estimate=ESTIMATE) as hold:
            await self.call(hold)


class Close(Case):
    """`aclose`, with a hold that was recorded and a settle under way."""

    fresh = True

    async def before(self) -> None:
        first, second = [await self.guard.reserve(estimate=ESTIMATE) for _ in range(2)]
        for hold in (first, second):
            hold.record(USAGE)
            self.billed[hold.id] = USAGE.total_tokens
        self.settling = asyncio.create_task(first.settle())
        self.kept = second
        await asyncio.sleep(0)

    async def play(self) -> None:
        assert await self.guard.aclose() == 0

    async def after(self) -> None:
        await asyncio.wait([self.settling])


ERRORS: dict[type[Case], type[Exception]] = {Refused: bg.BudgetExceeded, Within: bg.BudgetExceeded}
CASES = [
    ReserveByAwait, Block, BlockWithAnError, Settle, Release, Grow, Budgeted, Within, Refused, RefusedAndSwept, Delayed,
    Status, Available, Open, Close,
]  # fmt: skip
