"""A ledger that is only read: its rows, the same from SQLite and from PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from budgetguard.core.model import OnExpiry
from budgetguard.ledger.charges import Charge, Extent
from budgetguard.ledger.closing import Billing, Closing
from budgetguard.ledger.refusal_sums import RefusalSum
from budgetguard.ledger.repeats import Repeats
from budgetguard.ledger.sums import Sum
from budgetguard.ledger.table import COLUMNS, timestamp
from budgetguard.ledger.totals import NOWHERE, Total, Where

NAMES = ", ".join(f'"{name}"' for name in COLUMNS)
ROWS = f"""
SELECT {NAMES} FROM token_usage WHERE namespace = ? AND timestamp >= ? AND timestamp < ?
ORDER BY timestamp, reservation_id"""  # noqa: S608 - of constants
RESOLVED = f"""
SELECT {NAMES} FROM token_usage
WHERE namespace = ? AND (settled_at >= ? OR (status = 'expired' AND settled_at >= ?))"""  # noqa: S608 - of constants
OF_ONE = f"SELECT {NAMES} FROM token_usage WHERE namespace = ? AND reservation_id = ?"  # noqa: S608 - likewise
FIRST_MS, LAST_MS = 0, 253_402_300_799_000
"""1970-01-01 and 9999-12-31."""
_JSONS = ("labels", "accounts", "would_refuse")


class Stretch(NamedTuple):
    """The calls of a namespace that were admitted from `since_ms` on and before `until_ms`."""

    namespace: str
    since_ms: int = FIRST_MS
    until_ms: int = LAST_MS

    @property
    def bindings(self) -> tuple[str, str, str]:
        """For `ROWS`: instants as texts in UTC."""
        return self.namespace, timestamp(self.since_ms), timestamp(self.until_ms)


class Book(Protocol):
    """A ledger to be read, as it stands when a question is asked. Blocking.

    Raises:
        StoreAway: from every method, if it cannot be reached.
        StoreUnusable: from every method, if there is none, or one of another schema.
    """

    def totals(self, stretch: Stretch, group_by: Sequence[str] = (), where: Where = NOWHERE) -> list[Total]:
        """Exact sums by these columns (of `rollups.LABELS`), of the calls whose columns match these globs (as
        `fnmatchcase`; one without the label matches none but '', which is without any).

        Read from the rollups, and of the ledger itself only what lies before the first and after the last whole
        quarter of an hour. A group that has no calls is left out; those that lack a label are under ''.
        """

    def sums(self, stretch: Stretch, by: Sequence[str] = (), where: Mapping[str, str] = NOWHERE) -> list[Sum]:
        """Exact sums over the rows themselves, of the calls whose labels match these globs (as `fnmatchcase`; a call
        without the label matches only "(none)"), in the order of their groups.

        Names are team, agent, session, task, user, model, provider, status, prompt_hash, those of any other labels,
        and `sums.SLOT`: the number of the quarter of an hour since 1970, which is for who adds up local days.
        A group without calls is left out; calls that lack a label are under ''.
        """

    def refusals(
        self, stretch: Stretch, by: Sequence[str] = (), where: Mapping[str, str] = NOWHERE, shadow: bool | None = None
    ) -> list[RefusalSum]:
        """How many calls of a stretch were refused (or, `shadow`, let through that would have been; None: both).

        Names and globs as for `sums`, and `budget`, `unit`, `period`, `reason`, of the limits that refused, and `mode`
        (`enforce`, `shadow`). A call that several limits refuse is one call, and one in the group of each.
        A stretch is of whole minutes of the store's time.
        """

    def billing(self, namespace: str, month: str, zone: str) -> Billing:
        """What a month such as "2026-11" bills; `zone` is of months that are not closed.

        Raises:
            ConfigError: it is no month.
        """

    def billed_rows(self, namespace: str, closing: Closing) -> list[Sum]:
        """What the rows of a closed month say now, those that were pruned since then among them."""

    def repeats(self, stretch: Stretch, where: Mapping[str, str] = NOWHERE, most: int = 20) -> Repeats:
        """The prompts that were asked again, by their hashes, of the calls that match; and the `most` that cost most.

        Calls as for `sums`.
        """

    def standing(self) -> AbstractContextManager[object]:
        """All that is asked inside is answered from the ledger as it stands at one instant."""

    def rows(self, stretch: Stretch) -> Iterator[dict[str, Any]]:
        """Its rows by column, the oldest first: times as texts in UTC, JSON as values."""

    def charges(self, namespace: str, since_ms: int, on_expiry: OnExpiry = "charge") -> Iterator[Charge]:
        """As `charges.charges`: what rows charge, in no order."""

    def resolved(
        self, namespace: str, since_ms: int, expired_since_ms: int, ids: Collection[str] = ()
    ) -> Iterator[dict[str, Any]]:
        """Rows by column: of calls that ended since then, of those that expired since the other instant, and of those
        with these ids. One may come twice.
        """

    def extent(self, namespace: str) -> Extent:
        """How far a namespace's rows reach."""

    def close(self) -> None:
        """Let go of it."""


def record(row: Sequence[Any]) -> dict[str, Any]:
    """A row by column; JSON as values, and whether it was streamed as true or false."""
    made = dict(zip(COLUMNS, row, strict=True))
    for name in _JSONS:
        if isinstance(made[name], str):
            made[name] = json.loads(made[name])
    made["streamed"] = bool(made["streamed"])
    return made
