"""What `status` and `holds` show: accounts and open reservations, a page at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import apsw

from budgetguard.core.amounts import Amounts
from budgetguard.core.balances import EMPTY, spent_and_reserved
from budgetguard.core.model import NO_LABEL, Account, Balance, plan_from_text
from budgetguard.core.periods import parse_period_text
from budgetguard.errors import StoreUnusable
from budgetguard.store import AccountRow, HoldRow, Page
from budgetguard.stores.queries import Query
from budgetguard.stores.sqlite.rows import balance_from
from budgetguard.stores.sqlite.schema import READ_BALANCES

T = TypeVar("T")
ACCOUNTS = """
SELECT key, budget, per, unit, period, window, window_start_ms, window_end_ms,
       spent, reserved, announced, announced_ms, keep_until_ms, slots
FROM accounts
WHERE namespace = ?1 AND key > ?2 AND key < ?4
  AND (keep_until_ms > ?3 OR reserved > 0) AND ifnull(window_end_ms > ?3, TRUE)
ORDER BY key"""
LOOKED_AT_MOST = 5_000
"""How many rows make a page: others wait for the store meanwhile."""
HOLDS = """
SELECT r.id, r.body, r.admitted_ms, r.lease_end_ms, p.body
FROM reservations AS r INDEXED BY reservations_open LEFT JOIN plans AS p ON p.digest = r.plan
WHERE r.namespace = ? AND r.state = 'held' AND r.id > ?
ORDER BY r.id"""


def accounts(db: apsw.Connection, query: Query, now_ms: int) -> Page[AccountRow]:
    """Accounts whose window stands, by key."""
    rows: list[AccountRow] = []
    first, end = query.keys
    last = max(query.cursor or "", first)
    for number, found in enumerate(db.execute(ACCOUNTS, (query.namespace, last, now_ms, end))):
        if len(rows) == query.most or number == LOOKED_AT_MOST:
            return Page(tuple(rows), last)
        last = found[0]
        if query.finds_account(found[1], _readable(_labels, found)):
            account, balance = _readable(_account, found)
            rows.append(AccountRow(account, *spent_and_reserved(account, balance, now_ms), now_ms))
    return Page(tuple(rows), None)


def balances(db: apsw.Connection, namespace: str, accounts: Sequence[Account], now_ms: int) -> list[AccountRow]:
    """These accounts, in order; nothing is spent or reserved where there is none."""
    found: dict[Any, Balance] = {}
    keys = json.dumps([account.key for account in accounts])
    for key, *row in db.execute(READ_BALANCES, (namespace, keys, now_ms)):
        found[key] = _readable(lambda row: balance_from(*row[1:]), (key, *row))
    return [
        AccountRow(account, *spent_and_reserved(account, found.get(account.key, EMPTY), now_ms), now_ms)
        for account in accounts
    ]


def holds(db: apsw.Connection, query: Query, now_ms: int) -> Page[HoldRow]:
    """Open reservations, the oldest id first."""
    rows: list[HoldRow] = []
    last = query.cursor or ""
    for number, found in enumerate(db.execute(HOLDS, (query.namespace, last))):
        if len(rows) == query.most or number == LOOKED_AT_MOST:
            return Page(tuple(rows), last)
        last = found[0]
        row = _readable(_hold, found)._replace(now_ms=now_ms)
        if query.finds_hold(row):
            rows.append(row)
    return Page(tuple(rows), None)


def _readable(read: Callable[[tuple[Any, ...]], T], found: tuple[Any, ...]) -> T:
    try:
        return read(found)
    except (ValueError, TypeError) as error:
        raise StoreUnusable(f"the store's row of {found[0]} cannot be read: {error!r}") from error


def _labels(found: tuple[Any, ...]) -> dict[str, str]:
    return {name: NO_LABEL if value is None else value for name, value in json.loads(found[2])}


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
