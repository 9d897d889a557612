"""Accounts as the ledger tells them: what its rows and the open reservations say of each, and where that differs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from budgetguard.core.amounts import Amounts
from budgetguard.core.balances import DAY_MS, EMPTY, TOTAL_KEEP_MS, shift, spent_and_reserved
from budgetguard.core.model import Account, Balance
from budgetguard.core.periods import first_live_slot, parse_period_text, rolling_slot, window_at
from budgetguard.errors import InvalidLimit
from budgetguard.ledger.charges import Charge

LONGEST_WINDOW_MS = 32 * DAY_MS
"""A month with a change of clocks in it."""
OVERDUE_MS = 600_000
Accounts = Mapping[str, tuple[Account, Balance]]
"""What stands in a store, by key."""


class Held(NamedTuple):
    """One open reservation."""

    id: str
    accounts: tuple[Account, ...]
    estimate: Amounts
    slot_ms: int
    lease_end_ms: int


class Difference(NamedTuple):
    """An account that is not as the ledger and the open reservations tell it. `whole`: if it has spent more than its
    rows tell, no rows that were forgotten, or may have been charged without naming it, can be the reason.
    """

    account: Account
    spent: int
    told_spent: int
    reserved: int
    told_reserved: int
    whole: bool


class Tally:
    """Adds up rows and reservations, on the accounts whose windows are open at `now_ms`.

    `untold`: keys of accounts of which nobody can say when their windows begin and end. `uncounted`: the amounts of
    rows that may have been charged on accounts that they do not name.
    """

    def __init__(self, now_ms: int, pruned_ms: int | None = None) -> None:
        """`pruned_ms`: rows of calls that were admitted until then may have been forgotten; None if none were."""
        self.now_ms = now_ms
        self.pruned_ms = pruned_ms
        self.untold: set[str] = set()
        self.uncounted = Amounts()
        self.calls = 0
        self._known: dict[str, Account | None] = {}
        self._spent: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        self._reserved: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        self._until_ms: dict[str, int] = {}

    def add(self, charges: Iterable[Charge]) -> None:
        """Count what rows charge; of each call only one."""
        for charge in charges:
            self.calls += 1
            if charge.uncounted:
                self.uncounted = Amounts(*map(sum, zip(self.uncounted, charge.amounts, strict=True)))
            for key in charge.keys:
                account = self._account(key, charge.timestamp_ms)
                if account is not None:
                    self._count(self._spent, account, charge.slot_ms, getattr(charge.amounts, account.unit))
                    self._until_ms[key] = max(self._until_ms.get(key, 0), charge.settled_ms)

    def hold(self, held: Iterable[Held]) -> None:
        """Count what open reservations hold."""
        for one in held:
            for account in one.accounts:
                if self._known.setdefault(account.key, account if self.counts(account) else None) is not None:
                    self._count(self._reserved, account, one.slot_ms, getattr(one.estimate, account.unit))
                    self._until_ms[account.key] = max(self._until_ms.get(account.key, 0), one.lease_end_ms)

    def counts(self, account: Account) -> bool:
        """Whether its window, if it has one, is open."""
        return account.window_end_ms is None or (account.window_start_ms or 0) <= self.now_ms < account.window_end_ms

    def accounts(self) -> dict[str, tuple[Account, Balance]]:
        """What was counted, as balances. What would have outlived its time is not there."""
        made = {}
        for key in {**self._spent, **self._reserved}:
            account = self._known[key]
            if account is not None and not self._is_forgotten(account):
                balance = self._balance(account)
                if balance.spent or balance.reserved or balance.slots:
                    made[key] = account, balance
        return made

    def whole(self, account: Account) -> bool:
        """Whether every row of its window, or of its rolling period, must still be there."""
        if self.pruned_ms is None or account.unit == "concurrent":
            return True
        period, start_ms = account.period, account.window_start_ms
        if start_ms is None:
            start_ms = 0 if period.kind == "total" else self.now_ms - period.span_ms - period.slot_ms
        return self.pruned_ms < start_ms

    def differences(self, standing: Accounts) -> list[Difference]:
        """Where what stands is not what is told, by key."""
        told = self.accounts()
        found = []
        for key in sorted({*standing, *told}):
            account = (standing.get(key) or told[key])[0]
            if not self.counts(account) or key in self.untold:
                continue
            stands, says = (
                spent_and_reserved(account, where[key][1], self.now_ms) if key in where else (0, 0)
                for where in (standing, told)
            )
            if stands != says:
                tells = self._tells(account, stands[0] - says[0])
                found.append(Difference(account, stands[0], says[0], stands[1], says[1], tells))
        return found

    def _tells(self, account: Account, more: int) -> bool:
        """Whether its rows tell all: if it has spent more than they do, others did not charge that."""
        return more <= 0 or (self.whole(account) and more > getattr(self.uncounted, account.unit))

    def _account(self, key: str, at_ms: int) -> Account | None:
        """The account of a key that a call names which was admitted then; None if it counts no more, or is untold."""
        if key not in self._known:
            self._known[key] = self._made(key, at_ms)
        return self._known[key]

    def _made(self, key: str, at_ms: int) -> Account | None:
        account = account_of(key, at_ms)
        if account is None:
            self.untold.add(key)
        return account if account is not None and self.counts(account) else None

    def _count(self, where: dict[str, dict[int, int]], account: Account, slot_ms: int, amount: int) -> None:
        number = 0
        if account.period.kind == "rolling":
            number = rolling_slot(account.period, slot_ms)
            if number < first_live_slot(account.period, self.now_ms):
                return
        where[account.key][number] += amount

    def _balance(self, account: Account) -> Balance:
        key, until_ms = account.key, self._until_ms[account.key]
        spent, reserved = self._spent.get(key, {}), self._reserved.get(key, {})
        balance = EMPTY
        for number in sorted({*spent, *reserved}):
            slot_ms = number * account.period.slot_ms
            balance = shift(
                account, balance, slot_ms, self.now_ms, until_ms, spent.get(number, 0), reserved.get(number, 0)
            )
        return balance

    def _is_forgotten(self, account: Account) -> bool:
        return account.period.kind == "total" and self._until_ms[account.key] + TOTAL_KEEP_MS <= self.now_ms


def account_of(key: str, at_ms: int) -> Account | None:
    """The account of a key that a call names which was admitted then; None if its window was another one then."""
    budget, per, unit, period_text, window = json.loads(key)
    labels = tuple((name, value) for name, value in per)
    try:
        period = parse_period_text(period_text)
    except InvalidLimit:  # a zone that this machine does not know
        return None
    bounds: tuple[int | None, int | None] = (None, None)
    if period.kind == "calendar":
        found = window_at(period, at_ms)
        if found.label != window:
            return None
        bounds = found.start_ms, found.end_ms
    return Account(budget, labels, unit, period, window, *bounds)


class Look(NamedTuple):
    """What stands in a store beside what is told of it; `before` and `after` that was read: while calls run, an account
    that is another then cannot be judged by this look.

    `overdue` open reservations have outlived their lease by more than `OVERDUE_MS`. `unreadable`: by entry of the
    outbox why no row can be made of it. `waiting` rows stand there. `ended`: open reservations that have a row.
    """

    tally: Tally
    before: Accounts
    after: Accounts
    held: int = 0
    overdue: int = 0
    waiting: int = 0
    ended: frozenset[str] = frozenset()
    unreadable: Mapping[str, str] = MappingProxyType({})

    def moved(self) -> set[str]:
        """The keys of the accounts to which something was done meanwhile."""
        return {key for key in {*self.before, *self.after} if self.before.get(key) != self.after.get(key)}

    def mended(self) -> tuple[list[Difference], Accounts]:
        """What differs, and those accounts as they should stand: nothing is taken from one that may be told in part."""
        differences, told = self.tally.differences(self.after), self.tally.accounts()
        made = {}
        for account, *_, whole in differences:
            stands = self.after[account.key][1] if account.key in self.after else None
            says = told[account.key][1] if account.key in told else EMPTY
            made[account.key] = account, mended(account, stands, says, whole, self.tally.now_ms)
        return differences, made


def mended(account: Account, stands: Balance | None, says: Balance, whole: bool, now_ms: int) -> Balance:
    """The account as it should stand. What the ledger may have forgotten (not `whole`) is not taken from it.

    One that is made anew has announced what it has spent: that was told before it was lost.
    """
    if stands is None:
        level, _ = spent_and_reserved(account, says, now_ms)
        return says._replace(announced=level, announced_ms=now_ms)
    keep_until_ms = max(stands.keep_until_ms, says.keep_until_ms)
    if account.period.kind != "rolling":
        spent = says.spent if whole else max(stands.spent, says.spent)
        return stands._replace(spent=spent, reserved=says.reserved, keep_until_ms=keep_until_ms)
    told_slots = {number: (spent, reserved) for number, spent, reserved in says.slots}
    slots = {number: (0 if whole else spent, 0) for number, spent, _ in stands.slots}
    for number, (spent, reserved) in told_slots.items():
        slots[number] = max(spent, slots.get(number, (0, 0))[0]), reserved
    first = first_live_slot(account.period, now_ms)
    kept = tuple((number, *slots[number]) for number in sorted(slots) if number >= first and any(slots[number]))
    return stands._replace(spent=0, reserved=0, slots=kept, keep_until_ms=keep_until_ms)
