"""What a store shows to those who look: accounts and open holds, page by page, and what a sweep would find."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from fnmatch import fnmatchcase
from typing import Any

from budgetguard.core.balances import spent_and_reserved
from budgetguard.core.model import NO_LABEL, Account, Reservation
from budgetguard.store import AccountRow, HoldRow, Page, Store
from budgetguard.testing.oracle import Oracle
from budgetguard.testing.store_rules import StoreContractBroken, require

MOST_PAGES = 5_000
BUDGET_GLOBS = ("*", "*", "each-*", "days", "[ow]*", "nobody")


async def check_due(store: Store, oracle: Oracle, chance: random.Random) -> None:
    """The sweep's list: whole if there is room for it, the oldest first, never more than was asked for."""
    rule = "due lists the open reservations whose lease has passed, the oldest first, at most as many as are asked for"
    ends = {id: oracle.reservations[id].lease_end_ms for id in oracle.due()}
    for most in (chance.randint(1, 5), len(ends) + 1):
        found = await store.due(most)
        in_order = sorted(ends.values())[:most]
        right = len(set(found)) == len(found) and [ends.get(id) for id in found] == in_order
        require(right, rule, found, sorted(ends, key=lambda id: ends[id])[:most], f"due({most})")


async def check_accounts(store: Store, oracle: Oracle, chance: random.Random) -> None:
    """Every account of a current window on which something stands is shown, and none that does not match."""
    budget = chance.choice(BUDGET_GLOBS)
    labels = chance.choice([None, None, {"agent": "a"}, {"agent": "?"}])
    rows = await _all_pages(lambda cursor: store.read_accounts(budget, labels, cursor, chance.randint(1, 9)))
    shown = {row.account.key: row for row in rows}
    case = f"read_accounts({budget!r}, {labels})"
    for row in shown.values():
        _check_account(row, oracle, _matches(row.account, budget, labels), case)
    standing = {
        key: spent_and_reserved(account, oracle.balances[key], oracle.last_ms)
        for key, account in oracle.accounts.items()
        if key in oracle.balances and _is_current(account, oracle.last_ms) and _matches(account, budget, labels)
    }
    missing = sorted(key for key, amounts in standing.items() if any(amounts) and key not in shown)
    require(not missing, "read_accounts shows every account on which something stands", sorted(shown), missing, case)


def _check_account(row: AccountRow, oracle: Oracle, matches: bool, case: str) -> None:
    account = row.account
    require(matches, "read_accounts shows what its globs match, and nothing else", account, "", case)
    current = _is_current(account, oracle.last_ms)
    require(current, "read_accounts shows accounts of current windows only", account, oracle.last_ms, case)
    balance = oracle.balances.get(account.key)
    wanted = (0, 0) if balance is None else spent_and_reserved(account, balance, oracle.last_ms)
    found = row.spent, row.reserved, row.now_ms
    require(found == (*wanted, oracle.last_ms), "read_accounts shows accounts as they stand", row, wanted, case)


async def check_holds(store: Store, oracle: Oracle, chance: random.Random) -> None:
    """Every open reservation that matches is shown, with what it holds where and until when."""
    budget = chance.choice(BUDGET_GLOBS)
    labels = chance.choice([None, None, {"agent": "b"}, {"tenant": "*"}, {"session": "c1*"}])
    rows = await _all_pages(lambda cursor: store.read_holds(budget, labels, cursor, chance.randint(1, 9)))
    wanted = {
        id: _told(held)
        for id, held in oracle.reservations.items()
        if held.state == "held"
        and any(fnmatchcase(claim.account.budget, budget) for claim in held.plan.claims)
        and all(fnmatchcase(held.info.labels.get(name, NO_LABEL), glob) for name, glob in (labels or {}).items())
    }
    found = {row.id: _shown(row) for row in rows}
    case = f"read_holds({budget!r}, {labels})"
    require(found == wanted, "read_holds shows the open reservations that match, as they stand", found, wanted, case)


def _told(held: Reservation) -> tuple[Any, ...]:
    keys = sorted(claim.account.key for claim in held.plan.claims)
    return dict(held.info.labels), keys, held.estimate, held.info.host, held.admitted_ms, held.lease_end_ms


def _shown(row: HoldRow) -> tuple[Any, ...]:
    keys = sorted(account.key for account in row.accounts)
    return dict(row.labels), keys, row.estimate, row.host, row.admitted_ms, row.lease_end_ms


async def _all_pages(ask: Callable[[str | None], Awaitable[Page[Any]]]) -> list[Any]:
    rows: list[Any] = []
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        page = await ask(cursor)
        rows.extend(page.rows)
        cursor = page.cursor
        if cursor is None:
            return rows
    raise StoreContractBroken("the pages of a read come to an end", f"{MOST_PAGES} pages", cursor, None)


def _is_current(account: Account, now_ms: int) -> bool:
    start_ms, end_ms = account.window_start_ms, account.window_end_ms
    return start_ms is None or end_ms is None or start_ms <= now_ms < end_ms


def _matches(account: Account, budget: str, labels: dict[str, str] | None) -> bool:
    """A label that the account is not counted by tells nothing; a call without the label matches "(none)"."""
    return fnmatchcase(account.budget, budget) and all(
        fnmatchcase(account.subject[name], glob) for name, glob in (labels or {}).items() if name in account.subject
    )
