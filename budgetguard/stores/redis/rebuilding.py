"""Rebuilds the accounts of a namespace from the ledger, under a claim that keeps everybody else out meanwhile.

The claim stands in `meta` in the place of the incarnation, so every other caller is told that the state is lost: none
is admitted, and none settles, until the last account is written and a new incarnation is there, whose loss is accepted.
What is written are amounts, never differences: whoever takes over from one that has died does the same again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from budgetguard.core.model import Account, Balance
from budgetguard.errors import StoreError
from budgetguard.ledger.tally import Difference, Look
from budgetguard.stores.redis import calls
from budgetguard.stores.redis.books import RedisBooks, Told
from budgetguard.stores.redis.keys import digest_of
from budgetguard.stores.redis.plans import words_of
from budgetguard.stores.redis.remembering import Remembered, rank_of, remembered
from budgetguard.stores.redis.scripting import CLAIM, Scripting

MOST = 256
"""Accounts, and reservations, of one script: 512 keys, as other scripts have."""
BEAT_S = 3.0
"""A fifth of what makes a claim stale: `lua/lib/claim.lua`."""


class Source(NamedTuple):
    """The SQL ledger, as a rebuild asks it. Blocking."""

    told: Told
    since_ms: Callable[[int], int]
    resolved: Callable[[int, Collection[str]], Iterable[Mapping[str, Any]]]
    """Rows by column of calls that have ended so lately that they must be remembered, and of those with these ids;
    takes the store's time."""
    pruned_ms: int | None = None


class Rebuilt(NamedTuple):
    """What a rebuild has done: the accounts that differed, how many ended calls are remembered again, and whether
    there was no state when it began, nor any that others had claimed before.
    """

    differences: Sequence[Difference]
    remembered: int
    was_lost: bool


class Rebuild:
    """One try at a rebuild, for the event loop that runs.

    Raises:
        StateLost: from `run`, if another has taken the claim over: this one was held up too long.
        StoreAway, StoreUnusable: if Redis cannot be reached, or the ledger cannot be read. If nothing was written by
            then, the namespace is as it was; else it stays claimed, and the next rebuild takes it over.
    """

    def __init__(self, books: RedisBooks, replay_keep_ms: int) -> None:
        self._books = books
        self._replay_keep_ms = replay_keep_ms
        self._scripting = Scripting(books.keys, books.clock, adopts=False)
        self._scripting.incarnation = CLAIM + f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}".encode()
        self._before = b""

    async def claim(self) -> str:
        """Claim the namespace, before `run`; returns "", or who has claimed it already."""
        _, before, other = await self._scripting.one(self._books.server, lambda caller: calls.claim(caller=caller))
        self._before = before
        return str(other.removeprefix(CLAIM).decode())

    async def run(self, source: Source) -> Rebuilt:
        """Rebuild what was claimed, and end the claim."""
        try:
            async with self._kept_claimed():
                look = await self._books.look(source.told, source.since_ms, source.pruned_ms)
                differences, accounts = look.mended()
                ended = await self._ended(source, look)
        except BaseException:
            with contextlib.suppress(StoreError):  # then the claim stands until it is stale
                await asyncio.shield(self._write([], [], (self._before, False) if self._before else ""))
            raise
        # Past this line accounts are another's until all are written: an error leaves the claim as it stands.
        made = [*accounts.values()]
        for first in range(0, max(len(made), len(ended)), MOST):
            await self._write(made[first : first + MOST], ended[first : first + MOST], False)
        await self._write([], [], (secrets.token_hex(16).encode(), True))
        return Rebuilt(differences, len(ended), not self._before)

    async def _ended(self, source: Source, look: Look) -> list[Remembered]:
        """The reservations of which less is remembered than their rows tell."""
        now_ms, keep_ms = look.tally.now_ms, self._replay_keep_ms

        def read() -> Iterator[Remembered]:
            for row in source.resolved(now_ms, look.ended):
                found = remembered(row, self._books.keys, keep_ms)
                if found.id in look.ended:  # it stands as held, and must not be charged once more
                    found = found._replace(keep_until_ms=max(found.keep_until_ms, now_ms + keep_ms))
                if found.keep_until_ms > now_ms:
                    yield found

        found = await asyncio.to_thread(lambda: list({one.id: one for one in read()}.values()))
        less = []
        for first in range(0, len(found), MOST):
            some = found[first : first + MOST]
            records = await self._books.records([one.id for one in some])
            less += [one for one, record in zip(some, records, strict=True) if rank_of(record) < one.rank]
        return less

    async def _write(
        self, accounts: Sequence[tuple[Account, Balance]], ended: Sequence[Remembered],
        goes_on_as: tuple[bytes, bool] | str | bool,
    ) -> None:  # fmt: skip
        sent = [
            (
                digest_of(account.key), words_of(account), *balance[:5],
                [number for slot in balance.slots for number in slot] if account.period.kind == "rolling" else False,
            )
            for account, balance in accounts
        ]  # fmt: skip
        reservations = [(one.id, one.record, one.keep_until_ms) for one in ended]
        await self._scripting.one(
            self._books.server,
            lambda caller: calls.rebuild(
                caller=caller, accounts=sent, reservations=reservations, goes_on_as=goes_on_as
            ),
        )

    @contextlib.asynccontextmanager
    async def _kept_claimed(self) -> AsyncIterator[None]:
        """The claim is renewed while a ledger is read that may take its time; one that was taken over stays lost."""

        async def beat() -> None:
            while True:
                await asyncio.sleep(BEAT_S)
                with contextlib.suppress(StoreError):  # what is written at the end will tell
                    await self._write([], [], False)

        beating = asyncio.create_task(beat())
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.wait([beating])
