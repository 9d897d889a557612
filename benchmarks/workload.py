"""The call that is measured: three budgets x two windows x tokens and dollars, twelve limits that never refuse."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import budgetguard as bg
from budgetguard.store import Store

AMOUNTS = ("8_000_000_000_000_000 tokens", "$9_000_000")
LIMITS = tuple(f"{amount}/{window}" for window in ("hour", "day") for amount in AMOUNTS)
TWELVE_LIMITS = (
    bg.Budget("everything", LIMITS),
    bg.Budget("each-team", LIMITS, per=["team"]),
    bg.Budget("each-agent", LIMITS, per=["agent"]),
)
MODEL = "acme-1"
ESTIMATE = bg.Usage(input_tokens=1200, output_tokens=400)
PRICES = (bg.Price(MODEL, {"input": "0.15", "output": "0.60"}),)
TEAMS, AGENTS = 8, 64


def guard_of(budgets: Sequence[bg.Budget], store: Path | str | Store) -> bg.Guard:
    """A guard on a SQLite file, its spool beside it, on a URL, or on a store made by the benchmark."""
    if not isinstance(store, Path):
        return bg.Guard(budgets=budgets, prices=PRICES, store=store)
    settings = bg.StoreSettings(url=f"sqlite:///{store}", spool=str(store.with_suffix(".spool")))
    return bg.Guard(budgets=budgets, prices=PRICES, store=settings)


def agent_name(number: int) -> str:
    """Of one width, so that names sort as numbers do."""
    return f"agent-{number:07d}"


async def guarded_call(guard: bg.Guard, agent: int, session: str) -> None:
    """One call; its provider answers at once."""
    async with guard.reserve(
        team=f"team-{agent % TEAMS}",
        agent=agent_name(agent),
        session=session,
        model=MODEL,
        estimate=ESTIMATE,
    ) as hold:
        hold.record(bg.Usage(input_tokens=1180, output_tokens=310, cache_read_tokens=600))
