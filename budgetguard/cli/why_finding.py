"""What `budgetguard why` tells, found in the policy, the store and the ledger."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from budgetguard.cli.why_spending import Spender, Stretched, spenders
from budgetguard.core.model import Account, Claim
from budgetguard.policy import Policy
from budgetguard.status import every

if TYPE_CHECKING:
    from budgetguard.ledger.reading import Book
    from budgetguard.ledger.refusal_sums import RefusalSum
    from budgetguard.store import HoldRow, Store

MINUTE_MS, DAY_MS = 60_000, 86_400_000
REFUSED_OF_LATE_MS = 15 * MINUTE_MS
MOST_SUBJECTS = 100
"""Of how many different callers the accounts are looked at; those that were refused come first."""
OF_ITS_LIMIT = ("budget", "unit", "period")
_MADE_AT = re.compile(r"r-([0-9a-f]{11})[0-9a-f]{15,}")
"""A guard's reservation ids begin with the time (`call.new_id`)."""


@dataclass(slots=True)
class Standing:
    """One account, the limit that judges it, and the calls that it has refused in the last 24 hours."""

    claim: Claim
    spent: int
    reserved: int
    refused: int = 0
    last_refused_ms: int = 0

    @property
    def account(self) -> Account:
        return self.claim.account

    @property
    def available(self) -> int:
        return self.claim.limit - self.spent - self.reserved

    def rank(self, now_ms: int) -> tuple[Any, ...]:
        """Ascending: first what is full, then what has refused of late, then what has the least room; blocks behind."""
        of_late = self.last_refused_ms > now_ms - REFUSED_OF_LATE_MS
        share = self.available / self.claim.limit if self.claim.limit else 0.0
        full, is_block = self.available <= 0, not self.claim.limit
        return not self.claim.enforced, not full, is_block, not of_late, share, self.account.key


@dataclass(slots=True)
class Found:
    """All of it. `binding` is the first of `standings`; `notes` say what could not be looked at, and why."""

    now_ms: int
    labels: Mapping[str, str]
    reservation: Mapping[str, Any] | None = None
    standings: list[Standing] = field(default_factory=list)
    stretch: Stretched | None = None
    spenders: list[Spender] = field(default_factory=list)
    holds: list[HoldRow] = field(default_factory=list)
    refusals: list[RefusalSum] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def binding(self) -> Standing | None:
        return self.standings[0] if self.standings else None


class Places(NamedTuple):
    """Where to look. `book` is None where there is no ledger to read."""

    policy: Policy
    store: Store
    book: Book | None
    namespace: str

    @property
    def names(self) -> list[str]:
        """The labels by which budgets tell calls apart."""
        return sorted({name for budget in self.policy.budgets for name in (*budget.where, *budget.per)})

    def refused(
        self, since_ms: int, until_ms: int, by: Sequence[str], where: Mapping[str, str] | None = None
    ) -> list[RefusalSum]:
        """Of a stretch, the most often refused first; nothing without a ledger."""
        from budgetguard.ledger.reading import Stretch

        if self.book is None:
            return []
        found = self.book.refusals(Stretch(self.namespace, since_ms, until_ms), by, where or {}, shadow=False)
        return sorted(found, key=lambda one: (-one.calls, one.group))


async def find(places: Places, labels: Mapping[str, str], id: str | None) -> Found:
    """What stands in the way of calls with these labels, or of the one with this id.

    Errors: those of the store and the ledger.
    """
    found = Found(await places.store.open(), dict(labels))
    holds = [row async for row in every(places.store.read_holds)]
    subjects: Sequence[Mapping[str, str]] | None = None
    if id is not None:
        found.reservation = _reservation(places, id, holds)
        if known := found.reservation.get("labels"):
            found.labels = {**known, **labels}
            subjects = [found.labels]
        elif not labels:
            subjects = _around(places, found.reservation["made_ms"])
    await _stand(places, found, _subjects(places, found, holds) if subjects is None else subjects)
    if (binding := found.binding) is not None:
        key = binding.account.key
        found.holds = [row for row in holds if any(account.key == key for account in row.accounts)]
        found.holds.sort(key=lambda row: row.admitted_ms)
        if places.book is not None:
            asked = places.book, places.policy, places.namespace, binding, found.now_ms
            found.stretch, found.spenders = spenders(*asked)
            found.refusals = _refused_by(places, binding.account, found.now_ms)
    return found


