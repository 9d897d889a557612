"""What a simulation found: how many calls each budget admitted, refused and delayed, and how full each limit became."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import add, gt

from budgetguard.core.amounts import Amounts
from budgetguard.core.model import Account, Limit, OnExceed, Violation
from budgetguard.core.periods import first_live_slot, rolling_slot
from budgetguard.core.verbs import Reserve, Settle, Settlement, Verdict
from budgetguard.policy import Policy
from budgetguard.simulation.bulk import Answer, Op

UNMATCHED = "(no budget)"
"""Whom a refusal is put down to where no budget covers the call, and `on_unmatched = "refuse"`."""


@dataclass(frozen=True, slots=True)
class Waits:
    """Calls that waited in line and were then admitted, and how long: at once is no wait."""

    calls: int = 0
    total_ms: int = 0
    longest_ms: int = 0

    @property
    def mean_s(self) -> float:
        return self.total_ms / self.calls / 1000 if self.calls else 0.0

    def with_one(self, waited_ms: int) -> Waits:
        """These and one more."""
        return Waits(self.calls + 1, self.total_ms + waited_ms, max(self.longest_ms, waited_ms))


@dataclass(frozen=True, slots=True)
class LimitFigures:
    """One limit of one budget, over all its accounts; integers of its unit (`usd`: nano-dollars).

    A window is one account: for one value of the `per` labels and one calendar window (or the whole trace, where
    the period is `total`, rolling or of `concurrent`). Only windows that admitted a call are known. The level of a
    window is what was spent in it; of a rolling period the most that ever counted at once; of `concurrent` the most
    calls that were ever open at once.
    """

    budget: str
    on_exceed: OnExceed
    """What happens to calls beyond it: "shadow" too where the whole policy is."""
    limit: Limit
    windows: int
    """How many windows admitted a call."""
    accounts: int
    """How many values of the `per` labels they are of."""
    spent: int
    """By all its calls together."""
    utilisation: float
    """The sum of the levels over the sum of the limit, over the windows; 0.0 where that is nothing."""
    overspend: int
    """The sum over the windows of what their levels are above the limit."""
    overage: int
    """The sum over its calls of what each took above its reservation."""
    refused: int
    """Calls that this limit refused (several limits may refuse one)."""


@dataclass(frozen=True, slots=True)
class Report:
    """A whole simulation. `calls` = `admitted` + `refused`; `delayed` are among the admitted."""

    calls: int
    admitted: int
    refused: int
    waits: Waits
    overage: Amounts
    """The sum over the calls of what each took above its reservation, in every unit."""
    refused_by: Mapping[str, int]
    """Calls by the budget that refused them; several budgets may refuse one."""
    would_refuse: Mapping[str, int]
    """Calls by the shadow budget that had no room for them, and let them pass."""
    delayed_by: Mapping[str, Waits]
    """By the budget that made them wait."""
    limits: tuple[LimitFigures, ...]
    would_fit: int = 0
    """Refused calls that would have fit beside what all calls admitted before them took in the end: refused for what
    was held in vain."""
    cut: int = 0
    """Calls that ended where their estimate did, because it was their bound."""

    @property
    def delayed(self) -> int:
        return self.waits.calls

    @property
    def overspend(self) -> int:
        """The sum over all limits, each in its own unit: 0 says that none was overspent."""
        return sum(limit.overspend for limit in self.limits)


@dataclass(slots=True)
class _Window:
    """One account, as the settles that count in it add up."""

    of: _Tallied
    account: Account
    level: int = 0
    open_calls: int = 0
    slots: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Tallied:
    """What has been counted of one limit."""

    budget: str
    on_exceed: OnExceed
    limit: Limit
    windows: list[_Window] = field(default_factory=list)
    spent: int = 0
    overage: int = 0
    refused: int = 0


class Tally:
    """Counts what the store answers, and how each call ended."""

    def __init__(self, policy: Policy) -> None:
        self._limits = {
            (budget.name, limit.identity): _Tallied(
                budget.name, budget.on_exceed if policy.mode == "enforce" else "shadow", limit
            )
            for budget in policy.budgets
            for limit in budget.parsed_limits(policy.timezone)
        }
        self._windows: dict[str, _Window] = {}
        self.admitted = 0
        self.refused = 0
        self.cut = 0
        self._would_fit = 0
        self._overage = Amounts()
        self._refused_by: Counter[str] = Counter()
        self._would_refuse: Counter[str] = Counter()
        self._waits = Waits()
        self._delayed_by: dict[str, Waits] = {}

    @property
    def calls(self) -> int:
        return self.admitted + self.refused

    def answered(self, op: Op, answer: Answer) -> None:
        """The store has answered."""
        if isinstance(op, Reserve) and isinstance(answer, Verdict):
            self._reserved(op, answer)
        elif isinstance(op, Settle) and isinstance(answer, Settlement):
            self._settled(op, answer)

    def refuse(self, violations: Iterable[Violation], *, fits: bool = False) -> None:
        """A call was refused for good, by these limits, by none if no budget covers it; `fits`: it would have fit."""
        self.refused += 1
        self._would_fit += fits
        violated = {(v.account.budget, _identity(v.account)) for v in violations}
        for limit in violated:
            self._limits[limit].refused += 1
        self._refused_by.update({budget for budget, _ in violated} or {UNMATCHED})

    def wait(self, waited_ms: int, budgets: Iterable[str]) -> None:
        """A call was admitted after waiting for these budgets."""
        self._waits = self._waits.with_one(waited_ms)
        for budget in budgets:
            self._delayed_by[budget] = self._delayed_by.get(budget, Waits()).with_one(waited_ms)

    def report(self) -> Report:
        """The figures of all that was counted."""
        return Report(
            self.calls, self.admitted, self.refused, self._waits, self._overage,
            dict(self._refused_by), dict(self._would_refuse), dict(self._delayed_by),
            tuple(_figures(limit) for limit in self._limits.values()), self._would_fit, self.cut,
        )  # fmt: skip

    def _reserved(self, op: Reserve, verdict: Verdict) -> None:
        if verdict.word != "granted":
            return
        self.admitted += 1
        self._would_refuse.update(verdict.would_refuse)
        for claim in op.plan.claims:
            account = claim.account
            window = self._windows.get(account.key)
            if window is None:
                tallied = self._limits[account.budget, _identity(account)]
                window = self._windows[account.key] = _Window(tallied, account)
                tallied.windows.append(window)
            if account.unit == "concurrent":
                window.open_calls += op.estimate.concurrent
                window.level = max(window.level, window.open_calls)

    def _settled(self, op: Settle, settlement: Settlement) -> None:
        usage = op.usage
        tokens = usage.prompt_tokens + usage.completion_tokens
        actual = Amounts(tokens, usage.prompt_tokens, usage.completion_tokens, usage.cost_nanousd or 0, 1)
        if any(map(gt, actual, op.estimate)):
            above = (max(0, took - held) for took, held in zip(actual, op.estimate, strict=True))
            self._overage = Amounts(*map(add, self._overage, above))
        for claim in op.plan.claims:
            account = claim.account
            window = self._windows[account.key]
            if account.unit == "concurrent":
                window.open_calls -= op.estimate.concurrent
            else:
                amount = getattr(actual, account.unit)
                window.of.spent += amount
                window.of.overage += getattr(settlement.overage, account.unit)
                _raise_level(window, amount, op.admitted_ms, settlement.now_ms)


def _raise_level(window: _Window, amount: int, admitted_ms: int, now_ms: int) -> None:
    period = window.account.period
    if period.kind != "rolling":
        window.level += amount
        return
    slots, slot, first = window.slots, rolling_slot(period, admitted_ms), first_live_slot(period, now_ms)
    slots[slot] = slots.get(slot, 0) + amount
    window.slots = {number: spent for number, spent in slots.items() if number >= first}
    window.level = max(window.level, sum(window.slots.values()))


def _identity(account: Account) -> str:
    """That of the limit which judges the account."""
    return f"{account.unit}/{account.period}"


def _figures(tallied: _Tallied) -> LimitFigures:
    limit, windows = tallied.limit, tallied.windows
    room = limit.amount * len(windows)
    return LimitFigures(
        tallied.budget,
        tallied.on_exceed,
        limit,
        len(windows),
        len({window.account.identity for window in windows}),
        tallied.spent,
        sum(window.level for window in windows) / room if room else 0.0,
        sum(max(0, window.level - limit.amount) for window in windows),
        tallied.overage,
        tallied.refused,
    )
