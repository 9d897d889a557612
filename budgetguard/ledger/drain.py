"""Moves ledger rows, and counts of refusals, from a store's outbox into a SQL ledger: read, write durably, then drop.

Each step can be repeated, and the next begins when it is durable: whatever is interrupted or done by two at once is
done again by the next drain, and rows that come twice change nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from budgetguard.core.verbs import Row
from budgetguard.errors import BudgetGuardError
from budgetguard.ledger.closing import Billing
from budgetguard.ledger.outbox import Outbox, OutboxRow
from budgetguard.ledger.refusals import Flush

MOST = 1_000
"""Entries in a transaction of the ledger."""
Entry = Row | Flush


class Ledger(Protocol):
    """A SQL database with the tables `token_usage` and `refusals`. Blocking, and safe from any thread."""

    def write(self, rows: Sequence[tuple[str, Entry]]) -> None:
        """Write rows, each with its namespace, in one durable transaction.

        Of a reservation the highest revision stays, of a flush of refusals what came first.

        Raises:
            StoreAway: it could not be written in time.
            StoreUnusable: it cannot be written as it is; the error says what to do.
            Exception: any other is the fault of one of the rows. Nothing was written then, either.
        """

    def prune(self, namespace: str, before_ms: int, most: int) -> int:
        """Forget at most so many rows of calls admitted, or refused, before an instant, and their sums; how many.

        Raises:
            StoreAway, StoreUnusable: as `write`; nothing was forgotten then.
        """

    def close_month(
        self, namespace: str, month: str, zone: str, now_ms: int, facts: Callable[[Billing], str]
    ) -> tuple[Billing, bool]:
        """Freeze what a month bills, in one durable transaction; or find it frozen. And whether this call closed it.

        Args:
            zone: in which the month is meant.
            facts: makes the text that is kept beside the amounts.

        Raises:
            ConfigError: it is no month, or it has not ended.
            StoreAway, StoreUnusable: as `write`; nothing was frozen then.
        """

    def close(self) -> None:
        """Let go of the database."""


@dataclass
class Drained:
    """How far a drain has come: it counts while it runs, so that one that is interrupted tells it too.

    `rows` of calls were moved; counts of refusals are not among them. `unreadable` are the entries that stay in the
    outbox because no row can be made of them, by their ids, with the cause.
    """

    rows: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)


async def drain(outbox: Outbox, ledger: Ledger, most: int = MOST, drained: Drained | None = None) -> Drained:
    """Move every entry that stands in the outbox into the ledger, `most` at a time, and count them into `drained`.

    An entry that cannot be read, or not be written as a row, stays in the outbox and holds up no other.

    Raises:
        StoreAway, StoreUnusable: from the outbox or the ledger. What was not moved stands in the outbox.
    """
    drained = Drained() if drained is None else drained
    after = ""
    while True:
        entries = await outbox.read(most, after)
        await _move(outbox, ledger, entries, drained)
        if len(entries) < most:
            return drained
        after = entries[-1].entry_id


async def _move(outbox: Outbox, ledger: Ledger, entries: Sequence[OutboxRow], drained: Drained) -> None:
    faults = {entry.entry_id: str(entry.row) for entry in entries if not isinstance(entry.row, Entry)}
    rows = {entry.entry_id: (entry.namespace, entry.row) for entry in entries if isinstance(entry.row, Entry)}
    faults |= await _written(ledger, list(rows), rows)
    moved = [entry_id for entry_id in rows if entry_id not in faults]
    if moved:
        # Past this line they are durable in the ledger.
        await outbox.drop(moved)
        drained.rows += sum(isinstance(rows[entry_id][1], Row) for entry_id in moved)
    drained.unreadable |= faults


async def _written(ledger: Ledger, entry_ids: list[str], rows: dict[str, tuple[str, Entry]]) -> dict[str, str]:
    """Write the rows of these entries; the causes of those that cannot be, found by halves, by their ids."""
    if not entry_ids:
        return {}
    try:
        await asyncio.to_thread(ledger.write, [rows[entry_id] for entry_id in entry_ids])
    except BudgetGuardError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, only the row that has it stays
        if len(entry_ids) == 1:
            return {entry_ids[0]: f"its row cannot be written: {error!r}"}
        half = len(entry_ids) // 2
        first = await _written(ledger, entry_ids[:half], rows)
        return first | await _written(ledger, entry_ids[half:], rows)
    return {}
