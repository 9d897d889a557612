"""What `status` and `holds` show: accounts and open reservations, a page at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import apsw

from budgetguard.core.amounts import Amounts
from budgetguard.core.balances import spent_and_reserved
from budgetguard.core.model import NO_LABEL, Account, Balance, plan_from_text
from budgetguard.core.periods import parse_period_text
from budgetguard.errors import StoreUnusable
from budgetguard.store import AccountRow, HoldRow, Page
from budgetguard.stores.sqlite.rows import balance_from

T = TypeVar("T")
ACCOUNTS = """
SELECT key, budget, per, unit, period, window, window_start_ms, window_end_ms,
       spent, reserved, announced, announced_ms, keep_until_ms, slots
FROM accounts
WHERE namespace = ?1 AND key > ?2 AND (keep_until_ms > ?3 OR reserved > 0) AND ifnull(window_end_ms > ?3, TRUE)
ORDER BY key"""
HOLDS = """
SELECT r.id, r.body, r.admitted_ms, r.lease_end_ms, p.body
FROM reservations AS r INDEXED BY reservations_open LEFT JOIN plans AS p ON p.digest = r.plan
WHERE r.namespace = ? AND r.state = 'held' AND r.id > ?
ORDER BY r.id"""


class Query(NamedTuple):
    """Globs (as fnmatchcase) of a budget's name and of labels; a label that is missing matches "(none)"."""

    namespace: str
    budget: str
    labels: Mapping[str, str]
    cursor: str | None
    most: int

    def matches(self, budgets: set[str], labels: Mapping[str, str]) -> bool:
        """Whether one of the budgets, and all labels that are asked for, match."""
        return any(fnmatchcase(budget, self.budget) for budget in budgets) and all(
            fnmatchcase(labels.get(name, NO_LABEL), glob) for name, glob in self.labels.items()
        )


def accounts(db: apsw.Connection, query: Query, now_ms: int) -> Page[AccountRow]:
    """Accounts whose window stands. A label that is not among an account's `per` does not tell accounts apart."""
    rows: list[AccountRow] = []
    bindings = (query.namespace, query.cursor or "", now_ms)
    for found in db.execute(ACCOUNTS, bindings):
        if len(rows) == query.most:
            return Page(tuple(rows), rows[-1].account.key)
        account, balance = _readable(_account, found)
        asked = {name: glob for name, glob in query.labels.items() if name in account.subject}
        if query._replace(labels=asked).matches({account.budget}, account.subject):
            spent, reserved = spent_and_reserved(account, balance, now_ms)
            rows.append(AccountRow(account, spent, reserved, now_ms))
    return Page(tuple(rows), None)


def holds(db: apsw.Connection, query: Query, now_ms: int) -> Page[HoldRow]:
    """Open reservations, the oldest id first."""
    rows: list[HoldRow] = []
    for found in db.execute(HOLDS, (query.namespace, query.cursor or "")):
        if len(rows) == query.most:
            return Page(tuple(rows), rows[-1].id)
        row = _readable(_hold, found)._replace(now_ms=now_ms)
        if query.matches({account.budget for account in row.accounts} or {"*"}, row.labels):
            rows.append(row)
    return Page(tuple(rows), None)


def _readable(read: Callable[[tuple[Any, ...]], T], found: tuple[Any, ...]) -> T:
    try:
        return read(found)
    except (ValueError, TypeError) as error:
        raise StoreUnusable(f"the store's row of {found[0]} cannot be read: {error!r}") from error


def _account(found: tuple[Any, ...]) -> tuple[Account, Balance]:
    _, budget, per, unit, period, window, start_ms, end_ms, *balance = found
    labels = tuple((name, value) for name, value in json.loads(per))
    account = Account(budget, labels, unit, parse_period_text(period), window, start_ms, end_ms)
    return account, balance_from(*balance)


def _hold(found: tuple[Any, ...]) -> HoldRow:
    id, body, admitted_ms, lease_end_ms, plan = found
    estimate, _, labels, _, host, *_ = json.loads(body)
    return HoldRow(id, labels, _held_on(plan), Amounts(*estimate), host, admitted_ms, lease_end_ms, 0)


@lru_cache(4096)
def _held_on(plan: str) -> tuple[Account, ...]:
    return tuple(claim.account for claim in plan_from_text(plan).claims)
