"""What `guard.status()` and `guard.available()` answer: the policy's limits beside what stands in the store."""

from __future__ import annotations

import glob
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from budgetguard.core.amounts import NANOUSD_PER_USD, Unit
from budgetguard.core.model import Account, Limit, Plan
from budgetguard.core.periods import window_at, zone_of
from budgetguard.store import AccountRow, HoldRow, Page

if TYPE_CHECKING:
    from budgetguard.policy import Budget, Policy
    from budgetguard.store import Store

Row = TypeVar("Row", AccountRow, HoldRow)


class AccountStatus(NamedTuple):
    """One account: integers of its unit (`usd`: nano-dollars). `resets_at` is None where nothing resets at once."""

    budget: str
    subject: dict[str, str]
    unit: Unit
    period: str
    limit: int
    spent: int
    reserved: int
    available: int
    resets_at: datetime | None


async def account_rows(policy: Policy, store: Store, labels: Mapping[str, str]) -> list[AccountStatus]:
    """The rows of `limited_accounts`, as users see them."""
    return [as_status(row, limit) for row, limit in await limited_accounts(policy, store, labels)]


async def limited_accounts(policy: Policy, store: Store, labels: Mapping[str, str]) -> list[tuple[AccountRow, int]]:
    """Each matching account and its limit, and for each limit of a budget without `per` one even before its first call.

    In the order of the policy's budgets and of their limits, then of the `per` values.
    """
    now_ms = await store.open()
    budgets = [budget for budget in policy.budgets if _may_match(budget, labels)]
    if not labels:  # one reading for all of them: each would look at every account
        read = defaultdict(list)
        async for row in every(store.read_accounts):
            read[row.account.budget].append(row)
        return [found for b in budgets for found in _limited(b, policy.timezone, read[b.name], now_ms)]
    limited: list[tuple[AccountRow, int]] = []
    for budget in budgets:
        per = {name: wanted for name, wanted in labels.items() if name in budget.per}
        rows = [row async for row in every(store.read_accounts, budget=glob.escape(budget.name), labels=per)]
        limited += _limited(budget, policy.timezone, rows, now_ms)
    return limited


def _limited(budget: Budget, timezone: str, found: list[AccountRow], now_ms: int) -> list[tuple[AccountRow, int]]:
    """Of the accounts of a budget's name those that its limits judge."""
    limits = {limit.identity: limit for limit in budget.parsed_limits(timezone)}
    rows: dict[str, list[AccountRow]] = {identity: [] for identity in limits}
    for row in found:
        identity = f"{row.account.unit}/{row.account.period}"
        if identity in limits and tuple(name for name, _ in row.account.per) == tuple(budget.per):
            rows[identity].append(row)
    for identity, limit in limits.items():
        if not rows[identity] and not budget.per:
            rows[identity] = [_unseen(budget.name, limit, now_ms)]
        rows[identity].sort(key=lambda row: [value or "" for _, value in row.account.per])
    return [(row, limit.amount) for identity, limit in limits.items() for row in rows[identity]]


def _unseen(budget: str, limit: Limit, now_ms: int) -> AccountRow:
    """The account that the first call will make."""
    window = window_at(limit.period, now_ms) if limit.period.kind == "calendar" else ()
    return AccountRow(Account(budget, (), limit.unit, limit.period, *window), 0, 0, now_ms)


async def amounts_left(plan: Plan, store: Store) -> dict[str, Any]:
    """What the accounts of a plan leave, by unit: the smallest decides."""
    left: dict[str, Any] = {}
    enforced = [claim for claim in plan.claims if claim.enforced]
    rows = await store.read_balances([claim.account for claim in enforced])
    for claim, row in zip(enforced, rows, strict=True):
        unit, amount = claim.account.unit, claim.limit - row.spent - row.reserved
        left[unit] = min(left.get(unit, amount), amount)
    if "usd" in left:
        left["usd"] = Decimal(left["usd"]) / NANOUSD_PER_USD
    return left


async def every(read: Callable[..., Awaitable[Page[Row]]], **asked: Any) -> AsyncIterator[Row]:
    """All that a `read_...` of a store finds, page by page, each row once. Errors: those of the store."""
    told: set[str] = set()
    cursor: str | None = None
    while True:
        page = await read(**asked, cursor=cursor)
        for row in page.rows:
            key = row.account.key if isinstance(row, AccountRow) else row.id
            if key not in told:
                told.add(key)
                yield row
        if (cursor := page.cursor) is None:
            return


def _may_match(budget: Budget, labels: Mapping[str, str]) -> bool:
    """Whether calls with these labels (globs) can count against the budget, as far as its `where` tells."""
    return all(
        fnmatchcase(labels[name], wanted) or fnmatchcase(wanted, labels[name])
        for name, wanted in budget.where.items()
        if name in labels
    )


def as_status(row: AccountRow, limit: int) -> AccountStatus:
    """An account of the store beside the limit that judges it."""
    account = row.account
    resets_at = None
    if account.window_end_ms is not None:
        resets_at = datetime.fromtimestamp(account.window_end_ms / 1000, zone_of(account.period.zone))
    left = limit - row.spent - row.reserved
    return AccountStatus(
        account.budget, account.subject, account.unit, account.period.label, limit, row.spent, row.reserved, left,
        resets_at,
    )  # fmt: skip
