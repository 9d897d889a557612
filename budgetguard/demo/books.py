"""Do the books agree? The provider's bill, the ledger and the accounts, side by side."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from budgetguard.status import AccountStatus
from budgetguard.testing import BilledCall

BY_AGENT = """
SELECT team, agent, count(*), sum(prompt_tokens), sum(completion_tokens), sum(cost_nanousd)
FROM token_usage WHERE namespace = ? GROUP BY team, agent ORDER BY team, agent"""


class AgentUsage(NamedTuple):
    """What the ledger says of one agent."""

    team: str
    agent: str
    calls: int
    input_tokens: int
    output_tokens: int
    cost_nanousd: int


class Totals(NamedTuple):
    """One book's totals."""

    tokens: int
    cost_nanousd: int


class Books(NamedTuple):
    """The three books, and what was spent above any limit."""

    by_agent: list[AgentUsage]
    bill: Totals
    ledger: Totals
    accounts: Totals
    billed_calls: int
    overspend: int

    @property
    def agree(self) -> bool:
        """All three say the same, call for call and nano-dollar for nano-dollar, and no limit was overspent."""
        calls = sum(row.calls for row in self.by_agent)
        return self.bill == self.ledger == self.accounts and calls == self.billed_calls and self.overspend == 0


def read_books(ledger: Path, namespace: str, bill: Sequence[BilledCall], status: Sequence[AccountStatus]) -> Books:
    """Read the ledger as any user would, with SQL, and hold it against the bill and the company's accounts."""
    with closing(sqlite3.connect(ledger)) as db:
        by_agent = [AgentUsage(*row) for row in db.execute(BY_AGENT, (namespace,))]
    company = {row.unit: row.spent for row in status if row.budget == "company"}
    return Books(
        by_agent,
        Totals(sum(c.input_tokens + c.output_tokens for c in bill), sum(c.cost_nanousd or 0 for c in bill)),
        Totals(sum(r.input_tokens + r.output_tokens for r in by_agent), sum(r.cost_nanousd for r in by_agent)),
        Totals(company["tokens"], company["usd"]),
        len(bill),
        sum(max(0, row.spent - row.limit) for row in status),
    )
