"""The outbox: ledger rows and counts of refusals that nobody has moved into a SQL ledger yet."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, get_args

from budgetguard.core.amounts import MAX_AMOUNT, Amounts
from budgetguard.core.model import Account, CallInfo, Claim, Plan, UsageRow
from budgetguard.core.verbs import Row, RowStatus
from budgetguard.errors import StoreAway, StoreUnusable
from budgetguard.ledger.outbox import OutboxRow
from budgetguard.stores.redis.address import parse_address
from budgetguard.stores.redis.keys import Keys
from budgetguard.stores.redis.noting import FIELD as REFUSALS
from budgetguard.stores.redis.noting import flush_from
from budgetguard.stores.redis.plans import account_from, unpack
from budgetguard.stores.redis.server import Server
from budgetguard.stores.redis.wire import Command

STATUSES = frozenset(get_args(RowStatus))
GROUP = "ledger"
NO_STREAM = "requires the key to exist"
"""What Redis says of a group where no row was ever written."""
CLAIMED_AT_ONCE = 1_000
DIGESTS = 9
"""Where a row names its accounts: `lua/lib/rows.lua`."""
Words = Mapping[bytes, bytes | None]
"""What the index says of accounts, by digest; None where it says nothing."""


class RedisOutbox:
    """An `Outbox`: the stream of one namespace, for the event loop that runs. Errors: ConfigError for a bad URL.

    Those who read it are consumers of one group: each entry is one reader's, until that drops it or is gone.

    Args:
        claim_after_ms: what another reader has not dropped for so long is taken over: it may be dead. 0 takes all, for
            who reads once and must not leave what somebody has left a moment ago: entries that two move count once.
    """

    def __init__(self, url: str, namespace: str, timeout_ms: int, claim_after_ms: int = 0) -> None:
        self._keys = Keys(namespace)
        self._namespace = namespace
        self._claim_after_ms = claim_after_ms
        self._me = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        # What it moves may have been evicted already: that is for the store to refuse.
        self._is_known = False
        self._server = Server(parse_address(url), timeout_ms, slot_key=self._keys.meta, allow_eviction=True)

    async def read(self, most: int, after: str = "") -> list[OutboxRow]:
        if not after:
            await self._claim()
        found = await self._mine(most, after or "0")
        if len(found) < most:
            found += await self._read(">", most - len(found))
        digests = list({digest for _, fields in found for digest in digests_of(fields)})
        words = await self._ask("HMGET", self._keys.index, *digests) if digests else []
        known = dict(zip(digests, words, strict=True))
        # Decoding takes the event loop some 50 us a row; a guard may be at work beside it.
        return await asyncio.to_thread(lambda: [self._row(entry_id.decode(), f, known) for entry_id, f in found])

    async def drop(self, entry_ids: Sequence[str]) -> None:
        acked: Command = ("XACK", self._keys.outbox, GROUP, *entry_ids)
        deleted: Command = ("XDEL", self._keys.outbox, *entry_ids)
        for reply in await self._server.ask([acked, deleted]):
            self._check(reply)

    async def aclose(self) -> None:
        """Close the connection. The group forgets this reader, unless entries are still its own."""
        try:
            if self._is_known and not await self._read("0", 1):
                await self._of_group("XGROUP", "DELCONSUMER", self._keys.outbox, GROUP, self._me)
        except StoreAway:
            return  # its name stays, and nothing else
        finally:
            await self._server.aclose()

    async def _claim(self) -> None:
        """Take over what others have had for too long."""
        start: Any = "0-0"
        while start is not None:
            found = await self._of_group(
                "XAUTOCLAIM", self._keys.outbox, GROUP, self._me, self._claim_after_ms, start, "COUNT", CLAIMED_AT_ONCE,
                "JUSTID",
            )  # fmt: skip
            start = None if found is None or found[0] == b"0-0" else found[0]

    async def _mine(self, most: int, after: str) -> list[Any]:
        """The oldest entries that are this reader's already. One that is gone from the stream is dropped."""
        found: list[Any] = []
        while len(found) < most:
            asked = most - len(found)
            some = await self._read(after, asked)
            gone = [entry_id for entry_id, fields in some if fields is None]
            if gone:
                await self._ask("XACK", self._keys.outbox, GROUP, *gone)
            found += [entry for entry in some if entry[1] is not None]
            if len(some) < asked:
                break
            after = some[-1][0].decode()
        return found

    async def _read(self, after: str, most: int) -> list[Any]:
        reply = await self._of_group(
            "XREADGROUP", "GROUP", GROUP, self._me, "COUNT", most, "STREAMS", self._keys.outbox, after
        )
        return [] if reply is None else list(reply[0][1])

    async def _of_group(self, *command: Any) -> Any:
        """The reply to a command of the group, which is made if need be; None where there is no stream yet."""
        (reply,) = await self._server.ask([command])
        if _says(reply, "NOGROUP"):
            (made,) = await self._server.ask([("XGROUP", "CREATE", self._keys.outbox, GROUP, "0")])
            if not _says(made, "BUSYGROUP") and not _says(made, NO_STREAM):  # somebody else has made it, or nobody can
                self._check(made)
            (reply,) = await self._server.ask([command])
        if _says(reply, "NOGROUP") or _says(reply, NO_STREAM):
            return None
        self._is_known = True
        return self._check(reply)

    async def _ask(self, *command: Any) -> Any:
        (reply,) = await self._server.ask([command])
        return self._check(reply)

    def _check(self, reply: Any) -> Any:
        if isinstance(reply, Exception):
            raise StoreUnusable(f"the outbox {self._keys.outbox.decode()} cannot be read: {reply}")
        return reply

    def _row(self, entry_id: str, fields: list[bytes], words: Words) -> OutboxRow:
        try:
            row = flush_from(fields[1]) if fields[0] == REFUSALS else row_from(fields[1], words)
            return OutboxRow(entry_id, self._namespace, row)
        except Exception as error:  # noqa: BLE001 - whatever somebody has written there, only this entry stays
            unreadable = StoreUnusable(f"entry {entry_id} of the outbox cannot be read: {error!r}")
            return OutboxRow(entry_id, self._namespace, unreadable)


