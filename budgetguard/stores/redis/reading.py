"""What `status` and `holds` show, a page at a time, and what keeps their index small."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from budgetguard.core.amounts import MAX_AMOUNT, Amounts
from budgetguard.core.balances import EMPTY, spent_and_reserved
from budgetguard.core.model import Account, Balance
from budgetguard.errors import StoreUnusable
from budgetguard.store import AccountRow, HoldRow, Page
from budgetguard.stores.queries import Query
from budgetguard.stores.redis import calls
from budgetguard.stores.redis.keys import digest_of
from budgetguard.stores.redis.plans import account_from, digests_in, unpack, unpack_all
from budgetguard.stores.redis.scripting import Scripting
from budgetguard.stores.redis.server import Server

T = TypeVar("T")
PRUNE_PAGE = 500
PRUNE_PAGES = 20
"""Of one sweep, while every page has something to forget."""
MOST_DEAD = 65_536
ACCOUNT = struct.Struct("<5d")
"""As `lua/lib/accounts.lua` packs an account: doubles hold amounts exactly."""
DAY_MS = 86_400_000


class Reading:
    """Reads one namespace."""

    def __init__(self, scripting: Scripting) -> None:
        self._scripting = scripting
        self._keys = scripting.keys
        self._prune_cursor = b"0"
        self._dead: dict[bytes, int] = {}

    async def balances(self, server: Server, accounts: Sequence[Account]) -> list[AccountRow]:
        """These accounts, in order; nothing is spent or reserved where there is none."""
        now_ms = await self._now_ms(server)
        found = await self._balances(server, [digest_of(account.key) for account in accounts], now_ms)
        return [
            AccountRow(account, *spent_and_reserved(account, balance or EMPTY, now_ms), now_ms)
            for account, balance in zip(accounts, found, strict=True)
        ]

    async def accounts(self, server: Server, query: Query) -> Page[AccountRow]:
        """Accounts whose window stands, in no order."""
        now_ms = await self._now_ms(server)
        cursor, found = await self._scan(server, "HSCAN", self._keys.index, query)
        matching = {}
        for digest, words in zip(found[::2], found[1::2], strict=True):
            account = readable(account_from, words)
            stands = account.window_end_ms is None or account.window_end_ms > now_ms
            if stands and query.finds_account(account.budget, account.subject):
                matching[digest] = account
        balances = await self._balances(server, list(matching), now_ms)
        rows = [
            AccountRow(account, *spent_and_reserved(account, balance, now_ms), now_ms)
            for account, balance in zip(matching.values(), balances, strict=True)
            if balance is not None
        ]
        return Page(tuple(rows), cursor)

    async def holds(self, server: Server, query: Query) -> Page[HoldRow]:
        """Open reservations, in no order."""
        now_ms = await self._now_ms(server)
        cursor, found = await self._scan(server, "ZSCAN", self._keys.open, query)
        ids = [id.decode() for id in found[::2]]
        (records,) = await self._ask(server, ("MGET", *map(self._keys.hold, ids))) if ids else ([],)
        held = [
            (id, fields)
            for id, record in zip(ids, records, strict=True)
            if record is not None and (fields := readable(unpack_all, record))[0] == b"held"
        ]
        accounts = await self._accounts_of(server, [fields[6] for _, fields in held])
        rows = (_hold_row(id, fields, accounts, now_ms) for id, fields in held)
        return Page(tuple(row for row in rows if query.finds_hold(row)), cursor)

    async def prune(self, server: Server) -> None:
        """Forget accounts that have outlived their time, and their index entries: a part of the index in each sweep.

        Ledger rows name accounts by the index: so a dead one is forgotten when it is found for the second time, and all
        rows that were written before the first have been drained.
        """
        for _ in range(PRUNE_PAGES):
            (found,) = await self._ask(server, ("HSCAN", self._keys.index, self._prune_cursor, "COUNT", PRUNE_PAGE))
            self._prune_cursor, entries = found
            now_ms = await self._now_ms(server)
            old = [
                digest for digest, words in zip(entries[::2], entries[1::2], strict=True) if _may_be_dead(words, now_ms)
            ]
            if not old or not await self._forget(server, old):
                return

    async def _forget(self, server: Server, digests: list[bytes]) -> int:
        """How many of these are forgotten."""
        found_ms = [self._dead.pop(digest, 0) for digest in digests]
        now_ms, dead, forgotten = await self._scripting.one(
            server, lambda caller: calls.prune(caller=caller, digests=digests, found_dead_ms=found_ms)
        )
        before = dict(zip(digests, found_ms, strict=True))
        if len(self._dead) < MOST_DEAD:
            self._dead.update((digest, before[digest] or now_ms) for digest in dead)
        return int(forgotten)

    async def _accounts_of(self, server: Server, plans: Sequence[bytes]) -> dict[bytes, Account]:
        """The accounts that these plans name, by digest."""
        digests = list({digest for plan in plans for digest in readable(digests_in, plan)})
        (words,) = await self._ask(server, ("HMGET", self._keys.index, *digests)) if digests else ([],)
        found = zip(digests, words, strict=True)
        return {digest: readable(account_from, text) for digest, text in found if text is not None}

    async def _now_ms(self, server: Server) -> int:
        (now_ms,) = await self._scripting.one(server, lambda caller: calls.clock(caller=caller))
        return int(now_ms)

    async def _balances(self, server: Server, digests: Sequence[bytes], now_ms: int) -> list[Balance | None]:
        if not digests:
            return []
        (values,) = await self._ask(server, ("MGET", *map(self._keys.account, digests)))
        balances = [None if value is None else readable(balance_from, value) for value in values]
        return [b if b is not None and (b.keep_until_ms > now_ms or b.reserved) else None for b in balances]

    async def _scan(self, server: Server, command: str, key: bytes, query: Query) -> tuple[str | None, list[bytes]]:
        (found,) = await self._ask(server, (command, key, query.cursor or "0", "COUNT", query.most))
        cursor, entries = found
        return None if cursor == b"0" else cursor.decode(), entries

    async def _ask(self, server: Server, command: Sequence[Any]) -> list[Any]:
        replies = await server.ask([command])
        for reply in replies:
            if isinstance(reply, Exception):
                raise StoreUnusable(f"the namespace {self._keys.prefix} cannot be read: {reply}")
        return replies


def _may_be_dead(words: bytes, now_ms: int) -> bool:
    """Whether an account has no window, or one that ended a day ago; not if nobody can say: sweeps must go on."""
    try:
        return (account_from(words).window_end_ms or 0) + DAY_MS <= now_ms
    except (ValueError, TypeError, LookupError):
        return False


def _hold_row(id: str, fields: list[Any], accounts: Mapping[bytes, Account], now_ms: int) -> HoldRow:
    """Of an open reservation's record, as `lua/lib/holds.lua` writes it."""
    labels, _, host, *_ = readable(unpack, fields[10])
    digests = readable(digests_in, fields[6])
    return HoldRow(
        id, {name.decode(): value.decode() for name, value in labels.items()},
        tuple(accounts[digest] for digest in digests if digest in accounts), Amounts(*fields[7]),
        host.decode(), fields[1], fields[1] + fields[3], now_ms,
    )  # fmt: skip


def balance_from(packed: bytes) -> Balance:
    """The account's record, as `lua/lib/accounts.lua` writes it.

    Raises:
        ValueError, TypeError, struct.error: it is none.
    """
    flat = unpack(packed[ACCOUNT.size :]) if len(packed) > ACCOUNT.size else []
    amounts = [*ACCOUNT.unpack(packed[: ACCOUNT.size]), *flat]
    if not all(0 <= amount <= MAX_AMOUNT and amount == int(amount) for amount in amounts):
        raise ValueError(f"amounts {amounts}")
    slots = tuple(zip(flat[::3], flat[1::3], flat[2::3], strict=True))
    spent, reserved, announced, announced_ms, keep_until_ms = map(int, amounts[:5])
    return Balance(spent, reserved, announced, announced_ms, keep_until_ms, slots)


def readable(read: Callable[[Any], T], value: Any) -> T:
    """What was read, or a StoreUnusable that shows the value."""
    try:
        return read(value)
    except (ValueError, TypeError, LookupError, struct.error) as error:
        raise StoreUnusable(f"the store's value {value!r:.100} cannot be read: {error!r}") from error
