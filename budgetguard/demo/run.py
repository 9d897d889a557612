"""Runs the demonstration and shows it: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import asyncio
import logging
import secrets
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from openai import AsyncOpenAI
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from budgetguard.core.amounts import format_amount, format_usd
from budgetguard.demo.books import Books, Totals, read_books
from budgetguard.demo.scenario import PROVIDER_PRICES, TEAMS, Scenario
from budgetguard.ledger.drain import drain
from budgetguard.ledger.sqlite import SQLiteLedger
from budgetguard.policy import Policy
from budgetguard.status import AccountStatus
from budgetguard.stores import SQLITE, let_lapse, open_outbox, open_store
from budgetguard.testing import FakeProvider

LATENCY_MS = 120
REFRESH_S = 0.25
STORE_TIMEOUT_MS = 2_000


async def demonstrate(console: Console, store_url: str | None = None, policy: Policy | None = None) -> Books:
    """Run it all and return the books, which should agree.

    Args:
        console: where it is shown.
        store_url: where to hold the budgets, in a namespace of this demonstration's own; default a temporary SQLite
            file. Of one in Redis the ledger is drained into a temporary file, and what is left there goes within a day.
        policy: budgets to hold the agents to beside the demonstration's own.
    """
    logging.getLogger("budgetguard").addHandler(logging.NullHandler())  # what they would say is shown here anyway
    with tempfile.TemporaryDirectory(prefix="budgetguard-demo-") as folder:
        url = store_url or f"{SQLITE}{Path(folder) / 'budgets.db'}"
        namespace = f"demo-{secrets.token_hex(4)}"
        async with FakeProvider(PROVIDER_PRICES, latency_ms=LATENCY_MS) as provider:
            client = AsyncOpenAI(base_url=provider.base_url, api_key="none-needed", max_retries=0)
            may_evict = policy is not None and policy.store.allow_eviction
            store = open_store(url, namespace, STORE_TIMEOUT_MS, allow_eviction=may_evict)
            scenario = Scenario(store, client, partial(console.print, soft_wrap=True, markup=False), policy)
            async with client, scenario.guard:
                await _watched(scenario, console)
                status = await scenario.guard.status()
            books = read_books(await _ledger_of(url, namespace, Path(folder)), namespace, provider.bill, status)
    _show_books(console, scenario, books)
    return books


async def _ledger_of(url: str, namespace: str, folder: Path) -> Path:
    """The SQLite file that has the ledger: the store's own, or one in the folder into which its outbox is drained."""
    if url.startswith(SQLITE):
        return Path(url.removeprefix(SQLITE))
    path = folder / "ledger.db"
    outbox, ledger = open_outbox(url, namespace, STORE_TIMEOUT_MS), SQLiteLedger(str(path))
    try:
        await asyncio.to_thread(ledger.write, ())  # the table is there even if no row is
        await drain(outbox, ledger)
        await let_lapse(url, namespace, STORE_TIMEOUT_MS)
    finally:
        await outbox.aclose()
        ledger.close()
    return path


async def _watched(scenario: Scenario, console: Console) -> None:
    """Run the scenario beside a table that follows it."""
    work = asyncio.create_task(scenario.run())
    try:
        if console.is_terminal:
            with Live(console=console, refresh_per_second=8, transient=True) as live:
                while not work.done():
                    live.update(_budgets_table(await scenario.guard.status()))
                    await asyncio.wait([work], timeout=REFRESH_S)
        else:
            while not work.done():
                await asyncio.wait([work], timeout=1)
                console.print(_line(scenario), soft_wrap=True)
        await work
    finally:  # also if the store went away, and `status` told it first
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


def _line(scenario: Scenario) -> str:
    """Where the agents stand, on one line."""
    return "calls: " + "  ".join(f"{agent} {counts['calls']}" for agent, counts in scenario.calls.items())


def _budgets_table(status: Sequence[AccountStatus]) -> Table:
    table = Table("budget", "agent", "spent", "reserved", "limit", "", title="two teams at work")
    for row in status:
        level = row.reserved if row.unit == "concurrent" else row.spent
        table.add_row(
            row.budget,
            row.subject.get("agent", ""),
            _amount(row, row.spent),
            _amount(row, row.reserved),
            f"{_amount(row, row.limit)} {row.period}",
            ProgressBar(total=row.limit, completed=min(level, row.limit), width=24),
        )
    return table


def _amount(row: AccountStatus, amount: int) -> str:
    return format_usd(amount) if row.unit == "usd" else format_amount(row.unit, amount)


def _show_books(console: Console, scenario: Scenario, books: Books) -> None:
    table = Table("team", "agent", "calls", "delayed", "refused", "input", "output", "cost")
    for team, agents in TEAMS.items():
        for agent in agents:
            counts = scenario.calls[agent]
            row = next((row for row in books.by_agent if (row.team, row.agent) == (team, agent)), None)
            tokens = (f"{row.input_tokens:,}", f"{row.output_tokens:,}") if row else ("0", "0")
            cost = format_usd(row.cost_nanousd if row else 0)
            figures = (str(counts[key]) for key in ("calls", "delayed", "refused"))
            table.add_row(team, agent, *figures, *tokens, cost)
    console.print(table)
    for name, totals in (("provider's bill", books.bill), ("ledger", books.ledger), ("accounts", books.accounts)):
        console.print(f"{name:>16}: {_totals(totals)}")
    verdict = "the books agree" if books.agree else "THE BOOKS DO NOT AGREE"
    console.print(f"{verdict}: bill = ledger = accounts, overspend {format_usd(books.overspend)}")


def _totals(totals: Totals) -> str:
    return f"{totals.tokens:,} tokens, {format_usd(totals.cost_nanousd)}"
