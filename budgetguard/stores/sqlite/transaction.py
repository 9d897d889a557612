"""One transaction: rows -> `core.machine` -> rows, for a whole batch of operations.

The batch is decided in memory on what was read at its start; each row that changed is written once, at its end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import apsw

from budgetguard.core import machine
from budgetguard.core.balances import announced_level
from budgetguard.core.machine import Change, State
from budgetguard.core.model import Account, Balance, Plan, Reservation, plan_from_text
from budgetguard.core.verbs import Expire, Extend, Grow, Release, Reserve, Row, Settle, Verdict
from budgetguard.errors import StoreUnusable
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
PLANS_KEPT = 4096


class Announce(tuple[Account, int]):
    """Mark an account as announced up to a level."""


class Transaction:
    """The state of one batch, inside a transaction that the caller has begun and will end."""

    def __init__(
        self, db: apsw.Connection, namespace: str, now_ms: int, clock_behind: bool, plans: dict[bytes, Plan]
    ) -> None:
        self._db = db
        self._namespace = namespace
        self._now_ms = now_ms
        self._clock_behind = clock_behind
        self._plans = plans
        self._balances: dict[str, Balance] = {}
        self._accounts: dict[str, Account] = {}
        self._reservations: dict[str, Reservation] = {}
        self._changed_accounts: set[str] = set()
        self._changed_reservations: dict[str, Reservation] = {}
        self._rows: dict[str, Row] = {}
        self._spoiled: dict[str, Exception] = {}
        self._sweep_due: bool | None = None

    def run(self, ops: Sequence[Any]) -> list[Any]:
        """Answers in order, a StoreUnusable in the place of an operation whose rows cannot be read."""
        self._read_reservations([op.id for op in ops if type(op) is not Announce])
        self._read_accounts(op.plan for op in ops if hasattr(op, "plan"))
        self._read_accounts(reservation.plan for reservation in list(self._reservations.values()))
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
            self._changed_accounts.update(change.accounts)
        if change.row is not None:
            self._rows[op.id] = change.row
        if answer.word == "refused":
            return self._with_sweep(answer)
        return answer

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
        self._changed_accounts.add(account.key)
        return True

    def _read_reservations(self, ids: list[str]) -> None:
        asked = (self._namespace, json.dumps(ids), self._now_ms)
        found: list[Any] = self._db.execute(schema.READ_RESERVATIONS, asked).fetchall()
        for row in found:
            try:
                self._reservations[row[1]] = rows.reservation_from(row, self._plan(row[3]))
            except (ValueError, TypeError, KeyError) as error:
                self._spoiled[row[1]] = error

    def _plan(self, digest: bytes) -> Plan:
        plan = self._plans.get(digest)
        if plan is None:
            ((body,),) = self._db.execute(schema.READ_PLAN, (digest,)).fetchall()
            plan = plan_from_text(str(body))
            if len(self._plans) >= PLANS_KEPT:
                self._plans.clear()
            self._plans[digest] = plan
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
        for key, *balance in self._db.execute(schema.READ_BALANCES, (self._namespace, keys, self._now_ms)):
            try:
                self._balances[key] = rows.balance_from(*balance)
            except (ValueError, TypeError) as error:
                self._spoiled[key] = error

    def _write(self) -> None:
        db, namespace = self._db, self._namespace
        if self._changed_reservations:
            digests: dict[str, bytes] = {}
            for reservation in self._changed_reservations.values():
                plan = reservation.plan
                if plan.text not in digests:
                    digests[plan.text] = digest = rows.digest_of(plan)
                    db.execute(schema.ADD_PLAN, (digest, plan.text))
            db.executemany(
                schema.WRITE_RESERVATION,
                (rows.reservation_row(namespace, r, digests[r.plan.text]) for r in self._changed_reservations.values()),
            )
        if self._changed_accounts:
            db.executemany(
                schema.WRITE_ACCOUNT,
                (rows.account_row(namespace, self._accounts[k], self._balances[k]) for k in self._changed_accounts),
            )
        if self._rows:
            db.executemany(schema.WRITE_ROW, (rows.ledger_row(namespace, row) for row in self._rows.values()))
