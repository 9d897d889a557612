"""Redis as a contender: its keys read behind the store's back, its outbox as the ledger that a drain would make."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgpack
from machine_world import Picture, asked_at_once, info_told, row_told
from redis import Redis
from redis_kit import LASTING, RedisServer, key_prefix
from store_kit import ask_one

from budgetguard.core.amounts import Amounts
from budgetguard.core.machine import HELD_KEEP_MS
from budgetguard.core.model import NO_INFO, Balance, UsageRow, plan_from_text
from budgetguard.store import Clock
from budgetguard.stores.redis import RedisStore
from budgetguard.stores.redis.keys import Keys
from budgetguard.stores.redis.outbox import row_from
from budgetguard.stores.redis.plans import SentPlan, account_from, unpack, unpack_all
from budgetguard.stores.redis.reading import balance_from


class RedisContender:
    """Two stores on one namespace, in turn, as two machines would use it."""

    asks_ledger = False

    def __init__(self, folder: Path, clock: Clock, server: RedisServer) -> None:
        self._look = Redis(unix_socket_path=str(server.socket_path), protocol=2)
        self._name = f"m{secrets.token_hex(8)}"
        self._url = server.unix_url
        self._prefix = key_prefix(self._name)
        self._clock = clock
        self._stores = [RedisStore(server.unix_url, self._name, 20_000, clock) for _ in range(2)]
        self._steps = 0
        self._ledger: dict[str, tuple[Any, ...]] = {}
        self._drained = "-"

    async def begin(self, neighbours_ops: Sequence[Any]) -> None:
        neighbour = RedisStore(self._url, f"{self._name}-neighbour", 20_000, self._clock)
        for op in neighbours_ops:
            await ask_one(neighbour, op)
        await neighbour.aclose()
        self._neighbour = self._dumps(f"{self._name}-neighbour")

    async def step(self, ops: Sequence[Any]) -> list[Any]:
        self._steps += 1
        store = self._stores[self._steps // 8 % 2]
        return await asked_at_once(store, ops)

    async def due(self) -> set[str]:
        return set(await self._stores[0].due(1_000_000))

    async def reopen(self) -> None:
        for store in self._stores:
            await store.aclose()
            await store.open()

    def picture(self, now_ms: int, swept: bool = False) -> Picture:
        names = self._look.keys(f"{self._prefix}[ah]:*")
        look = self._look.pipeline(transaction=False)
        look.mget([*names, "none"]).hgetall(f"{self._prefix}index").zrange(
            f"{self._prefix}open", 0, -1, withscores=True
        )
        values, index, leases = look.execute()
        cut = len(self._prefix)
        standing = {name[cut:]: value for name, value in zip(names, values, strict=False) if value is not None}
        self._index = index
        keys = {digest: _key(words) for digest, words in index.items()}
        accounts = {keys[name[2:]]: _balance(value) for name, value in standing.items() if name.startswith(b"a:")}
        known = {name[2:].decode(): _hold(value) for name, value in standing.items() if name.startswith(b"h:")}
        held = {id: hold[8] for id, hold in known.items() if hold[0] == "held"}
        told = {id.decode(): int(lease_end_ms) for id, lease_end_ms in leases}
        assert told == held, f"{told} {held}"
        self._drain()
        return Picture(
            {key: balance for key, balance in accounts.items() if balance.keep_until_ms > now_ms or balance.reserved},
            {id: hold for id, hold in known.items() if hold[0] == "held" or hold[9] > now_ms},
            dict(self._ledger),
        )

    def as_kept(self, told: tuple[Any, ...]) -> tuple[Any, ...]:
        """Of a settled reservation only what tells a repeat from a conflict; plans without what the index has."""
        state, plan, estimate, charged, info, usage, admitted, slot, lease_end, *rest = told
        keep_until, revision, shadows, expired = rest
        if state in ("settled", "tombstone"):
            lasting = (
                (admitted, 0, 0, keep_until, 0) if state == "settled" else (admitted, slot, lease_end, keep_until, 0)
            )
            amounts = (tuple(Amounts()), charged, ()) if state == "settled" else (estimate, charged, expired)
            return (state, None, *amounts[:2], info_told(NO_INFO), tuple(UsageRow()), *lasting, shadows, amounts[2])
        return (
            state, _plan_kept(plan), estimate, charged, info, usage, admitted, slot, lease_end, keep_until, revision,
            shadows, expired,
        )  # fmt: skip

    async def end(self) -> None:
        assert self._dumps(f"{self._name}-neighbour") == self._neighbour
        for store in self._stores:
            await store.aclose()
        keys = self._look.keys(f"bg:{{{self._name}*")
        lasting = {key.decode().partition("}:")[2] for key in keys if self._look.pttl(key) == -1}
        self._look.delete(*keys)
        self._look.close()
        assert lasting <= LASTING, lasting

    def _drain(self) -> None:
        for entry_id, fields in self._look.xrange(f"{self._prefix}outbox", self._drained, "+"):
            row = row_from(fields[b"row"], self._index)
            if row.id not in self._ledger or row.revision > self._ledger[row.id][0]:
                self._ledger[row.id] = row_told(row)
            self._drained = f"({entry_id.decode()}"

    def _dumps(self, namespace: str) -> dict[bytes, bytes]:
        return {key: self._look.dump(key) for key in self._look.keys(f"{key_prefix(namespace)}*")}


@lru_cache(100_000)
def _key(words: bytes) -> str:
    return account_from(words).key


@lru_cache(100_000)
def _balance(packed: bytes) -> Balance:
    return balance_from(packed)


@lru_cache(10_000)
def _plan_kept(text: str) -> Any:
    return _plan(SentPlan(plan_from_text(text), Keys("")).wire(False)[0])


def _usage(packed: bytes) -> tuple[Any, ...]:
    if not packed:
        return tuple(UsageRow())
    *counts, source, streamed, first_token_ms = unpack(packed)
    return (*counts, source.decode(), streamed, first_token_ms)


@lru_cache(100_000)
def _hold(packed: bytes) -> tuple[Any, ...]:
    state, admitted, slot, lease_end, keep_until, revision, plan, estimate, charged, expired, info, usage, shadows = (
        unpack_all(packed)
    )
    told = tuple(msgpack.unpackb(info)) if info else info_told(NO_INFO)
    if state != b"settled":
        charged, expired, slot = charged or Amounts(), expired or Amounts(), admitted + slot
        lease_end += admitted
    return (
        state.decode(), _plan(plan) if plan else None, tuple(estimate or Amounts()), tuple(charged or Amounts()),
        told, _usage(usage), admitted, slot, lease_end,
        lease_end + HELD_KEEP_MS if state == b"held" else keep_until, revision,
        tuple(name.decode() for name in shadows), tuple(expired),
    )  # fmt: skip


def _plan(text: bytes) -> Any:
    """A plan's text as plain values; the last level of a claim may be told as being the limit."""
    charges, content, *claims = unpack(text)
    return charges, content, [[*c[:6], *(c[4] if level is True else level for level in c[6:])] for c in claims]
