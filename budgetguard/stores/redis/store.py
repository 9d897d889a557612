"""`RedisStore`: the rule in Lua, for any number of machines."""

from __future__ import annotations

import asyncio
import secrets
import weakref
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from budgetguard.core.model import Account
from budgetguard.core.verbs import Expire, Extend, Grow, Release, Reserve, Settle, Settlement, Verdict
from budgetguard.errors import OutboxFull, StoreUnusable
from budgetguard.store import (
    AccountRow,
    Backlog,
    Cause,
    Clock,
    HoldRow,
    LostWrites,
    OutputCount,
    OutputSet,
    Page,
    RefusalCount,
)
from budgetguard.stores.batching import Answers, Batcher, Done
from budgetguard.stores.outputs import summed
from budgetguard.stores.queries import Query
from budgetguard.stores.redis import calls
from budgetguard.stores.redis.address import parse_address
from budgetguard.stores.redis.answers import OUTBOX_FULL
from budgetguard.stores.redis.batches import MOST_OPS, SCRIPTS, Batches, Outbox
from budgetguard.stores.redis.keys import Keys
from budgetguard.stores.redis.noting import packed_refusals
from budgetguard.stores.redis.operations import Announce
from budgetguard.stores.redis.outputs import Outputs
from budgetguard.stores.redis.reading import Reading
from budgetguard.stores.redis.scripting import Scripting
from budgetguard.stores.redis.server import Server


class _Here(NamedTuple):
    """What one event loop has: its connection, and the operations that wait for it."""

    server: Server
    batcher: Batcher


