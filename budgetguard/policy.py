"""`Policy`: the budgets and everything that goes with them, as a Python value; `policy_file` reads one from TOML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

from budgetguard.alerts.settings import AlertRoute, AlertSettings, routes_faults
from budgetguard.budget import Budget, limit_faults
from budgetguard.core.amounts import shown
from budgetguard.core.model import Limit
from budgetguard.errors import ConfigError
from budgetguard.estimates.settings import EstimateSettings
from budgetguard.matching import Match, Matcher, SubjectKey
from budgetguard.owners import Owner, owners_faults
from budgetguard.policy_checks import a_zone, key_path, one_of, quoted
from budgetguard.policy_settings import GuardSettings, LabelRules, LedgerSettings, StoreSettings, unknown_label
from budgetguard.pricing import PriceTable
from budgetguard.wire.hosts import Host

__all__ = [
    "AlertRoute", "AlertSettings", "Budget", "GuardSettings", "LabelRules", "LedgerSettings", "Match", "Mode", "Policy",
    "StoreSettings", "SubjectKey", "changes",
]  # fmt: skip

Mode = Literal["enforce", "shadow", "off"]
MODES = one_of("enforce", "shadow", "off")


class Policy:
    """What a guard enforces. Never changes: a reload makes a new one."""

    def __init__(
        self,
        budgets: Sequence[Budget] = (),
        *,
        mode: Mode = "enforce",
        timezone: str = "UTC",
        labels: LabelRules | None = None,
        guard: GuardSettings | None = None,
        store: StoreSettings | None = None,
        prices: PriceTable | None = None,
        estimate: EstimateSettings | None = None,
        hosts: Sequence[Host] = (),
        ledger: LedgerSettings | None = None,
        owners: Sequence[Owner] = (),
        alerts: AlertSettings | None = None,
    ) -> None:
        """Take the parts together. `mode` is for all budgets, `timezone` for those without their own.

        `hosts` are those whose API is not known by itself, or known otherwise; `owners` the cost centers of teams.

        Raises:
            ConfigError: lists every fault by the field's path: two budgets of one name, labels that are not known ...
        """
        self.labels = LabelRules() if labels is None else labels
        self.guard = GuardSettings() if guard is None else guard
        self.store = StoreSettings() if store is None else store
        self.prices = PriceTable() if prices is None else prices
        self.estimate = EstimateSettings() if estimate is None else estimate
        self.ledger = LedgerSettings() if ledger is None else ledger
        self.alerts = AlertSettings() if alerts is None else alerts
        self.mode, self.timezone = mode, timezone
        self.budgets = tuple(budgets) if isinstance(budgets, (list, tuple)) else budgets
        self.hosts = tuple(hosts) if isinstance(hosts, (list, tuple)) else hosts
        self.owners = tuple(owners) if isinstance(owners, (list, tuple)) else owners
        if faults := list(_policy_faults(self)):
            raise ConfigError("policy", faults)
        if self.labels.known is None:
            names = known_labels(self.labels, [budget.entry for budget in self.budgets])
            self.labels = replace(self.labels, known=sorted(names))
        self._matcher = Matcher(self.budgets, timezone, mode == "enforce", self.guard.on_expiry)

    @cached_property
    def learns(self) -> bool:
        """Whether any request may be estimated by what was learned."""
        return "learned" in {self.estimate.output, *(budget.estimate for budget in self.budgets)}

    def match(self, key: SubjectKey, now_ms: int) -> Match:
        """The accounts that a call counts against, each with its limit, and their budgets, in the policy's order.

        Args:
            key: the labels of the call, `model` and `provider` among them, as sorted pairs.
            now_ms: the store's time; it chooses the calendar windows.
        """
        return self._matcher.match(key, now_ms)


def changes(old: Policy, new: Policy) -> list[str]:
    """A line for everything that a change of policy starts at zero or ceases to count.

    Amounts, `where`, alerts and `on_exceed` are no part of an account's identity, and change nothing here.
    """
    lines = []
    if new.store.url != old.store.url:
        lines.append("store.url: another store, in which every account starts at zero")
    if new.store.namespace != old.store.namespace:
        was = quoted(old.store.namespace)
        lines.append(f"store.namespace: every account starts at zero in {quoted(new.store.namespace)} (was {was})")
    return lines + budget_changes(old, new)


def budget_changes(old: Policy, new: Policy) -> list[str]:
    """The lines of `changes` that are about budgets: all that a reload changes, because it opens no other store."""
    lines = []
    olds, news = ({budget.name: budget for budget in policy.budgets} for policy in (old, new))
    for name, budget in news.items():
        if name not in olds:
            lines.append(f"budget {name}: starts at zero (is new)")
            continue
        limits, before = budget.parsed_limits(new.timezone), olds[name].parsed_limits(old.timezone)
        lines += [f"budget {name}: {change}" for change in _limit_changes(budget.per, limits, olds[name].per, before)]
    lines += [f"budget {name}: is gone; what it has spent counts no more" for name in olds if name not in news]
    return lines


def _limit_changes(
    per: Sequence[str], limits: Sequence[Limit], old_per: Sequence[str], before: Sequence[Limit]
) -> Iterator[str]:
    if per != old_per:
        yield f"{_by(per)} starts at zero (was {_by(old_per)})"
        return
    identities = {limit.identity for limit in limits}
    ended = {_label(limit): limit for limit in before if limit.identity not in identities}
    for limit in limits:
        if limit.identity not in {other.identity for other in before}:
            was = ended.pop(_label(limit), None)
            yield f"{_with_zone(limit)} starts at zero ({'is new' if was is None else f'was {was.period.zone}'})"
    for limit in ended.values():
        yield f"{_with_zone(limit)} is gone; what it has spent counts no more"


def _by(per: Sequence[str]) -> str:
    return f"one account per {', '.join(map(quoted, per))}" if per else "one account for all calls"


def _label(limit: Limit) -> str:
    period = limit.period.label
    return ("$" if limit.unit == "usd" else limit.unit) + (f"/{period}" if period else "")


def _with_zone(limit: Limit) -> str:
    return _label(limit) + (f" in {limit.period.zone}" if limit.period.kind == "calendar" else "")


def budgets_faults(entries: Sequence[Mapping[str, Any]], names: frozenset[str] | None) -> Iterator[tuple[int, str]]:
    """What is wrong between budgets, given as their fields: names given twice, labels that are none of `names`.

    Yields the place of the budget, and a fault that begins with the field's path. Passes over fields of a wrong kind.
    """
    first: dict[str, int] = {}
    for place, entry in enumerate(entries):
        name = entry.get("name")
        if isinstance(name, str) and first.setdefault(name, place) != place:
            yield place, f"name: {quoted(name)} is already the name of budget[{first[name]}]; give it another"
        if names is not None:
            for path, label in _named_labels(entry):
                if label not in names:
                    yield place, unknown_label(f"{path}: {quoted(label)}", label, names)


def _named_labels(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    where, per = entry.get("where"), entry.get("per")
    if isinstance(where, Mapping):
        yield from ((f"where.{key_path(label)}", label) for label in where)
    if isinstance(per, (list, tuple)):
        yield from ((f"per[{number}]", label) for number, label in enumerate(per) if isinstance(label, str))


def known_labels(rules: LabelRules, budgets: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Every label that a call may have: those of the rules and, unless these say which, those that budgets name."""
    named = () if rules.known is not None else {name for entry in budgets for _, name in _named_labels(entry)}
    return frozenset((*rules.names, *named))


