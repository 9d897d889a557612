"""The oracle: `core.machine` over plain dicts, with everything that a store must do around it and nothing else.

It keeps reservations and balances itself, applies what the verbs return, forgets what is too old, tells the time, and
remembers of every resolved call what the ledger would be asked for once the id is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from budgetguard.core import machine
from budgetguard.core.amounts import Amounts
from budgetguard.core.balances import announced_level
from budgetguard.core.machine import Change, State
from budgetguard.core.model import Account, Balance, Reservation
from budgetguard.core.verbs import Expire, Extend, Grow, Release, Reserve, Row, Settle

CLOCK_TOLERANCE_MS = 60_000
VERBS: Mapping[type, Callable[[State, Any, int], tuple[Any, Change]]] = {
    Reserve: machine.reserve, Settle: machine.settle, Release: machine.release,
    Grow: machine.grow, Extend: machine.extend, Expire: machine.expire,
}  # fmt: skip


class Announce(NamedTuple):
    """Mark an account as announced up to a level."""

    account: Account
    level: int


@dataclass
class Oracle:
    """One namespace. `step` is one transaction; its answers are what the store must answer.

    `asks_ledger`: an id that was forgotten is looked up in the ledger, as SQLite does and Redis cannot (DESIGN 4).
    `written` has the ledger row of each operation of the last step, None where it wrote none.
    """

    asks_ledger: bool = True

    last_ms: int = 0
    balances: dict[str, Balance] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    reservations: dict[str, Reservation] = field(default_factory=dict)
    ledger: dict[str, tuple[Row, Reservation]] = field(default_factory=dict)
    written: list[Row | None] = field(default_factory=list)

    def step(self, ops: Sequence[Any], clock_ms: int) -> list[Any]:
        """The answers to the operations of one transaction."""
        behind = self.last_ms - clock_ms > CLOCK_TOLERANCE_MS
        self.hear(clock_ms)
        self.written = []
        answers = []
        for op in ops:
            self.hear(self.last_ms)
            answers.append(self._announce(op) if isinstance(op, Announce) else self._do(op, behind))
        return answers

    def hear(self, clock_ms: int) -> None:
        """Time never runs backwards; what is too old is forgotten."""
        self.last_ms = now_ms = max(self.last_ms, clock_ms)
        for id in [i for i, r in self.reservations.items() if r.state != "held" and r.keep_until_ms <= now_ms]:
            del self.reservations[id]
        for key in [k for k, b in self.balances.items() if b.keep_until_ms <= now_ms and b.reserved == 0]:
            del self.balances[key]

    def due(self) -> set[str]:
        """Ids of the open reservations whose lease has passed."""
        held = {id: found.lease_end_ms for id, found in self.reservations.items() if found.state == "held"}
        return {id for id, lease_end_ms in held.items() if lease_end_ms <= self.last_ms}

    def _do(self, op: Any, behind: bool) -> Any:
        known = self.reservations.get(op.id)
        forgotten = isinstance(op, Settle) and (known is None or known.state == "tombstone") and op.id in self.ledger
        if forgotten and self.asks_ledger:
            known = remembered(*self.ledger[op.id], op)
        state = State(known, self.balances, behind, self.asks_ledger)
        answer, change = VERBS[type(op)](state, op, self.last_ms)
        if change.reservation is not None:
            self.reservations[op.id] = change.reservation
            self.accounts.update((c.account.key, c.account) for c in change.reservation.plan.claims)
        self.balances.update(change.accounts)
        self.written.append(change.row)
        if change.row is not None and change.reservation is not None:
            known_row = self.ledger.get(op.id)
            if known_row is None or change.row.revision > known_row[0].revision:
                self.ledger[op.id] = change.row, change.reservation
        return answer

    def _announce(self, op: Announce) -> bool:
        self.written.append(None)
        balance = self.balances.get(op.account.key)
        if balance is None or announced_level(op.account, balance, self.last_ms) >= op.level:
            return False
        self.balances[op.account.key] = balance._replace(announced=op.level, announced_ms=self.last_ms)
        return True


def remembered(row: Row, resolved: Reservation, op: Settle) -> Reservation:
    """A reservation that was forgotten, as its row and a settle can tell it."""
    expired = Amounts(tokens=row.expired_charge.tokens, usd=row.expired_charge.usd)
    return resolved._replace(
        plan=op.plan, estimate=op.estimate, info=op.info, admitted_ms=op.admitted_ms, lease_end_ms=row.slot_ms,
        expired_charge=expired,
    )  # fmt: skip
