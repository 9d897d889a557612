"""Does a store keep its contract? Random histories, in which it must answer and show what `core.machine` says."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from budgetguard.core.balances import EMPTY, spent_and_reserved
from budgetguard.core.model import Account
from budgetguard.core.verbs import Expire
from budgetguard.store import Clock, Store
from budgetguard.testing.clock import FakeClock
from budgetguard.testing.histories import LEASES_MS, POLICIES, REPLAY_KEEP_MS, Clients
from budgetguard.testing.oracle import Announce, Oracle
from budgetguard.testing.store_learned import LearnedOutputs
from budgetguard.testing.store_once import Once
from budgetguard.testing.store_reads import check_accounts, check_due, check_holds
from budgetguard.testing.store_rules import StoreContractBroken, difference, require

START_MS = 1_795_348_500_000
"""2026-11-22 11:55 UTC, a Sunday: hours, days and weeks end soon."""
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
STEPS_MS = (
    1, 999, 10_000, 59_999, MINUTE_MS, 5 * MINUTE_MS, REPLAY_KEEP_MS // 2 + 1, REPLAY_KEEP_MS, HOUR_MS, DAY_MS,
    32 * DAY_MS, -1, -30_000, -60_000, -60_001,
)  # fmt: skip
HISTORY = 400
"""Operations after which a new store is begun."""
CHANGING = frozenset(["granted", "extended", "settled", "late", "released", "expired"])
"""The answers after which accounts may stand otherwise."""

Factory = Callable[[Clock], Store]


async def check_store(factory: Factory, *, seed: int | None = None, operations: int = 2_000) -> None:
    """Drive new stores through random histories; return if nothing is wrong with them.

    Args:
        factory: makes a new, empty store, which takes its time from the clock that it is given.
        seed: of the histories; without one they are others each time, and a failure tells it.
        operations: how many to ask, of all verbs together.

    Raises:
        StoreContractBroken: the store broke a rule; names the rule, the operation, the answer, and the seed.
    """
    chosen = random.SystemRandom().randrange(2**32) if seed is None else seed
    chance = random.Random(chosen)
    done = 0
    while done < operations:
        history = _History(factory, chance)
        try:
            done += await history.run(min(HISTORY, operations - done))
        except BaseException as error:
            error.add_note(f"operation {done + history.asked}; repeat with check_store(factory, seed={chosen})")
            raise


class _History:
    """One store, and the oracles that it has not contradicted yet.

    At first there are two: whether a store looks up in its ledger what it has forgotten is its own choice (DESIGN 4).
    """

    def __init__(self, factory: Factory, chance: random.Random) -> None:
        self.asked = 0
        self._chance = chance
        self._clock = FakeClock(START_MS + chance.randrange(HOUR_MS))
        self._store = factory(self._clock)
        self._clients = Clients(self._clock.now_ms())
        self._once, self._learned = Once(chance), LearnedOutputs(chance)
        self._oracles = [Oracle(asks_ledger=True), Oracle(asks_ledger=False)]

    async def run(self, operations: int) -> int:
        """Ask so many operations, and look at the store in between."""
        try:
            for _ in range(2):
                now_ms = await self._store.open()
                require(
                    now_ms == self._clock.now_ms(), "open tells the store's time, however often it is asked", now_ms
                )
            while self.asked < operations:
                await self._turn()
        finally:
            await self._store.aclose()
        return self.asked

    async def _turn(self) -> None:
        dice = self._chance.random()
        if dice < 0.15:
            self._move()
        elif dice < 0.22:
            self._clients.policy = self._chance.randrange(len(POLICIES))
        elif dice < 0.30:
            await self._sweep()
        elif dice < 0.40:
            await self._read()
        elif dice < 0.46:
            self._hear()
            await self._once.check(self._store, self._oracles[0].last_ms)
            await self._learned.check(self._store, self._oracles[0].last_ms)
        elif dice < 0.48:
            await self._store.leave()  # it must answer again all the same
            await self._store.leave()
        ops = [self._clients.next(self._chance.randbytes(8)) for _ in range(self._chance.randint(1, 12))]
        for _, alike in groupby(ops, type):
            batch = list(alike)
            await self._ask(batch)
            if self._chance.random() < 0.2:
                await self._ask(batch)  # every operation can be repeated

    def _move(self) -> None:
        """Time passes, or the clock is set back, or it comes to where a lease or a window ends."""
        ends = [claim.account.window_end_ms for call in self._clients.calls[-1:] for claim in call.plan.claims]
        targets = [end + by for end in ends if end is not None for by in (-1, 0)]
        targets += [self._clock.now_ms() + step_ms for step_ms in (*STEPS_MS, *LEASES_MS)]
        to_ms = self._chance.choice(targets)
        if START_MS < to_ms < START_MS + 300 * DAY_MS:
            self._clock.set(to_ms)

    async def _sweep(self) -> None:
        self._hear()
        await check_due(self._store, self._oracles[0], self._chance)
        ids = sorted(self._oracles[0].due())
        if ids:
            await self._ask([Expire(id) for id in ids])

    async def _read(self) -> None:
        self._hear()
        await check_accounts(self._store, self._oracles[0], self._chance)
        await check_holds(self._store, self._oracles[0], self._chance)

    def _hear(self) -> None:
        for oracle in self._oracles:
            oracle.hear(self._clock.now_ms())

    async def _ask(self, ops: Sequence[Any]) -> None:
        """One batch of one verb: its answers, and the accounts after it."""
        self.asked += len(ops)
        self._hear()
        states = {op.id: _state(self._oracles[0], op.id) for op in ops if not isinstance(op, Announce)}
        was_due = bool(self._oracles[0].due())
        foretold = [oracle.step(ops, self._clock.now_ms()) for oracle in self._oracles]
        due = was_due, bool(self._oracles[0].due())
        told = await self._verb(ops)
        accounts = list({claim.account.key: claim.account for op in ops for claim in _claims(op)}.values())
        shown = [(row.account.key, row.spent, row.reserved) for row in await self._store.read_balances(accounts)]
        broken: list[StoreContractBroken] = []
        agreeing = []
        for oracle, answers in zip(self._oracles, foretold, strict=True):
            found = difference(ops, states, answers, told, due)
            found = found or _difference_of_accounts(oracle, ops, answers, accounts, shown)
            if found is None:
                agreeing.append(oracle)
                answers_heard = answers
            else:
                broken.append(found)
        if not agreeing:
            raise broken[0]
        self._oracles = agreeing
        for op, answer in zip(ops, answers_heard, strict=True):
            self._clients.heard(op, answer)

    async def _verb(self, ops: Sequence[Any]) -> list[Any]:
        if isinstance(ops[0], Announce):
            return list(await self._store.announce([(op.account, op.level) for op in ops]))
        verb = getattr(self._store, type(ops[0]).__name__.lower())
        return list(await verb(ops))


def _state(oracle: Oracle, id: str) -> str:
    known = oracle.reservations.get(id)
    return known.state if known is not None else "unknown"


def _claims(op: Any) -> Sequence[Any]:
    plan = getattr(op, "plan", None)
    return plan.claims if plan is not None else ()


def _difference_of_accounts(
    oracle: Oracle, ops: Sequence[Any], answers: Sequence[Any], accounts: Sequence[Account], shown: Sequence[Any]
) -> StoreContractBroken | None:
    """Whether the accounts of the operations show what was decided."""
    oracle.hear(oracle.last_ms)
    wanted = [
        (account.key, *spent_and_reserved(account, oracle.balances.get(account.key, EMPTY), oracle.last_ms))
        for account in accounts
    ]
    if wanted == list(shown):
        return None
    words = [answer if isinstance(answer, bool) else answer.word for answer in answers]
    if not CHANGING.isdisjoint(words):
        rule = "every account shows what was decided, in the order asked"
    else:
        rule = "a refused call changes no account" if "refused" in words else "what changes nothing changes no account"
    return StoreContractBroken(rule, f"{words} after {list(ops)}", list(shown), wanted)
