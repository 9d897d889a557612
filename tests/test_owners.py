"""Who is charged for a team: `[[owner]]` tables, and `Owner` in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import budgetguard as bg
from budgetguard.errors import ConfigError
from budgetguard.policy import Policy
from budgetguard.policy_file import parse_policy


def parse(text: str) -> Policy:
    return parse_policy(text, "budgetguard.toml", {"CENTER": "4711"}, Path())


def test_owners_are_the_same_from_a_file_and_from_python() -> None:
    policy = parse(
        """
        [[owner]]
        team = "search"
        cost_center = "${CENTER}"
        [[owner]]
        team = "se*"
        cost_center = "=1+1"
        """
    )
    assert policy.owners == (bg.Owner("search", "4711"), bg.Owner("se*", "=1+1")), "a glob is a name like any other"
    assert Policy(owners=list(policy.owners)).owners == policy.owners
    assert parse("").owners == ()


def test_a_team_that_is_named_twice_and_fields_that_are_wrong_are_told_by_their_place() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(
            """
            [[owner]]
            team = "search"
            cost_center = "1"
            [[owner]]
            team = "search"
            cost_centre = "2"
            [[owner]]
            team = ""
            cost_center = 3
            """
        )
    assert list(caught.value.faults) == [
        'owner[1].cost_centre is not a known key; did you mean "cost_center"?',
        "owner[1].cost_center is required",
        "owner[2].team must be text of 1 to 512 UTF-8 bytes, not ''",
        'owner[2].cost_center must be text, not 3; did you mean "3"?',
        'owner[1].team: owner[0] already has the cost center of "search": keep one of them',
    ]


def test_owners_in_python_are_checked_alike() -> None:
    with pytest.raises(ConfigError, match=r"(?s)owner\.team .*owner\.cost_center"):
        bg.Owner("", "x" * 513)
    with pytest.raises(ConfigError, match=r"owner\[1\]\.team: owner\[0\] already"):
        Policy(owners=[bg.Owner("t", "1"), bg.Owner("t", "2")])
    wrong: Any
    for wrong in (bg.Owner("t", "1"), ["t"]):
        with pytest.raises(ConfigError, match="owners must be a list of Owner"):
            Policy(owners=wrong)
