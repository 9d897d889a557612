"""`Budget`: the rule that a policy is made of, and everything that can be wrong with one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Any, Literal

from budgetguard.core.amounts import MAX_AMOUNT, shown
from budgetguard.core.grammar import format_limit, limit_from
from budgetguard.core.model import Limit, OnExceed
from budgetguard.errors import ConfigError, InvalidInput
from budgetguard.policy_checks import (
    Check,
    a_flag,
    a_span,
    a_zone,
    is_number,
    label_names,
    label_text,
    label_values,
    one_of,
    quoted,
    span_ms,
    table_faults,
)


@dataclass(frozen=True)
class Budget:
    """Which calls, counted separately by what, up to which limits, and what happens to a call beyond them.

    Args:
        name: part of the identity of its accounts: another name starts at zero.
        limits: at least one: a text ("5M tokens/hour"), a `Limit`, or a unit beside a `RateLimitItem` of `limits`.
        where: the calls that count: every label must match its glob (as fnmatchcase); a call without it does not.
        per: one account for every value of these labels, in this order.
        on_exceed: "refuse", "delay" (wait up to `max_delay`) or "shadow" (count, never refuse).
        max_delay: "30s", or a number of seconds.
        alert_at: shares of each limit at which to tell, above 0.
        timezone: of calendar periods, an IANA name; None: the policy's.
        block: says that a limit of 0 is meant.
        estimate: what requests that count against it are estimated by: "learned" or "ceiling" (`EstimateSettings`);
            None: as the policy says. Of several budgets the strictest decides, which is "ceiling".

    Raises:
        ConfigError: lists every fault by the field's path.
    """

    name: str
    limits: Sequence[str | Limit | tuple[Any, ...]]
    where: Mapping[str, str] = field(default_factory=dict, hash=False)
    per: Sequence[str] = ()
    on_exceed: OnExceed = "refuse"
    max_delay: str | float = "30s"
    alert_at: Sequence[float] = (0.5, 0.8, 1.0)
    timezone: str | None = None
    block: bool = False
    estimate: Literal["learned", "ceiling"] | None = None
    max_delay_ms: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        unsaid = (("timezone", None), ("estimate", None))
        entry = {name: value for name, value in self.entry.items() if (name, value) not in unsaid}
        faults = [f"budget {quoted(self.name)}.{fault}" for fault in budget_faults(entry)]
        if faults:
            raise ConfigError("budget", faults)
        object.__setattr__(self, "limits", tuple(self.limits))
        object.__setattr__(self, "where", dict(self.where))
        object.__setattr__(self, "per", tuple(self.per))
        object.__setattr__(self, "alert_at", tuple(self.alert_at))
        object.__setattr__(self, "max_delay_ms", span_ms(self.max_delay, "max_delay"))

    @property
    def entry(self) -> Mapping[str, Any]:
        """The fields by name, as a `[[budget]]` table has them."""
        return {name: getattr(self, name) for name in BUDGET_CHECKS}

    def parsed_limits(self, zone: str) -> tuple[Limit, ...]:
        """The limits in order; calendar periods in the budget's zone, else in `zone`."""
        return tuple(limit_from(limit, self.timezone or zone) for limit in self.limits)

    def alert_levels(self, limit: int) -> tuple[int, ...]:
        """The absolute amounts of a limit at which to tell, ascending: shares as they are written, rounded up."""
        levels = {ceil(Fraction(Decimal(str(share))) * limit) for share in self.alert_at}
        return tuple(sorted(level for level in levels if 0 < level <= MAX_AMOUNT))


def budget_faults(entry: Mapping[str, Any]) -> Iterator[str]:
    """Every fault of the fields of a budget, each beginning with its path; without one, `Budget(**entry)` is good."""
    yield from table_faults(entry, BUDGET_CHECKS, required=("name", "limits"))
    limits = entry.get("limits")
    if isinstance(limits, (list, tuple)):
        zone = entry.get("timezone")
        zone = "UTC" if zone is None or list(a_zone("timezone", zone)) else zone
        yield from limit_faults(limits, zone, blocks=entry.get("block") is True)


def limit_faults(limits: Sequence[Any], zone: str, *, blocks: bool) -> Iterator[str]:
    """Every fault of a budget's limits: their text, a 0 that is not meant, two for one unit and period."""
    first: dict[str, int] = {}
    for number, value in enumerate(limits):
        path = f"limits[{number}]"
        try:
            limit = limit_from(value, zone)
        except InvalidInput as error:
            yield f"{path}: {error}"
            continue
        if limit.amount == 0 and not blocks:
            yield f"{path} is 0, which refuses every call: write block = true if that is meant"
        if limit.identity in first:
            other = f"limits[{first[limit.identity]}]"
            yield f"{path}: {quoted(format_limit(limit))} has the unit and period of {other}: keep one of them"
        first.setdefault(limit.identity, number)


def _some_limits(path: str, value: Any) -> Iterator[str]:
    if not isinstance(value, (list, tuple)):
        hint = f"; did you mean [{quoted(value)}]?" if isinstance(value, str) else ""
        yield f'{path} must be a list of limits, such as ["$5/day"], not {shown(value)}{hint}'
    elif not value:
        yield f'{path} must have at least one limit, such as "$5/day"'


def _shares(path: str, value: Any) -> Iterator[str]:
    if not isinstance(value, (list, tuple)):
        yield f"{path} must be a list of shares of the limit, such as [0.5, 0.8, 1.0], not {shown(value)}"
        return
    for number, share in enumerate(value):
        if not (is_number(share) and share > 0):
            yield f"{path}[{number}] must be a share of the limit above 0, such as 0.8, not {shown(share)}"


BUDGET_CHECKS: Mapping[str, Check] = {
    "name": label_text,
    "limits": _some_limits,
    "where": label_values,
    "per": label_names,
    "on_exceed": one_of("refuse", "delay", "shadow"),
    "max_delay": a_span(0),
    "alert_at": _shares,
    "timezone": a_zone,
    "block": a_flag,
    "estimate": one_of("learned", "ceiling"),
}
"""The fields of a budget, and what each must be."""
