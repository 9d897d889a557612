"""`budgetguard status`: every account with its limit, what is spent, reserved and left."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from budgetguard.cli.options import (
    AgentOption,
    ConfigOption,
    Format,
    FormatOption,
    LabelOption,
    SessionOption,
    StoreOption,
    TaskOption,
    TeamOption,
    UserOption,
)
from budgetguard.cli.output import Column, Record, amount_fields, emit, labels_text, short_amount, table, terminal
from budgetguard.cli.sources import label_globs, looked_at, policy_or_store
from budgetguard.core.amounts import format_usd
from budgetguard.refusal import escaped
from budgetguard.status import AccountStatus, account_rows, as_status, every

if TYPE_CHECKING:
    from rich.text import Text

    from budgetguard.store import AccountRow

REFRESH_S = 1.0
BAR_CELLS = 12
NEARLY, FULL = 80, 100
"""Per cent of a limit from which its bar is yellow, and red."""
EMPTY = "no account counts anything yet"
KEYS = (
    "budget", "subject", "unit", "period", "limit", "limit_usd", "spent", "spent_usd", "reserved", "reserved_usd",
    "available", "available_usd", "resets_at",
)  # fmt: skip
COLUMNS = (
    Column("budget", lambda record: escaped(record["budget"])),
    Column("subject", lambda record: labels_text(record["subject"]) or "-"),
    Column("limit", lambda record: _limit(record)),
    Column("taken", lambda record: _share(record), styled=lambda record: _bar(record)),
    Column("spent", lambda record: _amount(record, "spent"), right=True),
    Column("reserved", lambda record: _amount(record, "reserved"), right=True, extra=True),
    Column("available", lambda record: _amount(record, "available"), right=True, extra=True),
    Column("resets", lambda record: record["resets"], right=True, extra=True),
)


def status(
    config: ConfigOption = None,
    store: StoreOption = None,
    format: FormatOption = "table",
    team: TeamOption = None,
    agent: AgentOption = None,
    session: SessionOption = None,
    task: TaskOption = None,
    user: UserOption = None,
    label: LabelOption = [],  # noqa: B006 - typer copies it
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every second, until Ctrl-C.")] = False,
) -> None:
    """Show what every account has spent and reserved, and when it resets."""
    usual = {"team": team, "agent": agent, "session": session, "task": task, "user": user}
    asked = Asked(config, store, label_globs(usual, label))
    if not watch:
        emit(format, asyncio.run(_look(asked)), KEYS, COLUMNS, EMPTY)
    elif format == "table" and sys.stdout.isatty():
        asyncio.run(_follow_in_terminal(asked))
    else:
        asyncio.run(_follow(asked, format))


class Asked(NamedTuple):
    """What the user asked to see."""

    config: Path | None
    store: str | None
    globs: Mapping[str, str]


async def _follow_in_terminal(asked: Asked) -> None:
    from rich.live import Live

    console = terminal()
    with Live(console=console, auto_refresh=False, redirect_stdout=False) as live:
        while True:
            records = await _look(asked)
            live.update(table(console.width, records, COLUMNS) if records else EMPTY, refresh=True)
            await asyncio.sleep(REFRESH_S)


async def _follow(asked: Asked, format: Format) -> None:
    """Elsewhere than in a terminal: print the accounts again whenever something has changed."""
    printed: list[Record] | None = None
    while True:
        records = await _look(asked)
        if records != printed:
            emit(format, records, KEYS, COLUMNS, EMPTY)
            sys.stdout.flush()
            printed = records
        await asyncio.sleep(REFRESH_S)


async def _look(asked: Asked) -> list[Record]:
    """The accounts as they stand. Policy and store are read anew each time: both may have changed."""
    policy, settings = policy_or_store(asked.config, asked.store)
    if policy is not None:
        policy.labels.check(asked.globs)
    async with looked_at(settings, asked.store) as store:
        if policy is None:
            rows = [row async for row in every(store.read_accounts, labels=asked.globs)]
            return [_record_of(row) for row in sorted(rows, key=lambda row: row.account.key)]
        return [_record(row, row.limit) for row in await account_rows(policy, store, asked.globs)]


def _record_of(row: AccountRow) -> Record:
    """An account of which no policy tells the limit."""
    return _record(as_status(row, 0), None)


def _record(row: AccountStatus, limit: int | None) -> Record:
    amounts = {"limit": limit, "spent": row.spent, "reserved": row.reserved}
    amounts["available"] = None if limit is None else row.available
    record: dict[str, Any] = {
        "budget": row.budget, "subject": row.subject, "unit": row.unit, "period": row.period
    }  # fmt: skip
    for key, amount in amounts.items():
        record |= amount_fields(key, row.unit, amount)
    at = row.resets_at
    shown = "-" if at is None else f"{at:%m-%d %H:%M %Z}"
    return record | {"resets_at": None if at is None else at.isoformat(), "resets": shown}


def _amount(record: Record, key: str) -> str:
    return "-" if record[key] is None else short_amount(record["unit"], record[key], down=key == "available")


def _limit(record: Record) -> str:
    """`$5.00/day`, `2.5M tokens/hour`, `20 concurrent`; without a policy only what is counted: `tokens/hour`."""
    amount, unit = record["limit"], record["unit"]
    if unit == "usd":
        text = "$" if amount is None else format_usd(amount)
    else:
        text = unit if amount is None else f"{_short(amount)} {unit}"
    return f"{text}/{record['period']}" if record["period"] else text


def _short(number: int) -> str:
    for suffix, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size and number % (size // 10) == 0:
            whole, tenth = divmod(number * 10 // size, 10)
            return f"{whole:,}.{tenth}{suffix}" if tenth else f"{whole:,}{suffix}"
    return f"{number:,}"


def _percent(record: Record) -> float | None:
    """What of the limit is spent or reserved; None where no limit is known."""
    if record["limit"] is None:
        return None
    return 100 * (record["spent"] + record["reserved"]) / record["limit"] if record["limit"] else 100.0


def _share(record: Record) -> str:
    percent = _percent(record)
    return "-" if percent is None else f"{percent:.0f} %"


def _bar(record: Record) -> Text:
    """Solid what is spent, shaded what is reserved."""
    from rich.text import Text

    percent = _percent(record)
    if percent is None:
        return Text("-")
    solid, shade, rest = ("█", "▒", "·") if "utf" in sys.stdout.encoding.lower() else ("#", "=", ".")
    taken = min(BAR_CELLS, ceil(BAR_CELLS * percent / 100))
    total = record["spent"] + record["reserved"]
    reserved = min(taken, ceil(taken * record["reserved"] / total)) if total else 0
    colour = "red" if percent >= FULL else "yellow" if percent >= NEARLY else "green"
    bar = solid * (taken - reserved) + shade * reserved
    return Text.assemble((bar, colour), (rest * (BAR_CELLS - taken), "dim"), f" {_share(record):>5}")