def _says(reply: Any, word: str) -> bool:
    """Whether it is an error that says so."""
    return isinstance(reply, Exception) and word in str(reply)


def digests_of(fields: list[bytes]) -> list[bytes]:
    """The accounts that an entry names; none if it cannot be read, which `_row` will say."""
    try:
        digests = unpack(fields[1])[DIGESTS] if fields[0] != REFUSALS else []
        return [digest for digest in digests if isinstance(digest, bytes)]
    except (ValueError, TypeError, LookupError):
        return []


def row_from(packed: bytes, words: Words) -> Row:
    """A ledger row, as `lua/lib/rows.lua` writes it; `words` are those of its accounts, by digest.

    Raises:
        Exception: it is none; of which kind depends on what it is.
    """
    (
        id, revision, status, admitted_ms, slot_ms, settled_ms, info, usage, estimate, digests, shadows, latency_ms,
        error_type, price_source, expired,
    ) = unpack(packed)  # fmt: skip
    labels, estimate_source, host, operation_id, attempt, *texts = unpack(info)
    prompt_hash, process, library_version = (text.decode() for text in texts)
    claims = tuple(Claim(_account(words.get(digest)), 0) for digest in digests)
    tokens_and_cost = _usage_from(usage) if usage else UsageRow()
    _check(revision, admitted_ms, slot_ms, settled_ms, latency_ms, *estimate, *expired, *tokens_and_cost[:5])
    _check(tokens_and_cost.cost_nanousd or 0, tokens_and_cost.first_token_ms or 0, attempt)
    if status.decode() not in STATUSES:
        raise ValueError(f"status {status!r}")
    return Row(
        id.decode(), revision, status.decode(), admitted_ms, slot_ms, settled_ms,
        CallInfo(
            {name.decode(): value.decode() for name, value in labels.items()}, "", host.decode(),
            operation_id=operation_id.decode(), attempt=attempt, prompt_hash=prompt_hash, process=process,
            library_version=library_version,
        ),
        tokens_and_cost, Amounts(*estimate), Plan(claims), (),
        tuple(name.decode() for name in shadows), latency_ms, error_type.decode(),
        (estimate_source if price_source is False else price_source).decode(), Amounts(*expired),
    )  # fmt: skip


def _usage_from(packed: bytes) -> UsageRow:
    *counts, source, streamed, first_token_ms = unpack(packed)
    if type(streamed) is not bool:
        raise ValueError(f"streamed {streamed!r}")
    return UsageRow._make([*counts, source.decode(), streamed, first_token_ms])


def _check(*amounts: Any) -> None:
    for amount in amounts:
        if type(amount) is not int or not 0 <= amount <= MAX_AMOUNT:
            raise ValueError(f"amounts {amounts}")


@lru_cache(4096)
def _account(words: bytes | None) -> Account:
    if words is None:
        raise LookupError("the index has no words for one of its accounts")
    return account_from(words)
