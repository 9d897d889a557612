"""The flat keys of an event: what a log line is made of."""

from __future__ import annotations

from typing import Any

from budgetguard.core.amounts import Amounts
from budgetguard.core.model import Account

_AMOUNTS = frozenset(("threshold", "limit", "level_reached", "spent"))
"""The fields whose unit is that of the event's account."""


def flat_fields(event: Any) -> dict[str, Any]:
    """The fields of an event as `Event.fields` tells them."""
    keys: dict[str, Any] = {}
    labels: dict[str, str] = {}
    unit = _unit_of(event)
    for key in event.keys:
        name = f"{key}{unit}" if key in _AMOUNTS else key
        _flatten(keys, labels, name, getattr(event, key))
    return {(f"label_{name}" if name in keys else name): value for name, value in labels.items()} | keys


def _unit_of(event: Any) -> str:
    account = getattr(event, "account", None)
    return unit_suffix(account.unit) if isinstance(account, Account) else ""


def unit_suffix(unit: str) -> str:
    """What the name of an amount of this unit ends in."""
    return "_nanousd" if unit == "usd" else f"_{unit}"


def _flatten(keys: dict[str, Any], labels: dict[str, str], name: str, value: Any) -> None:
    """Plain values under flat keys: an account by its parts, of several violations the first."""
    if name == "subject":
        labels.update(value)
    elif isinstance(value, Account):
        labels.update(value.subject)
        keys.update(budget=value.budget, unit=value.unit, period=str(value.period), window=value.window)
    elif isinstance(value, Amounts):
        keys.update({f"{name}{unit_suffix(unit)}": amount for unit, amount in value._asdict().items() if amount})
    elif name == "violations":
        keys[name] = len(value)
        for violation in value[:1]:
            _flatten(keys, labels, "account", violation.account)
            keys["reason"] = violation.reason
            for amount in ("limit", "spent", "reserved", "requested"):
                keys[f"{amount}{unit_suffix(violation.account.unit)}"] = getattr(violation, amount)
    elif name == "figures":
        keys.update(value)
    else:
        keys[name] = value
