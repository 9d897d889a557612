"""Operations as Lua reads them; the file of each verb in `lua/` says the same from the other side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from budgetguard.core.model import Account, CallInfo, Plan
from budgetguard.core.verbs import Expire, Extend, Grow, Release, Reserve, Settle
from budgetguard.stores.redis.keys import digest_of
from budgetguard.stores.redis.plans import kind_of, pack, term_of

Number = Callable[[Plan], int]
"""The number, from 1, under which a plan is sent beside the operations."""


class Announce(tuple[Account, int]):
    """Mark an account as announced up to a level."""


def operation(op: Any, number: Number, whole: bool) -> tuple[Any, ...]:
    """What is sent of an operation; a plan as its number. Unless `whole`, without what the script seldom needs."""
    return _whole_settle(op, number) if whole and type(op) is Settle else _SENT[type(op)](op, number)


def info_of(info: CallInfo) -> bytes:
    """What a ledger row will say of a call, as Lua passes it on unread."""
    return pack((
        dict(info.labels), info.price_source, info.host, info.operation_id, info.attempt, info.prompt_hash,
        info.process, info.library_version,
    ))  # fmt: skip


def _reserve(op: Reserve, number: Number) -> tuple[Any, ...]:
    return (
        "reserve", op.id, number(op.plan), op.estimate, info_of(op.info), pack(op.info.usage), op.lease_ms,
        op.replay_keep_ms, max(op.tried_since_ms, 0),
    )  # fmt: skip


def _settle(op: Settle, number: Number) -> tuple[Any, ...]:
    return (
        "settle", op.id, number(op.plan), op.actual, pack(op.usage), b"", op.status, op.estimate,
        max(op.admitted_ms, 0), op.replay_keep_ms, max(op.tried_since_ms, 0), op.latency_ms, op.error_type,
        op.price_source,
    )  # fmt: skip


def _whole_settle(op: Settle, number: Number) -> tuple[Any, ...]:
    verb, id, plan, actual, usage, _, *rest = _settle(op, number)
    return verb, id, plan, actual, usage, info_of(op.info), *rest


def _release(op: Release, number: Number) -> tuple[Any, ...]:
    return "release", op.id, op.replay_keep_ms


def _grow(op: Grow, number: Number) -> tuple[Any, ...]:
    return "grow", op.id, number(op.plan), op.to, pack(op.usage)


def _extend(op: Extend, number: Number) -> tuple[Any, ...]:
    return "extend", op.id, op.lease_ms


def _expire(op: Expire, number: Number) -> tuple[Any, ...]:
    return "expire", op.id


def _announce(op: Announce, number: Number) -> tuple[Any, ...]:
    account, level = op
    return "announce", digest_of(account.key), kind_of(account), term_of(account), level


_SENT: dict[type, Callable[[Any, Number], tuple[Any, ...]]] = {
    Reserve: _reserve,
    Settle: _settle,
    Release: _release,
    Grow: _grow,
    Extend: _extend,
    Expire: _expire,
    Announce: _announce,
}
