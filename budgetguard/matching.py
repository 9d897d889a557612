"""Which budgets a call counts against, and the accounts that this makes: computed once, then looked up."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from functools import cached_property
from typing import Generic, NamedTuple, TypeVar

from budgetguard.budget import Budget
from budgetguard.core.amounts import MAX_AMOUNT
from budgetguard.core.model import Account, Claim, Limit, OnExpiry, Plan
from budgetguard.core.periods import Period, Window, window_at

SubjectKey = tuple[tuple[str, str], ...]
"""The labels of a call, `model` and `provider` among them, as sorted pairs."""
_MAX_CACHED = 4096
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Match:
    """The accounts of a call, and the budgets that they belong to, both in the order of the policy."""

    plan: Plan
    budgets: tuple[Budget, ...]

    @cached_property
    def estimates(self) -> frozenset[str | None]:
        """What the budgets say that estimates go by; None for one that leaves it to the policy."""
        return frozenset([budget.estimate for budget in self.budgets]) or frozenset([None])


class _Rule(NamedTuple):
    """A budget, ready to be matched."""

    budget: Budget
    where: tuple[tuple[str, Callable[[str], object]], ...]
    limits: tuple[tuple[Limit, tuple[int, ...]], ...]
    enforced: bool


class _Timed(NamedTuple, Generic[_Value]):
    """What holds from one instant to another, because the windows in it do."""

    start_ms: int
    end_ms: int
    value: _Value


_Values = tuple[str | None, ...]
_Place = tuple[int, _Values]
"""A budget, by its place in the policy, with the values of its `per` labels: what names its accounts."""


@dataclass
class Matcher:
    """Matches subjects against budgets. Calls that count against the same accounts share one `Match`.

    What it remembers has a bound: after 4096 entries of a kind it starts again. From any thread.
    """

    budgets: Sequence[Budget]
    zone: str
    enforced: bool
    on_expiry: OnExpiry
    _rules: tuple[_Rule, ...] = field(init=False)
    _named: frozenset[str] = field(init=False)
    _subjects: dict[SubjectKey, _Timed[Match]] = field(default_factory=dict)
    _matches: dict[tuple[_Place, ...], _Timed[Match]] = field(default_factory=dict)
    _claims: dict[_Place, _Timed[tuple[Claim, ...]]] = field(default_factory=dict)
    _windows: dict[Period, Window] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rules = tuple(_rule(budget, self.zone, self.enforced) for budget in self.budgets)
        self._named = frozenset(name for budget in self.budgets for name in (*budget.where, *budget.per))

    def match(self, key: SubjectKey, now_ms: int) -> Match:
        """The match of a subject at an instant of the store's time."""
        timed = self._subjects.get(key)
        if timed is not None and timed.start_ms <= now_ms < timed.end_ms:
            return timed.value
        # Labels that no budget names (often the session) must not cost a match each.
        named = tuple([pair for pair in key if pair[0] in self._named])
        timed = self._subjects.get(named)
        if timed is None or not timed.start_ms <= now_ms < timed.end_ms:
            timed = self._placed(_places(self._rules, dict(named)), now_ms)
            _keep(self._subjects, named, timed)
        _keep(self._subjects, key, timed)
        return timed.value

    def _placed(self, places: tuple[_Place, ...], now_ms: int) -> _Timed[Match]:
        timed = self._matches.get(places)
        if timed is None or not timed.start_ms <= now_ms < timed.end_ms:
            claims = tuple([claim for place in places for claim in self._claimed(place, now_ms)])
            budgets = tuple([self._rules[number].budget for number, _ in places])
            timed = _timed(claims, Match(Plan(claims, self.on_expiry), budgets))
            _keep(self._matches, places, timed)
        return timed

    def _claimed(self, place: _Place, now_ms: int) -> tuple[Claim, ...]:
        timed = self._claims.get(place)
        if timed is None or not timed.start_ms <= now_ms < timed.end_ms:
            number, values = place
            budget, _, limits, enforced = self._rules[number]
            per = tuple(zip(budget.per, values, strict=True))
            claims = []
            for limit, levels in limits:
                window = self._window(limit.period, now_ms) or ()
                account = Account(budget.name, per, limit.unit, limit.period, *window)
                claims.append(Claim(account, limit.amount, enforced, levels))
            timed = _timed(tuple(claims), tuple(claims))
            _keep(self._claims, place, timed)
        return timed.value

    def _window(self, period: Period, now_ms: int) -> Window | None:
        if period.kind != "calendar":
            return None
        window = self._windows.get(period)
        if window is None or not window.start_ms <= now_ms < window.end_ms:
            window = self._windows[period] = window_at(period, now_ms)
        return window


def _rule(budget: Budget, zone: str, enforced: bool) -> _Rule:
    where = tuple((name, re.compile(translate(glob)).match) for name, glob in budget.where.items())
    limits = tuple((limit, budget.alert_levels(limit.amount)) for limit in budget.parsed_limits(zone))
    return _Rule(budget, where, limits, enforced and budget.on_exceed != "shadow")


def _places(rules: Sequence[_Rule], subject: Mapping[str, str]) -> tuple[_Place, ...]:
    return tuple(
        [
            (number, tuple([subject.get(name) for name in rule.budget.per]))
            for number, rule in enumerate(rules)
            if all(name in subject and matches(subject[name]) for name, matches in rule.where)
        ]
    )


def _timed(claims: Sequence[Claim], value: _Value) -> _Timed[_Value]:
    starts = [claim.account.window_start_ms or 0 for claim in claims]
    ends = [claim.account.window_end_ms or MAX_AMOUNT for claim in claims]
    return _Timed(max(starts, default=0), min(ends, default=MAX_AMOUNT), value)


def _keep(cache: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    if len(cache) >= _MAX_CACHED:
        cache.clear()
    cache[key] = value
