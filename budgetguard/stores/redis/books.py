"""A namespace of Redis as it stands: its accounts, open reservations and outbox, and what its server is set to.

Only looks, without a state of its own: so it can be asked of one whose state is lost, or that is being rebuilt.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from budgetguard.core.amounts import Amounts
from budgetguard.core.model import Account, Balance, OnExpiry
from budgetguard.errors import StoreUnusable
from budgetguard.ledger.charges import Charge, charge_of
from budgetguard.ledger.tally import OVERDUE_MS, Held, Look, Tally
from budgetguard.store import Clock
from budgetguard.stores.redis import calls
from budgetguard.stores.redis.address import parse_address
from budgetguard.stores.redis.calls import Caller
from budgetguard.stores.redis.errors import ReplyError
from budgetguard.stores.redis.keys import Keys
from budgetguard.stores.redis.noting import FIELD as REFUSALS
from budgetguard.stores.redis.outbox import digests_of, row_from
from budgetguard.stores.redis.plans import account_from, digests_in, unpack, unpack_all
from budgetguard.stores.redis.reading import balance_from, readable
from budgetguard.stores.redis.scripting import CLAIM
from budgetguard.stores.redis.server import Server

PAGE = 1_000
LASTING = frozenset({"meta", "outbox", "index"})
"""The keys that have no TTL, because they must not go."""
LEARNED = ("SCAN", "0"), ("CONFIG", "GET", "appendfsync")
"""What is looked at only by who may: no other command needs it."""
Told = Callable[[int], Iterable[Charge]]
"""What the SQL ledger's rows charge; takes the instant from which on calendar windows may be open. Blocking."""


class Meta(NamedTuple):
    """What the namespace says of itself; "" where it does not."""

    schema: str
    incarnation: str
    last_ms: str
    clock: str

    @property
    def claimed_by(self) -> str:
        """Who rebuilds it at the moment; "" for nobody."""
        claim = CLAIM.decode()
        return self.incarnation.removeprefix(claim) if self.incarnation.startswith(claim) else ""


