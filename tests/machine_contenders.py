"""The stores that must decide as the oracle does. A further one is a class here and a line in `CONTENDERS`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import apsw
from machine_redis import RedisContender
from machine_world import Picture, asked_at_once
from redis_kit import RedisServer
from rollup_kit import rollups_in
from store_kit import ask_one

from budgetguard.core.model import Balance
from budgetguard.store import Clock
from budgetguard.stores.sqlite import SQLiteStore


class Contender(Protocol):
    """A store under test, with a look behind its protocol.

    `asks_ledger`: whether it looks up ids that it has forgotten.
    """

    asks_ledger: bool

    async def begin(self, neighbours_ops: Sequence[Any]) -> None:
        """Open it; a neighbour in another namespace asks these operations first."""

    async def step(self, ops: Sequence[Any]) -> list[Any]:
        """The answers to operations that are asked at once, in this order."""

    async def due(self) -> set[str]:
        """The sweep's list; forgets what is too old."""

    async def reopen(self) -> None:
        """Let go of the store, and open it again."""

    def picture(self, now_ms: int, swept: bool = False) -> Picture:
        """All that stands; with `swept`, nothing that was to be forgotten may still be there."""

    def as_kept(self, told: tuple[Any, ...]) -> tuple[Any, ...]:
        """A reservation of the oracle's picture, as far as this store keeps it."""

    async def end(self) -> None:
        """Let go of the store, and check that its neighbour is as it was."""


class SQLiteContender:
    """Two stores on one file, in turn, as two processes would use it."""

    asks_ledger = True

    def __init__(self, folder: Path, clock: Clock, server: RedisServer) -> None:
        self._path = str(folder / "store.db")
        self._clock = clock
        self._stores = [SQLiteStore(self._path, "mine", 20_000, clock) for _ in range(2)]
        self._steps = 0

    async def begin(self, neighbours_ops: Sequence[Any]) -> None:
        neighbour = SQLiteStore(self._path, "neighbour", 20_000, self._clock)
        for op in neighbours_ops:
            await ask_one(neighbour, op)
        await neighbour.aclose()
        self._look = apsw.Connection(self._path)
        self._neighbour = self._rows("neighbour")

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
        accounts, reservations, ledger = self._rows("mine")
        standing = [row for row in accounts if row[5] > now_ms or row[2] > 0]
        known = [row for row in reservations if row[1] == "held" or row[6] > now_ms]
        assert not swept or (len(standing), len(known)) == (len(accounts), len(reservations))
        plans = {digest: self._plan(digest) for digest in {row[2] for row in known}}
        return Picture(
            dict(map(_balance, standing)),
            {row[0]: _reservation(row, plans[row[2]]) for row in known},
            {row[0]: _row(row) for row in ledger},
        )

    def as_kept(self, told: tuple[Any, ...]) -> tuple[Any, ...]:
        return told

    async def end(self) -> None:
        assert self._rows("neighbour") == self._neighbour
        for store in self._stores:
            await store.aclose()
        assert self._look.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found, expected = rollups_in(lambda query: self._look.execute(query).fetchall())
        assert found == expected
        self._look.close()

    def _rows(self, namespace: str) -> list[list[tuple[Any, ...]]]:
        self._look.execute("BEGIN")
        found = [self._look.execute(query, (namespace,)).fetchall() for query in (ACCOUNTS, RESERVATIONS, LEDGER)]
        self._look.execute("COMMIT")
        return found

    def _plan(self, digest: bytes) -> str:
        text = _PLANS.get(digest)
        if text is None:
            ((text,),) = self._look.execute("SELECT body FROM plans WHERE digest = ?", (digest,)).fetchall()
            _PLANS[digest] = str(text)
        return str(text)


_PLANS: dict[bytes, str] = {}
"""By content, so that it stays true from one file to the next."""
ACCOUNTS = """
SELECT key, spent, reserved, announced, announced_ms, keep_until_ms, slots FROM accounts WHERE namespace = ?"""
RESERVATIONS = """
SELECT id, state, plan, admitted_ms, slot_ms, lease_end_ms, keep_until_ms, revision, body
FROM reservations WHERE namespace = ?"""
LEDGER = """
SELECT reservation_id, revision, status, timestamp, settled_at, slot_ms, team, agent, session_id, labels,
       prompt_tokens, completion_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, cost_nanousd,
       usage_source, streamed, first_token_ms, estimated_tokens, estimated_cost_nanousd, latency_ms, error_type,
       price_source, accounts, would_refuse, host, operation_id, expired_tokens, expired_cost_nanousd, attempt,
       prompt_hash, process, library_version
FROM token_usage WHERE namespace = ?"""


@lru_cache(100_000)
def _balance(row: tuple[Any, ...]) -> tuple[str, Balance]:
    key, *amounts, slots = row
    return key, Balance(*amounts, tuple(map(tuple, json.loads(slots))) if slots else ())


@lru_cache(100_000)
def _reservation(row: tuple[Any, ...], plan: str) -> tuple[Any, ...]:
    _, state, _, *times, revision, body = row
    estimate, charged, labels, source, host, usage, operation, would_refuse, expired, *more = json.loads(body)
    return (
        state, plan, tuple(estimate), tuple(charged), (labels, source, host, operation, *more), tuple(usage), *times,
        revision, tuple(would_refuse), tuple(expired),
    )  # fmt: skip


@lru_cache(100_000)
def _row(row: tuple[Any, ...]) -> tuple[Any, ...]:
    _, revision, status, admitted, settled, slot_ms, team, agent, session, others, *numbers = row
    *numbers, expired_nanousd, attempt, prompt_hash, process, version = numbers
    *numbers, error_type, source, accounts, would_refuse, host, operation, expired_tokens = numbers
    labels = {"team": team, "agent": agent, "session": session, **json.loads(others)}
    counted = tuple(json.dumps(key, separators=(",", ":")) for key in json.loads(accounts))
    return (
        revision, status, _ms(admitted), _ms(settled), slot_ms, {n: v for n, v in labels.items() if v is not None},
        *numbers, error_type or "", source, counted, tuple(json.loads(would_refuse)), host, operation,
        expired_tokens, expired_nanousd, attempt, prompt_hash or "", process, version,
    )  # fmt: skip


def _ms(timestamp: str) -> int:
    return round(datetime.fromisoformat(f"{timestamp}+00:00").timestamp() * 1000)


CONTENDERS: list[Callable[[Path, Clock, RedisServer], Contender]] = [SQLiteContender, RedisContender]
