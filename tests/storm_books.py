"""The books of a storm: what the accounts, the open holds, the ledger and the provider's own bill say of each other."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple

import apsw

import budgetguard as bg
from budgetguard.status import every
from budgetguard.store import HoldRow
from budgetguard.stores import open_store
from budgetguard.testing import BilledCall

EXACT = {"settled", "late", "cancelled", "error"}
GUESSED = {"expired", "assumed"}
RETURNED = "released"
"""Its row, if it has one, takes back what an expiry had charged."""


class LedgerRow(NamedTuple):
    """One row of `token_usage`; `accounts` by key."""

    id: str
    status: str
    prompt_tokens: int
    completion_tokens: int
    cost_nanousd: int
    accounts: tuple[str, ...]
    revision: int


class Books(NamedTuple):
    """A store at one instant. `accounts`: spent and reserved by key, ended windows too."""

    accounts: dict[str, tuple[int, int]]
    holds: tuple[HoldRow, ...]
    ledger: tuple[LedgerRow, ...]

    @property
    def statuses(self) -> Counter[str]:
        return Counter(row.status for row in self.ledger)


async def books_of(path: Path) -> Books:
    """The store's books, from a copy made in one read transaction while it may be written."""
    copy = path.with_name(f"copy-of-{path.name}")
    copy.unlink(missing_ok=True)
    await asyncio.to_thread(_copy, path, copy)
    holds = await holds_of(copy)
    db = apsw.Connection(str(copy))
    try:
        accounts = {}
        for key, spent, reserved, slots in db.execute("SELECT key, spent, reserved, slots FROM accounts"):
            rolling = json.loads(slots) if slots else []  # a storm is shorter than its rolling periods: all slots count
            accounts[key] = (spent + sum(slot[1] for slot in rolling), reserved + sum(slot[2] for slot in rolling))
    finally:
        db.close()
    return Books(accounts, holds, ledger_of(copy))


def ledger_of(path: Path) -> tuple[LedgerRow, ...]:
    """The rows of a ledger's file."""
    db = apsw.Connection(str(path))
    try:
        found = db.execute(
            "SELECT reservation_id, status, prompt_tokens, completion_tokens, cost_nanousd, accounts, revision "
            "FROM token_usage"
        )
        return tuple(LedgerRow(*row[:5], keys_of(row[5]), row[6]) for row in found)
    finally:
        db.close()


async def holds_of(path: Path) -> tuple[HoldRow, ...]:
    """The open holds of a store's file."""
    return await holds_at(f"sqlite:///{path}", "default")


async def holds_at(url: str, namespace: str) -> tuple[HoldRow, ...]:
    """The open holds of a store."""
    async with aclosing(open_store(url, namespace, 20_000)) as store:
        return tuple([row async for row in every(store.read_holds)])


def _copy(path: Path, copy: Path) -> None:
    db = apsw.Connection(str(path))
    try:
        db.set_busy_timeout(5_000)
        db.execute("VACUUM INTO ?", (str(copy),))
    finally:
        db.close()


def keys_of(counted: str) -> tuple[str, ...]:
    """Account keys as the store writes them: the ledger's column is a JSON list of them."""
    return tuple(json.dumps(key, separators=(",", ":")) for key in json.loads(counted))


def check_balance(books: Books, budgets: Sequence[bg.Budget]) -> None:
    """At any instant: every account within its limit, reserved = open holds, spent = ledger, unit by unit."""
    spent: Counter[str] = Counter()
    for row in books.ledger:
        for key in row.accounts if row.status != RETURNED else ():
            spent[key] += amount_of(key, row.prompt_tokens, row.completion_tokens, row.cost_nanousd)
    reserved: Counter[str] = Counter()
    for hold in books.holds:
        for account in hold.accounts:
            reserved[account.key] += getattr(hold.estimate, account.unit)
    limits = limits_of(budgets)
    for key, (is_spent, is_reserved) in books.accounts.items():
        assert is_reserved == reserved[key], f"{key}: {is_reserved} reserved, open holds say {reserved[key]}"
        assert is_spent == spent[key], f"{key}: {is_spent} spent, the ledger says {spent[key]}"
        assert is_spent + is_reserved <= limits[kind_of(key)], f"{key}: overspent"
    assert set(spent) | set(reserved) <= set(books.accounts)


def check_bill(books: Books, bill: Sequence[BilledCall], budgets: Sequence[bg.Budget]) -> None:
    """At the end: every billed call in the ledger once, at its true cost or a guess above it; nothing else but guesses.

    What was truly billed on each account stays within its limit too, whoever was killed.
    """
    billed = {call.request_id: call for call in bill}
    assert len(billed) == len(bill), "one reservation was billed twice"
    rows = {row.id: row for row in books.ledger}
    assert len(rows) == len(books.ledger), "one call stands in the ledger twice"
    assert set(billed) <= set(rows), f"billed, not in the ledger: {set(billed) - set(rows)}"
    truth: Counter[str] = Counter()
    for id, row in rows.items():
        call = billed.get(id)
        if call is None:
            assert row.status in {*GUESSED, RETURNED}, f"{row} was never billed"
            continue
        if row.status in EXACT:
            assert row[2:5] == (call.input_tokens, call.output_tokens, call.cost_nanousd)
        else:
            assert row.status in GUESSED, row
            assert row.cost_nanousd >= call.cost_nanousd and row.prompt_tokens >= call.input_tokens
        for key in row.accounts:
            truth[key] += amount_of(key, call.input_tokens, call.output_tokens, call.cost_nanousd)
    limits = limits_of(budgets)
    assert {key: amount for key, amount in truth.items() if amount > limits[kind_of(key)]} == {}


def amount_of(key: str, prompt_tokens: int, completion_tokens: int, cost_nanousd: int) -> int:
    """What a call of these counts spends on an account."""
    unit = json.loads(key)[2]
    amounts = {
        "tokens": prompt_tokens + completion_tokens, "input_tokens": prompt_tokens, "output_tokens": completion_tokens,
        "usd": cost_nanousd, "requests": 1, "concurrent": 0,
    }  # fmt: skip
    return amounts[unit]


def kind_of(key: str) -> tuple[str, str, str]:
    """Budget, unit and period of an account."""
    budget, _, unit, period, _ = json.loads(key)
    return budget, unit, period


def limits_of(budgets: Sequence[bg.Budget]) -> dict[tuple[str, str, str], int]:
    """Every limit by budget, unit and period."""
    found: dict[tuple[str, str, str], int] = defaultdict(int)
    for budget in budgets:
        for limit in budget.parsed_limits("UTC"):
            found[budget.name, limit.unit, str(limit.period)] = limit.amount
    return found