def hosts_faults(entries: Sequence[Any]) -> Iterator[tuple[int, str]]:
    """The hosts of which an earlier one has the name: the place of each, and the fault. Takes `[[host]]` tables."""
    first: dict[str, int] = {}
    for place, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, Mapping) else None
        if isinstance(name, str) and first.setdefault(name.lower(), place) != place:
            yield place, f"name: host[{first[name.lower()]}] already says what {quoted(name)} is: keep one of them"


def _policy_faults(policy: Policy) -> Iterator[str]:
    yield from MODES("mode", policy.mode)
    bad_zone = list(a_zone("timezone", policy.timezone))
    yield from bad_zone
    kinds: dict[str, type] = {"labels": LabelRules, "guard": GuardSettings, "store": StoreSettings}
    kinds |= {"prices": PriceTable, "estimate": EstimateSettings, "ledger": LedgerSettings, "alerts": AlertSettings}
    for name, kind in kinds.items():
        if not isinstance(getattr(policy, name), kind):
            yield f"{name} must be a {kind.__name__}, not {shown(getattr(policy, name))}"
    hosts: Any = policy.hosts
    if not isinstance(hosts, tuple) or not all(isinstance(host, Host) for host in hosts):
        yield f"hosts must be a list of Host, not {shown(hosts)}"
    else:
        yield from (f"host[{place}].{fault}" for place, fault in hosts_faults([vars(host) for host in hosts]))
    owners: Any = policy.owners
    if not isinstance(owners, tuple) or not all(isinstance(owner, Owner) for owner in owners):
        yield f"owners must be a list of Owner, not {shown(owners)}"
    else:
        yield from (f"owner[{place}].{fault}" for place, fault in owners_faults([vars(owner) for owner in owners]))
    budgets: Any = policy.budgets
    if not isinstance(budgets, tuple) or not all(isinstance(budget, Budget) for budget in budgets):
        yield f"budgets must be a list of Budget, not {shown(budgets)}"
        return
    rules: Any = policy.labels
    names = rules.names if isinstance(rules, LabelRules) and rules.known is not None else None
    entries = [budget.entry for budget in budgets]
    for place, fault in budgets_faults(entries, names):
        yield f"budget {quoted(budgets[place].name)}.{fault}"
    if isinstance(rules, LabelRules) and isinstance(policy.alerts, AlertSettings):
        routes = [vars(route) for route in policy.alerts.routes]
        yield from (f"alert[{at}].{fault}" for at, fault in routes_faults(routes, known_labels(rules, entries)))
    for budget in () if bad_zone else budgets:
        # A Limit with a zone of its own can be the same account as a text only now that the policy's zone is known.
        for fault in limit_faults(budget.limits, budget.timezone or policy.timezone, blocks=budget.block):
            yield f"budget {quoted(budget.name)}.{fault}"
