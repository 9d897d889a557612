"""What has changed since another examination: settings, versions, budgets, prices, and what accounts drift by."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from budgetguard.doctor.examining import FORMAT
from budgetguard.doctor.findings import Facts
from budgetguard.errors import ConfigError

SECTIONS = ("program", "versions", "config", "prices", "store", "server", "namespace", "ledger")
PASSED_OVER = frozenset({
    "program.command", "server.uptime_in_seconds", "server.used_memory", "server.bytes", "prices.installed_days",
    "ledger.rows", "ledger.first_ms", "ledger.last_ms", "ledger.settled_ms",
})  # fmt: skip
"""What is another at every look."""


class Change(NamedTuple):
    """One thing that is not what it was; "-" for what was or is not there."""

    what: str
    before: str
    now: str


def read_evidence(path: Path) -> Facts:
    """What `doctor --format json -o FILE` has written.

    Raises:
        ConfigError: it is something else, or of another version.
        OSError: it cannot be read.
    """
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8")))
        written = found["budgetguard_doctor"]
        if written == FORMAT:
            dict(_values(found))  # all that is compared must be there
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ConfigError(
            "--compare", [f"{path} is no evidence: name what `doctor --format json -o FILE` wrote"]
        ) from None
    if written != FORMAT:
        raise ConfigError("--compare", [f"{path} has format {written}, and this budgetguard reads {FORMAT}"])
    return found


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """What differs, by its path."""
    was, is_now = dict(_values(before)), dict(_values(now))
    names = dict.fromkeys([*was, *is_now])
    return [
        Change(name, was.get(name, "-"), is_now.get(name, "-")) for name in names if was.get(name) != is_now.get(name)
    ]


def _values(evidence: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for section in SECTIONS:
        yield from _flat(section, evidence.get(section))
    for check in evidence["checks"]:
        yield f"check {check['name']}", str(check["state"])
    for account in evidence["accounts"]:
        for amount in ("spent", "reserved"):
            drift = account[amount] - account[f"told_{amount}"]
            if drift:
                yield f"drift of {amount}, {account['key']}", f"{drift:+}"


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Its plain values by their paths; what has a name of its own, in a list, by that."""
    if name in PASSED_OVER:
        return
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(f"{name}.{key}", part)
    elif isinstance(value, Sequence) and not isinstance(value, str) and any(isinstance(one, Mapping) for one in value):
        for one in value:
            own = " ".join(str(one[key]) for key in ("name", "model", "valid_from") if one.get(key))
            yield from _flat(f"{name}[{own}]", one)
    elif value != []:
        yield name, value if isinstance(value, str) else json.dumps(value)
