"""What a drain asks of a store's outbox: what nobody has moved into a SQL database yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from budgetguard.core.verbs import Row
from budgetguard.errors import StoreUnusable
from budgetguard.ledger.refusals import Flush


class OutboxRow(NamedTuple):
    """One entry of the outbox: its id there, and its ledger row, or counts of refusals; an error in the place of what
    cannot be read."""

    entry_id: str
    namespace: str
    row: Row | Flush | StoreUnusable


class Outbox(Protocol):
    """The outbox of one namespace: entries in the order in which they were written; new ones come after all others.

    Raises:
        StoreAway: from every method, if the store cannot be reached in time.
        StoreUnusable: from every method, if the outbox as a whole cannot be read.
    """

    async def read(self, most: int, after: str = "") -> Sequence[OutboxRow]:
        """The oldest `most` entries after that one (entries stay until they are dropped); fewer only at the end."""

    async def drop(self, entry_ids: Sequence[str]) -> None:
        """Forget entries whose rows are durable in the ledger. One that is gone already is passed over."""

    async def aclose(self) -> None:
        """Let go of the store."""
