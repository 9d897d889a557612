"""One transaction: rows -> `core.machine` -> rows, for a whole batch of operations.

The batch is decided in memory on what was read at its start; each row that changed is written once, at its end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import apsw

from budgetguard.core import machine
from budgetguard.core.balances import announced_level
from budgetguard.core.machine import Change, State
from budgetguard.core.model import Account, Balance, Plan, Reservation, plan_from_text
from budgetguard.core.verbs import Expire, Extend, Grow, Release, Reserve, Row, Settle, Verdict
from budgetguard.errors import StoreUnusable
from budgetguard.ledger import table
from budgetguard.stores.sqlite import rows, schema

Verb = Callable[[State, Any, int], tuple[Any, Change]]
VERBS: dict[type, Verb] = {
    Reserve: machine.reserve,
    Settle: machine.settle,
    Release: machine.release,
    Grow: machine.grow,
    Extend: machine.extend,
    Expire: machine.expire,
}
RESOLVES = (Settle, Release, Expire)
MOST_KEPT = 4096


@dataclass
class Memory:
    """What a transaction may need of those before it. A cache: nothing in it is believed against the file's rows."""

    plans: dict[bytes, Plan] = field(default_factory=dict)
    """By digest."""
    holds: dict[str, tuple[tuple[Any, ...], Reservation]] = field(default_factory=dict)
    """By id, with the row that was written for it: while the file has that row, it need not be read into values."""
    balances: dict[str, tuple[tuple[Any, ...], Balance]] = field(default_factory=dict)
    """By the account's key, in the same way."""


class Announce(tuple[Account, int]):
    """Mark an account as announced up to a level."""


