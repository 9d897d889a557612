"""`Owner`: whom a team's statement is charged to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from budgetguard.errors import ConfigError
from budgetguard.policy_checks import Check, label_text, quoted, table_faults


@dataclass(frozen=True)
class Owner:
    """Puts a cost center on the chargeback statement of a team.

    Args:
        team: the label `team` of its calls, exactly: no glob.
        cost_center: text of 1 to 512 UTF-8 bytes, as the books of the company have it.

    Raises:
        ConfigError: lists every fault by the field's path.
    """

    team: str
    cost_center: str

    def __post_init__(self) -> None:
        found = [f"owner.{fault}" for fault in owner_faults(vars(self))]
        if found:
            raise ConfigError("owner", found)


OWNER_CHECKS: Mapping[str, Check] = {"team": label_text, "cost_center": label_text}
"""The fields of an owner, and what each must be."""


def owner_faults(entry: Mapping[str, Any]) -> Iterator[str]:
    """Every fault of one `[[owner]]` table, each beginning with its key; without one, `Owner(**entry)` is good."""
    return table_faults(entry, OWNER_CHECKS, required=OWNER_CHECKS)


def owners_faults(entries: Sequence[Any]) -> Iterator[tuple[int, str]]:
    """The owners of whose team an earlier one speaks: the place of each, and the fault. Takes `[[owner]]` tables."""
    first: dict[str, int] = {}
    for place, entry in enumerate(entries):
        team = entry.get("team") if isinstance(entry, Mapping) else None
        if isinstance(team, str) and first.setdefault(team, place) != place:
            yield place, f"team: owner[{first[team]}] already has the cost center of {quoted(team)}: keep one of them"
