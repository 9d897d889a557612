"""Who has spent what stands on an account, and whether that is more than usual."""

from __future__ import annotations

import glob
from typing import TYPE_CHECKING, NamedTuple

from budgetguard.core.model import NO_LABEL, Account
from budgetguard.policy import Policy

if TYPE_CHECKING:
    from budgetguard.cli.why_finding import Standing
    from budgetguard.ledger.reading import Book

DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS
_AMOUNTS = {
    "tokens": "total_tokens", "input_tokens": "prompt_tokens", "output_tokens": "completion_tokens",
    "usd": "cost_nanousd", "requests": "calls",
}  # fmt: skip
"""What of a `Sum` counts in a unit; what is concurrent is held, never spent."""


class Spender(NamedTuple):
    """What an agent has spent with a model, in the account's unit.

    `usual` is the mean of as long a stretch in the seven days before.
    """

    agent: str
    model: str
    calls: int
    spent: int
    usual: int


class Stretched(NamedTuple):
    """From when until when spending is looked at, and why from then: "window", "rolling" or "day"."""

    since_ms: int
    until_ms: int
    kind: str


def spenders(
    book: Book, policy: Policy, namespace: str, standing: Standing, now_ms: int
) -> tuple[Stretched, list[Spender]]:
    """Who has spent on an account since its window began (of one without windows: in its span, or in 24 hours).

    Errors: those of the ledger.
    """
    from budgetguard.ledger.reading import Stretch

    account = standing.account
    stretch = _stretch(account, now_ms)
    if account.unit not in _AMOUNTS:
        return stretch, []
    budget = next(one for one in policy.budgets if one.name == account.budget)
    where = {**budget.where, **{name: glob.escape(value) for name, value in account.per if value is not None}}
    without = [name for name, value in account.per if value is None]
    spent: dict[tuple[str, str], list[int]] = {}
    parts = ((stretch.since_ms, stretch.until_ms), (stretch.since_ms - WEEK_MS, stretch.since_ms))
    for place, (since_ms, until_ms) in enumerate(parts):
        for one in book.sums(Stretch(namespace, max(since_ms, 0), until_ms), ["agent", "model", *without], where):
            agent, model, *others = one.group
            if not any(others):
                found = spent.setdefault((agent or NO_LABEL, model or NO_LABEL), [0, 0, 0])
                found[place] += getattr(one, _AMOUNTS[account.unit])
                found[2] += one.calls if place == 0 else 0
    length_ms = stretch.until_ms - stretch.since_ms
    told = [Spender(*who, calls, now, before * length_ms // WEEK_MS) for who, (now, before, calls) in spent.items()]
    return stretch, sorted((one for one in told if one.calls), key=lambda one: (-one.spent, one))


def _stretch(account: Account, now_ms: int) -> Stretched:
    if account.window_start_ms is not None:
        return Stretched(account.window_start_ms, now_ms + 1, "window")
    if account.period.kind == "rolling":
        return Stretched(now_ms - account.period.span_ms, now_ms + 1, "rolling")
    return Stretched(now_ms - DAY_MS, now_ms + 1, "day")
