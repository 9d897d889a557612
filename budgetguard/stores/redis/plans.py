"""Plans as Lua reads them: the accounts by digest with the limits that judge them, and the words of each account.

`lua/lib/plans.lua` and `lua/lib/asked.lua` say the same from the other side.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from typing import Any

import msgpack

from budgetguard.core.amounts import UNITS
from budgetguard.core.model import Account, Claim, Plan
from budgetguard.core.periods import PeriodKind, parse_period_text
from budgetguard.stores.redis.keys import Keys, content_digest, digest_of

KINDS: tuple[PeriodKind, ...] = ("calendar", "rolling", "total", "concurrent")
MOST_KEPT = 4096
_compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_UNIT_NUMBERS = {unit: number for number, unit in enumerate(UNITS, 1)}
_KIND_NUMBERS = {kind: number for number, kind in enumerate(KINDS, 1)}


class _Packers(threading.local):
    """One for each thread, kept: each has a buffer of a quarter of a megabyte."""

    def __init__(self) -> None:
        self.pack = msgpack.Packer(use_bin_type=False).pack


_packers = _Packers()


class SentPlan:
    """What is sent of a plan, and what is needed to read the answers. `accounts` are by digest, in the plan's order.

    `told`: a grant has been seen here, so that the index has the words of its accounts, and they are left out.
    """

    def __init__(self, plan: Plan, keys: Keys) -> None:
        self.plan = plan  # kept alive, so that its id stays its own
        self.accounts = {digest_of(claim.account.key): claim.account for claim in plan.claims}
        self.keys = tuple(map(keys.account, self.accounts))
        self.touched = dict.fromkeys(self.keys)
        self.told = False
        content = content_digest("\n".join(plan.identities))
        end_ms = -1 if plan.window_end_ms is None else plan.window_end_ms
        text = pack([int(plan.on_expiry == "charge"), content, *map(_claim, plan.claims)])
        self._head = text, plan.window_start_ms, end_ms

    def wire(self, whole: bool) -> tuple[bytes, int, int, bytes]:
        """{text, window_start_ms, window_end_ms or -1, words of its accounts (packed) or nothing}."""
        wanted = whole or not self.told
        return *self._head, pack([words_of(claim.account) for claim in self.plan.claims]) if wanted else b""


class SentPlans:
    """Makes each plan ready once: it is shared by the calls of one subject and window."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._made: dict[int, SentPlan] = {}

    def of(self, plan: Plan) -> SentPlan:
        """What is sent of this plan."""
        sent = self._made.get(id(plan))
        if sent is None:
            if len(self._made) >= MOST_KEPT:
                self._made.clear()
            sent = self._made[id(plan)] = SentPlan(plan, self._keys)
        return sent


def _claim(claim: Claim) -> list[Any]:
    account = claim.account
    shadow = "" if claim.enforced else account.budget
    digest, unit, kind = digest_of(account.key), _UNIT_NUMBERS[account.unit], _KIND_NUMBERS[account.period.kind]
    *levels, last = claim.alert_levels or (0,)
    levels += [last == claim.limit or last] if claim.alert_levels else []
    return [digest, unit, kind, term_of(account), claim.limit, shadow, *levels]


def kind_of(account: Account) -> int:
    """The number of its period's kind."""
    return _KIND_NUMBERS[account.period.kind]


def term_of(account: Account) -> int:
    """What tells how long an account counts: its window's end or its rolling period's span, in ms; else 0."""
    return account.window_end_ms or account.period.span_ms


def digests_in(text: bytes) -> list[bytes]:
    """The accounts of a plan's text.

    Raises:
        ValueError: it is no such text.
    """
    _, _, *claims = unpack(text)
    digests = [claim[0] for claim in claims]
    if not all(isinstance(digest, bytes) for digest in digests):
        raise ValueError("no digests")
    return digests


def words_of(account: Account) -> bytes:
    """What the index says of an account; `account_from` is its inverse."""
    return _compact(account.parts).encode()


def account_from(words: bytes) -> Account:
    """The account of these words.

    Raises:
        ValueError: they are not an account's.
    """
    budget, per, unit, period, window, start_ms, end_ms = json.loads(words)
    labels = tuple((name, value) for name, value in per)
    return Account(budget, labels, unit, parse_period_text(period), window, start_ms, end_ms)


def accounts_from(words: Iterable[bytes]) -> dict[bytes, Account]:
    """The accounts of these words, by digest."""
    accounts = map(account_from, words)
    return {digest_of(account.key): account for account in accounts}


def pack(value: Any) -> bytes:
    """In the old format of MessagePack, which has one kind of string: what Redis' Lua reads."""
    packed: bytes = _packers.pack(value)
    return packed


def unpack_all(packed: bytes) -> list[Any]:
    """Packed values that stand one after the other.

    Raises:
        ValueError: the last one is cut short.
    """
    unpacker = msgpack.Unpacker(raw=True, strict_map_key=False)
    unpacker.feed(packed)
    values = list(unpacker)
    if unpacker.tell() != len(packed):
        raise ValueError("cut short")
    return values


def unpack(packed: bytes) -> Any:
    """The inverse; strings come as bytes.

    Raises:
        ValueError: it is not one packed value.
    """
    return msgpack.unpackb(packed, raw=True, strict_map_key=False)
