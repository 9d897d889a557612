"""What the tests of the stores share: plans from the text of limits, operations, and a look into the file."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import apsw

from budgetguard.core.amounts import Amounts
from budgetguard.core.grammar import parse_limit
from budgetguard.core.model import Account, CallInfo, Claim, OnExpiry, Plan, UsageRow
from budgetguard.core.periods import window_at
from budgetguard.core.verbs import EndStatus, Expire, Extend, Grow, Release, Reserve, Settle
from budgetguard.stores.sqlite import SQLiteStore

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
NOON_MS = 1_795_348_800_000
"""2026-11-22 12:00:00 UTC, a Sunday."""
LEASE_MS, REPLAY_KEEP_MS = 60_000, 900_000
NOTHING = Amounts()
LABELS = {"team": "search", "agent": "crawler", "model": "gpt-4o-mini"}


def instant_ms(text: str) -> int:
    """Milliseconds of an ISO instant that says its offset."""
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def claims(
    budget: str, texts: Iterable[str], now_ms: int, per: tuple[tuple[str, str | None], ...] = (), zone: str = "UTC",
    enforced: bool = True, alert_levels: tuple[int, ...] = (),
) -> tuple[Claim, ...]:  # fmt: skip
    """The claims of one budget with these limits, in the windows of `now_ms`."""
    made = []
    for limit in (parse_limit(text, zone) for text in texts):
        window = window_at(limit.period, now_ms) if limit.period.kind == "calendar" else ("", None, None)
        account = Account(budget, per, limit.unit, limit.period, *window)
        made.append(Claim(account, limit.amount, enforced, alert_levels))
    return tuple(made)


def plan(*texts: str, now_ms: int = NOON_MS, on_expiry: OnExpiry = "charge", **budget: Any) -> Plan:
    """The plan of a call that counts against one budget with these limits."""
    return Plan(claims(budget.pop("name", "all"), texts, now_ms, **budget), on_expiry)


def amounts(prompt: int, completion: int = 0, cost_nanousd: int = 0) -> Amounts:
    """What such a call asks or used."""
    return Amounts(prompt + completion, prompt, completion, cost_nanousd, 1, 1)


def usage(of: Amounts) -> UsageRow:
    """The ledger's share of these amounts."""
    return UsageRow(of.input_tokens, of.output_tokens, cost_nanousd=of.usd)


def info(estimate: Amounts, **labels: str) -> CallInfo:
    """What the ledger says of a call."""
    return CallInfo(labels or LABELS, "given", "host-1", usage(estimate))


def reserve(
    id: str, of: Plan, estimate: Amounts, tried_since_ms: int = NOON_MS, lease_ms: int = LEASE_MS, **labels: str
) -> Reserve:
    """A reserve of that estimate."""
    return Reserve(id, of, estimate, info(estimate, **labels), lease_ms, REPLAY_KEEP_MS, tried_since_ms)


def settle(
    id: str, of: Plan, actual: Amounts, estimate: Amounts = NOTHING, status: EndStatus = "settled",
    admitted_ms: int = NOON_MS, tried_since_ms: int = NOON_MS, **labels: str,
) -> Settle:  # fmt: skip
    """A settle with that actual."""
    return Settle(
        id, of, actual, usage(actual), info(estimate, **labels), status, estimate, admitted_ms, REPLAY_KEEP_MS,
        tried_since_ms, 12, "", "table",
    )  # fmt: skip


def release(id: str) -> Release:
    """A release."""
    return Release(id, REPLAY_KEEP_MS)


def grow(id: str, of: Plan, to: Amounts) -> Grow:
    """A growth to that total."""
    return Grow(id, of, to, usage(to))


def extend(id: str, lease_ms: int) -> Extend:
    """A heartbeat."""
    return Extend(id, lease_ms)


def expire(id: str) -> Expire:
    """The sweep's verb."""
    return Expire(id)


async def ask(store: SQLiteStore, *ops: Any) -> list[Any]:
    """The answers to operations of one verb, which share a transaction."""
    verbs = {
        Reserve: store.reserve, Settle: store.settle, Release: store.release,
        Grow: store.grow, Extend: store.extend, Expire: store.expire,
    }  # fmt: skip
    return list(await verbs[type(ops[0])](ops))  # type: ignore[index]


async def ask_one(store: SQLiteStore, op: Any) -> Any:
    """The answer to one operation."""
    return (await ask(store, op))[0]


async def stands(store: SQLiteStore, **globs: Any) -> dict[str, tuple[int, int]]:
    """Spent and reserved of every account of a current window, by budget, `per` values, unit and period."""
    found = {}
    cursor = None
    while True:
        page = await store.read_accounts(cursor=cursor, **globs)
        for row in page.rows:
            account = row.account
            values = "".join(f"[{value}]" for value in account.subject.values())
            found[f"{account.budget}{values} {account.unit}/{account.period}"] = (row.spent, row.reserved)
        cursor = page.cursor
        if cursor is None:
            return found


def rows(path: Path | str, query: str, *bindings: Any) -> list[tuple[Any, ...]]:
    """What a query says of a store's file, through a connection of its own."""
    db = apsw.Connection(str(path))
    try:
        db.set_busy_timeout(5_000)
        return list(db.execute(query, bindings).fetchall())
    finally:
        db.close()


def ledger(path: Path | str, id: str) -> dict[str, Any] | None:
    """The ledger row of a reservation, by column."""
    names = [row[1] for row in rows(path, "PRAGMA table_xinfo(token_usage)")]
    found = rows(path, f"SELECT {', '.join(names)} FROM token_usage WHERE reservation_id = ?", id)
    return dict(zip(names, found[0], strict=True)) if found else None


def dump(path: Path | str, clocks: bool = False) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table of the file; that of the clocks only if asked for."""
    tables = [name for (name,) in rows(path, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    return {name: rows(path, f"SELECT * FROM {name} ORDER BY 1, 2") for name in tables if clocks or name != "clocks"}