class RedisBooks:
    """The books of one namespace, for the event loop that runs.

    Raises:
        ConfigError: the URL is of no Redis.
        StoreAway, StoreUnusable: from every method, if it cannot be reached or read.
    """

    def __init__(
        self, url: str, namespace: str, timeout_ms: int, clock: Clock | None = None, on_expiry: OnExpiry = "charge"
    ) -> None:
        self.keys = Keys(namespace)
        self.clock = clock
        self._on_expiry = on_expiry
        self.server = Server(parse_address(url), timeout_ms, slot_key=self.keys.meta, allow_eviction=True)

    async def meta(self) -> Meta:
        """Of one that was never opened all is empty."""
        return (await self._said())[0]

    async def now_ms(self) -> int:
        """The time as scripts would tell it."""
        last_ms = (await self.meta()).last_ms
        return max(await self.clock_ms(), int(last_ms) if last_ms.isascii() and last_ms.isdecimal() else 0)

    async def clock_ms(self) -> int:
        """What the clock says."""
        if self.clock is not None:
            return self.clock.now_ms()
        seconds, micros = await self._ask("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    async def look(self, told: Told, since_ms: Callable[[int], int], pruned_ms: int | None = None) -> Look:
        """Accounts, then what is told of them, then the accounts once more; rows in the outbox count as the ledger's.

        The outbox is read before the ledger, so that no row is missed that a drain moves meanwhile.
        """
        before = await self.accounts()
        tally = Tally(await self.now_ms(), pruned_ms)
        held = [one async for one in self.held()]
        waiting, unreadable = await self.outbox()
        ended: set[str] = set()
        charges = _latest(waiting, told(since_ms(tally.now_ms)), {one.id for one in held}, ended)
        await asyncio.to_thread(lambda: tally.add(charges))
        tally.hold(one for one in held if one.id not in ended)
        overdue = sum(one.lease_end_ms + OVERDUE_MS < tally.now_ms for one in held)
        after = await self.accounts()
        return Look(tally, before, after, len(held), overdue, len(waiting), frozenset(ended), unreadable)

    async def accounts(self) -> dict[str, tuple[Account, Balance]]:
        """Those that the index names and that stand, by key."""
        now_ms, made = await self.now_ms(), {}
        async for entries in self._scanned("HSCAN", self.keys.index):
            accounts = [readable(account_from, words) for words in entries[1::2]]
            for account, value in zip(accounts, await self._values(map(self.keys.account, entries[::2])), strict=True):
                balance = None if value is None else readable(balance_from, value)
                if balance is not None and (balance.keep_until_ms > now_ms or balance.reserved):
                    made[account.key] = account, balance
        return made

    async def held(self) -> AsyncIterator[Held]:
        """Open reservations."""
        told: set[bytes] = set()
        async for entries in self._scanned("ZSCAN", self.keys.open):
            ids = [id for id in entries[::2] if id and id not in told]
            told.update(ids)
            records = await self._values(self.keys.hold(id.decode()) for id in ids)
            found = [
                (id, fields)
                for id, record in zip(ids, records, strict=True)
                if record is not None and (fields := readable(unpack_all, record))[0] == b"held"
            ]
            plans = [readable(digests_in, fields[6]) for _, fields in found]
            words = await self._words({digest for plan in plans for digest in plan})
            for (id, fields), plan in zip(found, plans, strict=True):
                accounts = tuple(account_from(text) for digest in plan if (text := words[digest]) is not None)
                _, admitted_ms, slot_ms, lease_ms, *_ = fields
                yield Held(id.decode(), accounts, Amounts(*fields[7]), admitted_ms + slot_ms, admitted_ms + lease_ms)

    async def outbox(self) -> tuple[dict[str, Charge], dict[str, str]]:
        """What rows charge that nobody has drained, the latest of each call; and by entry which are none, and why."""
        charges: dict[str, Charge] = {}
        unreadable: dict[str, str] = {}
        start: Any = b"-"
        while entries := await self._ask("XRANGE", self.keys.outbox, start, "+", "COUNT", PAGE):
            rows = [(id.decode(), fields) for id, fields in entries if fields[0] != REFUSALS]
            words = await self._words({digest for _, fields in rows for digest in digests_of(fields)})
            for id, fields in rows:
                try:
                    charge = charge_of(row_from(fields[1], words), self._on_expiry)
                except Exception as error:  # noqa: BLE001 - whatever somebody has written there
                    unreadable[id] = repr(error)
                    continue
                known = charges.get(charge.id)
                if known is None or charge.revision > known.revision:
                    charges[charge.id] = charge
            start = b"(" + entries[-1][0]
        return charges, unreadable

    async def records(self, ids: Sequence[str]) -> Sequence[bytes | None]:
        """What is remembered of these reservations."""
        return await self._values(map(self.keys.hold, ids))

    async def permitted(self) -> frozenset[str]:
        """Which of `LEARNED` the user may run."""
        return (await self._said())[1]

    async def lasting(self) -> tuple[int, list[str]]:
        """How many keys the namespace has, and which of them have no TTL though they should. For who may SCAN."""
        count, found = 0, []
        pattern = "".join(f"\\{sign}" if sign in "*?[]\\^-" else sign for sign in self.keys.prefix) + "*"
        cursor = b"0"
        while True:
            cursor, keys = await self._ask("SCAN", cursor, "MATCH", pattern, "COUNT", PAGE)
            count += len(keys)
            replies = await self.server.ask([("PTTL", key) for key in keys]) if keys else []
            for key, ttl_ms in zip(keys, replies, strict=True):
                name = key.decode(errors="replace").removeprefix(self.keys.prefix)
                if self._checked(ttl_ms) == -1 and name not in LASTING:
                    found.append(name)
            if cursor == b"0":
                return count, sorted(set(found))

    async def facts(self) -> dict[str, str]:
        """INFO as it stands, by field; and `appendfsync`, where the user may ask for it."""
        info = b"\r\n".join([
            await self._ask("INFO", section) for section in ("server", "memory", "persistence", "stats", "replication")
        ])  # fmt: skip
        found = dict(line.split(":", 1) for line in info.decode(errors="replace").splitlines() if ":" in line)
        if "CONFIG" in await self.permitted():
            found |= {"appendfsync": (await self._ask("CONFIG", "GET", "appendfsync"))[1].decode()}
        return found

    async def aclose(self) -> None:
        """Close the connection."""
        await self.server.aclose()

    async def _said(self) -> tuple[Meta, frozenset[str]]:
        call = calls.look(caller=Caller(self.keys, b"", None, 0), commands=LEARNED)
        _, fields, words = unpack(await self._ask(*call.by_text))
        meta = Meta(*((value or b"").decode() for value in fields))
        return meta, frozenset(word.decode() for word in words)

    async def _scanned(self, command: str, key: bytes) -> AsyncIterator[list[bytes]]:
        cursor = b"0"
        while True:
            cursor, entries = await self._ask(command, key, cursor, "COUNT", PAGE)
            yield entries
            if cursor == b"0":
                return

    async def _values(self, keys: Iterable[bytes]) -> Sequence[bytes | None]:
        wanted = list(keys)
        return list(await self._ask("MGET", *wanted)) if wanted else []

    async def _words(self, digests: set[bytes]) -> dict[bytes, bytes | None]:
        wanted = list(digests)
        return dict(zip(wanted, await self._ask("HMGET", self.keys.index, *wanted), strict=True)) if wanted else {}

    async def _ask(self, *command: Any) -> Any:
        (reply,) = await self.server.ask([command])
        return self._checked(reply)

    def _checked(self, reply: Any) -> Any:
        if isinstance(reply, ReplyError):
            raise StoreUnusable(f"the namespace {self.keys.prefix} cannot be read: {reply}")
        return reply


def _latest(waiting: dict[str, Charge], told: Iterable[Charge], held: set[str], ended: set[str]) -> Iterator[Charge]:
    """Of each call the row of the highest revision: a drain may have written it already, or an older one.

    Those of `held` that have a row are put into `ended`: what ended them was lost, and the row was not.
    """
    left = dict(waiting)
    ended |= left.keys() & held
    for charge in told:
        if charge.id in held:
            ended.add(charge.id)
        other = left.get(charge.id)
        if other is None or other.revision <= charge.revision:
            left.pop(charge.id, None)
            yield charge
    yield from left.values()