class RedisStore:
    """A `Store` in Redis; `lua/README.md` tells the layout of its keys.

    Args:
        url: `redis:// rediss:// unix:// redis+sentinel:// redis+cluster://` and their TLS forms.
        namespace: keeps apart what shares a server; everything in one is in one slot.
        timeout_ms: how long an operation is tried.
        clock: where the namespace's time comes from, in simulations and tests; the server's own by default.
        outbox_max: how many ledger rows wait to be drained before calls are refused.
        ledger: "none": nobody drains them, and the oldest go.
        allow_eviction: use a server that may evict what was spent.

    Raises:
        ConfigError: the URL is of no Redis.
    """

    def __init__(
        self,
        url: str,
        namespace: str = "default",
        timeout_ms: int = 2_000,
        clock: Clock | None = None,
        *,
        outbox_max: int = 1_000_000,
        ledger: Literal["outbox", "none"] = "outbox",
        allow_eviction: bool = False,
    ) -> None:
        self._address = parse_address(url)
        self.namespace = namespace
        self._timeout_ms = timeout_ms
        self._allow_eviction = allow_eviction
        self._outbox = Outbox(outbox_max, ledger == "outbox")
        self._keys = Keys(namespace)
        self._scripting = Scripting(self._keys, clock)
        self._batches = Batches(self._scripting, self._outbox)
        self._reading = Reading(self._scripting)
        self._outputs = Outputs(self._scripting)
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Here] = weakref.WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"RedisStore({str(self._address)!r}, namespace={self.namespace!r})"

    async def open(self, accept_loss: bool = False) -> int:
        return await self._open(self._here().server, accept_loss)

    async def _open(self, server: Server, accept_loss: bool = False, deadline: float | None = None) -> int:
        now_ms, self._scripting.incarnation = await self._scripting.one(
            server,
            lambda caller: calls.open_namespace(
                caller=caller, begin_with=secrets.token_hex(16).encode(), accept_loss=accept_loss
            ),
            deadline,
        )
        return int(now_ms)

    def reserve(self, ops: Sequence[Reserve]) -> Awaitable[list[Verdict]]:
        return self._ask(ops)

    def settle(self, ops: Sequence[Settle]) -> Awaitable[list[Settlement]]:
        return self._ask(ops)

    def release(self, ops: Sequence[Release]) -> Awaitable[list[Settlement]]:
        return self._ask(ops)

    def grow(self, ops: Sequence[Grow]) -> Awaitable[list[Verdict]]:
        return self._ask(ops)

    def extend(self, ops: Sequence[Extend]) -> Awaitable[list[Verdict]]:
        return self._ask(ops)

    def expire(self, ops: Sequence[Expire]) -> Awaitable[list[Settlement]]:
        return self._ask(ops)

    async def announce(self, levels: Sequence[tuple[Account, int]]) -> list[bool]:
        return await self._ask([Announce(level) for level in levels])

    async def due(self, most: int) -> list[str]:
        server = await self._opened()
        _, ids = await self._scripting.one(server, lambda caller: calls.due(caller=caller, most=most))
        await self._reading.prune(server)
        return [id.decode() for id in ids]

    async def first_to_tell(self, causes: Sequence[Cause]) -> list[bool]:
        server = await self._opened()
        _, answers = await self._scripting.one(server, lambda caller: calls.tell(caller=caller, causes=causes))
        return list(answers)

    async def note_refusals(self, flush_id: str, rows: Sequence[RefusalCount]) -> None:
        if not self._outbox.bounded or not rows:
            return
        server, entry = await self._opened(), packed_refusals(flush_id, rows)
        _, noted = await self._scripting.one(
            server, lambda caller: calls.note(caller=caller, outbox_most=self._outbox.most, entry=entry)
        )
        if not noted:
            raise OutboxFull(OUTBOX_FULL)

    async def note_outputs(self, flush_id: str, slice_ms: int, rows: Sequence[OutputCount]) -> None:
        sums = summed(slice_ms, rows)
        await self._outputs.note(await self._opened(), flush_id, slice_ms, sums)

    async def read_outputs(self, words: Sequence[str] | None = None, most: int = 1000) -> list[OutputSet]:
        return await self._outputs.read(await self._opened(), words, most)

    async def read_balances(self, accounts: Sequence[Account]) -> list[AccountRow]:
        return await self._reading.balances(await self._opened(), accounts)

    async def read_accounts(
        self, budget: str = "*", labels: Mapping[str, str] | None = None, cursor: str | None = None, most: int = 1000
    ) -> Page[AccountRow]:
        query = Query(self.namespace, budget, labels or {}, cursor, most)
        return await self._reading.accounts(await self._opened(), query)

    async def read_holds(
        self, budget: str = "*", labels: Mapping[str, str] | None = None, cursor: str | None = None, most: int = 1000
    ) -> Page[HoldRow]:
        query = Query(self.namespace, budget, labels or {}, cursor, most)
        return await self._reading.holds(await self._opened(), query)

    async def backlog(self) -> Backlog | None:
        if not self._outbox.bounded:
            return None
        (rows,) = await (await self._opened()).ask([("XLEN", self._keys.outbox)])
        if not isinstance(rows, int):
            raise StoreUnusable(f"the outbox cannot be read: {rows}")
        return Backlog(rows, self._outbox.most)

    async def lost_writes(self) -> LostWrites | None:
        return self._scripting.lost_writes()

    async def leave(self) -> None:
        here = self._loops.pop(asyncio.get_running_loop(), None)
        if here is not None:
            try:
                await here.batcher.idle()
            finally:  # even of whoever is cancelled: nobody else will close it
                await here.server.aclose()

    async def aclose(self) -> None:
        await self.leave()

    def _here(self) -> _Here:
        loop = asyncio.get_running_loop()
        here = self._loops.get(loop)
        if here is None:
            self._forget_closed_loops()
            server = Server(
                self._address, self._timeout_ms, slot_key=self._keys.meta, allow_eviction=self._allow_eviction
            )
            here = self._loops[loop] = _Here(server, Batcher(partial(self._begin, server), MOST_OPS * SCRIPTS))
        return here

    def _forget_closed_loops(self) -> None:
        """What is kept for a loop that was closed without leaving refers to it, and would stay for good."""
        for reference in self._loops.keyrefs():
            loop = reference()
            if loop is not None and loop.is_closed():
                self._loops.pop(loop, None)

    async def _opened(self) -> Server:
        if not self._scripting.incarnation:
            await self.open()
        return self._here().server

    def _ask(self, ops: Sequence[Any]) -> Awaitable[list[Any]]:
        return self._here().batcher.ask(ops)

    def _begin(self, server: Server, ops: list[Any], asked_s: float, done: Done) -> None:
        if self._scripting.incarnation:
            self._batches.begin(server, ops, self._deadline(server, asked_s), done)
        else:
            done(self._open_and_run(server, ops, asked_s))

    async def _open_and_run(self, server: Server, ops: list[Any], asked_s: float) -> Answers:
        deadline = self._deadline(server, asked_s)
        await self._open(server, deadline=deadline)  # its own: this loop may have left, and would connect anew
        return await self._batches.run(server, ops, deadline)

    def _deadline(self, server: Server, asked_s: float) -> float:
        """What has waited for a server that did not answer others has had its time, and is not tried as long again."""
        since_s = asyncio.get_running_loop().time() if server.answers else asked_s
        return since_s + self._timeout_ms / 1000