class Transaction:
    """The state of one batch, inside a transaction that the caller has begun and will end."""

    def __init__(self, db: apsw.Connection, namespace: str, now_ms: int, clock_behind: bool, memory: Memory) -> None:
        self._db = db
        self._namespace = namespace
        self._now_ms = now_ms
        self._clock_behind = clock_behind
        self._memory = memory
        self._read: dict[str, Balance] = {}
        self._balances: dict[str, Balance] = {}
        self._outlived: dict[str, Balance] = {}
        """What stood only for a hold on it that an operation has resolved: it is not there for the next one."""
        self._accounts: dict[str, Account] = {}
        self._reservations: dict[str, Reservation] = {}
        self._plans: dict[str, tuple[Plan, bytes]] = {}
        self._changed_reservations: dict[str, Reservation] = {}
        self._rows: dict[str, Row] = {}
        self._spoiled: dict[str, Exception] = {}
        self._sweep_due: bool | None = None

    def run(self, ops: Sequence[Any]) -> list[Any]:
        """Answers in order, a StoreUnusable in the place of an operation whose rows cannot be read."""
        self._read_reservations([op.id for op in ops if type(op) is not Announce])
        held = [reservation.plan for reservation in self._reservations.values()]
        self._read_accounts([*held, *(op.plan for op in ops if hasattr(op, "plan"))])
        answers: list[Any] = []
        for op in ops:
            try:
                answers.append(self._announce(*op) if type(op) is Announce else self._do(op))
            except StoreUnusable as error:
                answers.append(error)
        self._write()
        return answers

    def _do(self, op: Any) -> Any:
        known = self._reservations.get(op.id)
        if self._spoiled:
            plans = [plan for plan in (getattr(op, "plan", None), known and known.plan) if plan is not None]
            self._refuse_spoiled([op.id, *(claim.account.key for plan in plans for claim in plan.claims)])
        if type(op) is Settle and (known is None or known.state == "tombstone"):
            known = self._forgotten(op) or known
        answer, change = VERBS[type(op)](State(known, self._balances, self._clock_behind), op, self._now_ms)
        if change.reservation is not None:
            self._reservations[op.id] = self._changed_reservations[op.id] = change.reservation
        if change.accounts:
            self._balances.update(change.accounts)
            if type(op) in RESOLVES:
                self._drop_outlived(change.accounts)
        if change.row is not None:
            self._rows[op.id] = change.row
        if answer.word == "refused":
            return self._with_sweep(answer)
        return answer

    def _drop_outlived(self, accounts: Mapping[str, Balance]) -> None:
        for key, balance in accounts.items():
            if balance.keep_until_ms <= self._now_ms and not balance.reserved:
                self._outlived[key] = self._balances.pop(key)

    def _refuse_spoiled(self, needed: list[str]) -> None:
        """Raise StoreUnusable if a row that an operation needs could not be read: it changes nothing."""
        for name in needed:
            if name in self._spoiled:
                raise StoreUnusable(f"the store's row of {name} cannot be read: {self._spoiled[name]!r}")

    def _forgotten(self, op: Settle) -> Reservation | None:
        for row in self._db.execute(schema.READ_ROW, (op.id, self._namespace)):
            return rows.forgotten_from(op, row)
        return None

    def _with_sweep(self, verdict: Verdict) -> Verdict:
        if self._sweep_due is None:
            self._sweep_due = bool(self._db.execute(schema.DUE, (self._namespace, self._now_ms, 1)).fetchall())
        return verdict._replace(sweep_due=self._sweep_due)

    def _announce(self, account: Account, level: int) -> bool:
        self._read_accounts_of([account])
        self._refuse_spoiled([account.key])
        balance = self._balances.get(account.key)
        if balance is None or announced_level(account, balance, self._now_ms) >= level:
            return False
        self._balances[account.key] = balance._replace(announced=level, announced_ms=self._now_ms)
        return True

    def _read_reservations(self, ids: list[str]) -> None:
        asked = (self._namespace, json.dumps(ids), self._now_ms)
        found: list[Any] = self._db.execute(schema.READ_RESERVATIONS, asked).fetchall()
        for row in found:
            id, digest = row[1], row[3]
            written = self._memory.holds.get(id)
            try:
                if written is not None and written[0] == row:
                    reservation = written[1]
                else:
                    reservation = rows.reservation_from(row, self._plan(digest))
            except (ValueError, TypeError, LookupError) as error:
                self._spoiled[id] = error
                continue
            self._reservations[id] = reservation
            self._plans[id] = (reservation.plan, digest)

    def _plan(self, digest: bytes) -> Plan:
        plan = self._memory.plans.get(digest)
        if plan is None:
            ((body,),) = self._db.execute(schema.READ_PLAN, (digest,)).fetchall()
            plan = plan_from_text(str(body))
            _keep(self._memory.plans, digest, plan)
        return plan

    def _read_accounts(self, plans: Iterable[Plan]) -> None:
        distinct = {id(plan): plan for plan in plans}
        self._read_accounts_of([claim.account for plan in distinct.values() for claim in plan.claims])

    def _read_accounts_of(self, accounts: list[Account]) -> None:
        missing = {account.key: account for account in accounts if account.key not in self._accounts}
        if not missing:
            return
        self._accounts.update(missing)
        keys = json.dumps(list(missing))
        for row in self._db.execute(schema.READ_BALANCES, (self._namespace, keys, self._now_ms)):
            key = row[0]
            written = self._memory.balances.get(key)
            try:
                balance = written[1] if written is not None and written[0] == row else rows.balance_from(*row[1:])
                self._balances[key] = self._read[key] = balance
            except (ValueError, TypeError) as error:
                self._spoiled[key] = error

    def _write(self) -> None:
        if self._changed_reservations:
            self._write_reservations(self._changed_reservations.values())
        self._balances = self._outlived | self._balances
        changed = [key for key, balance in self._balances.items() if balance is not self._read.get(key)]
        if changed:
            self._write_accounts(changed)
        if self._rows:
            self._write_rows(self._rows.values())

    def _write_rows(self, changed: Iterable[Row]) -> None:
        written: dict[str, list[tuple[Any, ...]]] = {table.ADD_ROW: [], table.WRITE_ROW: []}
        for row in changed:
            statement = table.ADD_ROW if row.revision == 1 else table.WRITE_ROW
            written[statement].append(table.ledger_row(self._namespace, row))
        for statement, ledger in written.items():
            self._db.executemany(statement, ledger)

    def _write_reservations(self, changed: Collection[Reservation]) -> None:
        digests = self._digests(changed)
        written = [rows.reservation_row(self._namespace, r, digests[r.id]) for r in changed]
        self._db.executemany(schema.WRITE_RESERVATION, written)
        for reservation, row in zip(changed, written, strict=True):
            if reservation.state == "held":
                _keep(self._memory.holds, reservation.id, (row, reservation))
            else:
                self._memory.holds.pop(reservation.id, None)

    def _digests(self, changed: Collection[Reservation]) -> dict[str, bytes]:
        """Of each reservation's plan, by id. Plans that may not be in the file yet are written."""
        digests: dict[str, bytes] = {}
        new: dict[str, bytes] = {}
        for reservation in changed:
            plan, digest = self._plans.get(reservation.id, (None, b""))
            if plan is not reservation.plan:
                text = reservation.plan.text
                digest = new.get(text) or new.setdefault(text, rows.digest_of(text))
            digests[reservation.id] = digest
        self._db.executemany(schema.ADD_PLAN, [(digest, text) for text, digest in new.items()])
        return digests

    def _write_accounts(self, changed: Iterable[str]) -> None:
        written: dict[str, list[tuple[Any, ...]]] = {
            schema.WRITE_ACCOUNT: [], schema.PROLONG_ACCOUNT: [], schema.UPDATE_ACCOUNT: []
        }  # fmt: skip
        for key in changed:
            balance, before = self._balances[key], self._read.get(key)
            if before is None:
                written[schema.WRITE_ACCOUNT].append(rows.account_row(self._namespace, self._accounts[key], balance))
                continue
            row = rows.balance_row(self._namespace, key, balance)
            _keep(self._memory.balances, key, (row[1:], balance))
            stands = balance.keep_until_ms == before.keep_until_ms
            written[schema.UPDATE_ACCOUNT if stands else schema.PROLONG_ACCOUNT].append(row)
        for statement, accounts in written.items():
            self._db.executemany(statement, accounts)


def _keep(cache: dict[Any, Any], key: Any, value: Any) -> None:
    if len(cache) >= MOST_KEPT:
        cache.clear()
    cache[key] = value