async def _stand(places: Places, found: Found, subjects: Sequence[Mapping[str, str]]) -> None:
    """The accounts of these callers, as they stand; the binding one first."""
    claims: dict[str, Claim] = {}
    for subject in subjects:
        plan = places.policy.match(tuple(sorted(subject.items())), found.now_ms).plan
        claims |= {claim.account.key: claim for claim in plan.claims}
    rows = await places.store.read_balances([claim.account for claim in claims.values()])
    standings = [Standing(claim, row.spent, row.reserved) for claim, row in zip(claims.values(), rows, strict=True)]
    found.standings = [one for one in standings if one.spent or one.reserved or not _is_of_nobody(one.account)]
    per = sorted({name for one in standings for name, _ in one.account.per})
    for one in places.refused(found.now_ms - DAY_MS, found.now_ms + 1, [*OF_ITS_LIMIT, *per]):
        group = dict(zip([*OF_ITS_LIMIT, *per], one.group, strict=True))
        for standing in found.standings:
            if _is_of(standing.account, group):
                standing.refused += one.calls
                standing.last_refused_ms = max(standing.last_refused_ms, one.last_ms)
    found.standings.sort(key=lambda one: one.rank(found.now_ms))


def _is_of_nobody(account: Account) -> bool:
    """Whether it is there only because of what the user did not say."""
    return any(value is None for _, value in account.per)


def _is_of(account: Account, group: Mapping[str, str]) -> bool:
    own = account.budget, account.unit, account.period.label
    return tuple(group[name] for name in OF_ITS_LIMIT) == own and all(
        group[name] == (value or "") for name, value in account.per
    )


def _refused_by(places: Places, account: Account, now_ms: int) -> list[RefusalSum]:
    """Whom it has refused in the last 24 hours, and why; the last first."""
    of_it = {"budget": account.budget, "unit": account.unit, "period": account.period.label}
    of_it |= {name: value for name, value in account.per if value is not None}
    where = {name: glob.escape(value) for name, value in of_it.items() if value}
    without = [name for name, value in account.per if value is None]
    found = places.refused(now_ms - DAY_MS, now_ms + 1, ["team", "agent", "reason", *without], where)
    return sorted((one for one in found if not any(one.group[3:])), key=lambda one: (-one.last_ms, -one.calls))


def _subjects(places: Places, found: Found, holds: Sequence[HoldRow]) -> list[Mapping[str, str]]:
    """The callers that are meant: those with these labels, by the other labels that budgets tell them apart by."""
    names = [name for name in places.names if name not in found.labels]
    groups: dict[tuple[str, ...], None] = {("",) * len(names): None}
    for group in _seen(places, found, names, holds):
        if len(groups) < MOST_SUBJECTS:
            groups[group] = None
    return [{**found.labels, **_labels(names, group)} for group in groups]


def _labels(names: Sequence[str], values: Sequence[str]) -> dict[str, str]:
    return {name: value for name, value in zip(names, values, strict=True) if value}


def _seen(places: Places, found: Found, names: list[str], holds: Sequence[HoldRow]) -> Iterator[tuple[str, ...]]:
    """By the values of these labels: who was refused, who has something open, who has called in the last 24 hours."""
    from budgetguard.ledger.reading import Stretch

    where = {name: glob.escape(value) for name, value in found.labels.items()}
    since_ms, until_ms = found.now_ms - DAY_MS, found.now_ms + 1
    yield from (one.group for one in places.refused(since_ms, until_ms, names, where))
    for row in holds:
        if found.labels.items() <= row.labels.items():
            yield tuple(row.labels.get(name, "") for name in names)
    if places.book is not None:
        sums = places.book.sums(Stretch(places.namespace, since_ms, until_ms), names, where)
        yield from (one.group for one in sorted(sums, key=lambda one: -one.calls))


def _around(places: Places, made_ms: int | None) -> list[Mapping[str, str]]:
    """Who was refused about the time of an id."""
    if made_ms is None:
        return []
    found = places.refused(made_ms - 2 * MINUTE_MS, made_ms + 2 * MINUTE_MS, places.names)
    return [_labels(places.names, one.group) for one in found[:MOST_SUBJECTS]]


def _reservation(places: Places, id: str, holds: Sequence[HoldRow]) -> Mapping[str, Any]:
    """What is known of an id: `state` is "held", what the ledger's row says, or "unknown"."""
    made = _MADE_AT.fullmatch(id)
    known: dict[str, Any] = {"id": id, "state": "unknown", "made_ms": int(made[1], 16) if made else None}
    for row in holds:
        if row.id == id:
            return known | {
                "state": "held", "labels": dict(row.labels), "host": row.host, "made_ms": row.admitted_ms,
                "lease_end_ms": row.lease_end_ms,
            }  # fmt: skip
    if places.book is not None:
        from budgetguard.ledger.reading import LAST_MS

        for record in places.book.resolved(places.namespace, LAST_MS, LAST_MS, [id]):
            return known | _of_row(record)
    return known


def _of_row(record: Mapping[str, Any]) -> dict[str, Any]:
    from budgetguard.ledger.table import LABEL_COLUMNS

    columns = {**LABEL_COLUMNS, "model": "model", "provider": "provider"}
    labels = {name: record[column] for name, column in columns.items() if record[column] is not None}
    told = ("timestamp", "settled_at", "total_tokens", "cost_nanousd", "error_type", "host")
    return {"state": record["status"], "labels": labels | record["labels"]} | {name: record[name] for name in told}
