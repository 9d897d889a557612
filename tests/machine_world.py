"""The oracle, told in the form in which all that stands in a store is compared."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from budgetguard.core.model import Balance, CallInfo, Reservation
from budgetguard.core.verbs import Expire, Extend, Grow, Release, Reserve, Row, Settle
from budgetguard.testing.oracle import Announce, Oracle


async def asked_at_once(store: Any, ops: Sequence[Any]) -> list[Any]:
    """The answers to operations that are asked in one round of the event loop, in this order.

    That takes a task for each only where one of them is announced: its coroutine would begin a round after the others.
    """
    verbs = {
        Reserve: store.reserve, Settle: store.settle, Release: store.release, Grow: store.grow, Extend: store.extend,
        Expire: store.expire, Announce: store.announce,
    }  # fmt: skip

    async def asked(op: Any) -> Any:
        return await verbs[type(op)]([op])

    ask = asked if Announce in map(type, ops) else lambda op: verbs[type(op)]([op])
    return [answer for (answer,) in await asyncio.gather(*map(ask, ops))]


class Picture(NamedTuple):
    """All that stands in a store at an instant, in one form for every store: what is compared."""

    balances: Mapping[str, Balance]
    reservations: Mapping[str, tuple[Any, ...]]
    ledger: Mapping[str, tuple[Any, ...]]


@dataclass
class World(Oracle):
    """The oracle, with a picture of what stands."""

    _told: dict[tuple[str, str], tuple[Any, tuple[Any, ...]]] = field(default_factory=dict)

    def _do(self, op: Any, behind: bool) -> Any:
        answer = super()._do(op, behind)
        row = self.written[-1]
        assert row is None or not self.asks_ledger or self.ledger[op.id][0] is row, "a row is outranked by an older one"
        return answer

    def picture(self) -> Picture:
        """What stands now."""
        self.hear(self.last_ms)
        return Picture(
            dict(self.balances),
            {id: self._as_told("r", id, found, reservation_told) for id, found in self.reservations.items()},
            {id: self._as_told("l", id, row, row_told) for id, (row, _) in self.ledger.items()},
        )

    def _as_told(self, kind: str, id: str, found: Any, tell: Callable[[Any], tuple[Any, ...]]) -> tuple[Any, ...]:
        """As `tell` tells it; once for each value, which never changes."""
        known = self._told.get((kind, id))
        if known is None or known[0] is not found:
            known = self._told[kind, id] = found, tell(found)
        return known[1]


def reservation_told(r: Reservation) -> tuple[Any, ...]:
    """A reservation as plain values."""
    return (
        r.state, r.plan.text, tuple(r.estimate), tuple(r.charged), info_told(r.info), tuple(r.info.usage),
        r.admitted_ms, r.slot_ms, r.lease_end_ms, r.keep_until_ms, r.revision, tuple(r.would_refuse),
        tuple(r.expired_charge),
    )  # fmt: skip


def info_told(info: CallInfo) -> tuple[Any, ...]:
    """What is known of a call besides amounts, as plain values."""
    return (
        dict(info.labels), info.price_source, info.host, info.operation_id, info.attempt, info.prompt_hash,
        info.process, info.library_version,
    )  # fmt: skip


def row_told(row: Row) -> tuple[Any, ...]:
    """A ledger row as plain values: what a store must be able to tell of it."""
    counted = tuple(c.account.key for c in row.plan.claims if c.account.key not in row.gone)
    return (
        row.revision, row.status, row.timestamp_ms, row.settled_ms, row.slot_ms, dict(row.info.labels), *row.usage,
        row.estimate.tokens, row.estimate.usd, row.latency_ms, row.error_type, row.price_source, counted,
        tuple(row.would_refuse), row.info.host, row.info.operation_id or row.id, row.expired_charge.tokens,
        row.expired_charge.usd, row.info.attempt, row.info.prompt_hash, row.info.process, row.info.library_version,
    )  # fmt: skip
