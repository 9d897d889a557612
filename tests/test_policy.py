"""Policies: which calls a budget counts, on which accounts, and that what is remembered changes no answer."""

from __future__ import annotations

import json
import sys
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgetguard.core.model import Limit
from budgetguard.core.periods import Period, window_at
from budgetguard.errors import ConfigError, InvalidLabel
from budgetguard.policy import Budget, GuardSettings, LabelRules, Policy, SubjectKey

NOON_MS = 1_763_812_800_000  # 2025-11-22T12:00:00Z, a Saturday
HOUR_MS = 3_600_000


def key(**labels: str) -> SubjectKey:
    return tuple(sorted(labels.items()))


def names(policy: Policy, subject: SubjectKey) -> list[str]:
    return [budget.name for budget in policy.match(subject, NOON_MS).budgets]


def test_a_call_counts_against_every_limit_of_every_budget_that_matches_in_the_order_of_the_policy() -> None:
    policy = Policy(
        [
            Budget("b", ["5M tokens/hour", "$50/day", "20 concurrent"], where={"team": "search"}),
            Budget("other", ["$1/day"], where={"team": "ads"}),
            Budget("a", ["200k tokens/rolling 10 minutes", "$2/total"], per=["agent", "team"]),
        ]
    )
    match = policy.match(key(team="search", agent="x", session="s", model="m", provider="p"), NOON_MS)
    assert [budget.name for budget in match.budgets] == ["b", "a"]
    assert [json.loads(claim.account.key) for claim in match.plan.claims] == [
        ["b", [], "tokens", "hour@UTC", "2025-11-22T12+00:00"],
        ["b", [], "usd", "day@UTC", "2025-11-22"],
        ["b", [], "concurrent", "concurrent", ""],
        ["a", [["agent", "x"], ["team", "search"]], "tokens", "rolling 600000ms", ""],
        ["a", [["agent", "x"], ["team", "search"]], "usd", "total", ""],
    ]
    assert [claim.limit for claim in match.plan.claims] == [5_000_000, 50 * 10**9, 20, 200_000, 2 * 10**9]
    assert all(claim.enforced for claim in match.plan.claims)
    assert (match.plan.window_start_ms, match.plan.window_end_ms) == (NOON_MS, NOON_MS + HOUR_MS)


@pytest.mark.parametrize(
    ("where", "subject", "matches"),
    [
        ({}, key(), True),
        ({"team": "search"}, key(team="search"), True),
        ({"team": "search"}, key(team="Search"), False),
        ({"team": "search"}, key(team="search "), False),
        ({"team": "search"}, key(agent="search"), False),
        ({"team": "*"}, key(agent="x"), False),
        ({"team": "*"}, key(team="a\nb"), True),
        ({"team": "crawler-*"}, key(team="crawler-1"), True),
        ({"team": "crawler-*"}, key(team="my-crawler-1"), False),
        ({"team": "crawler-?"}, key(team="crawler-10"), False),
        ({"team": "[ab]"}, key(team="b"), True),
        ({"team": "a.c"}, key(team="abc"), False),
        ({"team": "é"}, key(team="e\u0301"), False),
        ({"team": "search", "model": "gpt-*"}, key(team="search", model="gpt-9"), True),
        ({"team": "search", "model": "gpt-*"}, key(team="search"), False),
        ({"provider": "openai"}, key(provider="openai"), True),
    ],
)
def test_every_key_of_where_must_match_as_fnmatchcase(
    where: dict[str, str], subject: SubjectKey, matches: bool
) -> None:
    assert bool(names(Policy([Budget("b", ["$1/day"], where=where)]), subject)) is matches


def test_no_budget_matches_and_the_plan_is_empty() -> None:
    match = Policy([Budget("b", ["$1/day"], where={"team": "a"})]).match(key(team="b"), NOON_MS)
    assert match.plan.claims == () == match.budgets


def test_calendar_windows_are_in_the_budgets_zone_else_the_policys_else_the_limits_own() -> None:
    own = Limit(1, "usd", Period("calendar", name="day", zone="Asia/Tokyo"))
    policy = Policy(
        [Budget("a", ["$1/day", own]), Budget("b", ["$1/day"], timezone="America/New_York")], timezone="Europe/Berlin"
    )
    accounts = [claim.account for claim in policy.match((), NOON_MS).plan.claims]
    assert [str(account.period) for account in accounts] == [
        "day@Europe/Berlin",
        "day@Asia/Tokyo",
        "day@America/New_York",
    ]
    for account in accounts:
        assert account.window_start_ms is not None
        assert (account.window, account.window_start_ms, account.window_end_ms) == window_at(account.period, NOON_MS)


@pytest.mark.parametrize(
    ("mode", "on_exceed", "enforced"),
    [
        ("enforce", "refuse", True),
        ("enforce", "delay", True),
        ("enforce", "shadow", False),
        ("shadow", "refuse", False),
        ("shadow", "shadow", False),
    ],
)
def test_shadow_budgets_and_a_policy_in_shadow_are_counted_and_not_enforced(
    mode: str, on_exceed: str, enforced: bool
) -> None:
    policy = Policy([Budget("b", ["$1/day"], on_exceed=on_exceed)], mode=mode)  # type: ignore[arg-type]
    assert [claim.enforced for claim in policy.match((), NOON_MS).plan.claims] == [enforced]


@pytest.mark.parametrize(
    ("limit", "shares", "levels"),
    [
        ("10 requests/day", (0.5, 0.8, 1.0), (5, 8, 10)),
        ("10 requests/day", (1.0, 0.5, 0.5), (5, 10)),
        ("100 requests/day", (0.07, 0.29, 0.58), (7, 29, 58)),  # in binary 0.07 * 100 is above 7, 0.29 * 100 below 29
        ("3 requests/day", (0.5,), (2,)),
        ("1 requests/day", (0.5, 0.8, 1.0), (1,)),
        ("4 requests/day", (1, 1.5), (4, 6)),
        ("10 requests/day", (), ()),
        ("9007199254740991 tokens/day", (1.0, 2), (9007199254740991,)),
    ],
)
def test_alert_levels_are_shares_as_written_rounded_up_ascending(
    limit: str, shares: tuple[float, ...], levels: tuple[int, ...]
) -> None:
    (claim,) = Policy([Budget("b", [limit], alert_at=shares)]).match((), NOON_MS).plan.claims
    assert claim.alert_levels == levels


def test_a_limit_of_zero_alerts_at_no_level() -> None:
    (claim,) = Policy([Budget("b", ["$0/day"], block=True)]).match((), NOON_MS).plan.claims
    assert (claim.limit, claim.alert_levels) == (0, ())


def test_what_an_expiry_does_goes_with_the_plan() -> None:
    policy = Policy([Budget("b", ["$1/day"])], guard=GuardSettings(on_expiry="release"))
    assert policy.match((), NOON_MS).plan.on_expiry == "release"


def test_calls_that_differ_in_labels_no_budget_names_share_one_plan() -> None:
    policy = Policy([Budget("b", ["$1/day"], where={"team": "*"}), Budget("c", ["$1/day"], per=["agent"])])
    plan = policy.match(key(team="a", agent="x", session="1"), NOON_MS).plan
    assert policy.match(key(team="a", agent="x", session="2", model="m"), NOON_MS).plan is plan
    assert policy.match(key(team="b", agent="x"), NOON_MS).plan is plan
    other = policy.match(key(team="a", agent="y"), NOON_MS).plan
    assert other is not plan
    assert other.claims[0] is plan.claims[0]


def test_a_plan_is_made_anew_where_one_of_its_windows_ends_and_serves_up_to_there() -> None:
    policy = Policy([Budget("b", ["$1/day", "5 requests/hour", "$9/total"])])
    first = policy.match((), NOON_MS)
    assert policy.match((), NOON_MS + HOUR_MS - 1) is first
    later = policy.match((), NOON_MS + HOUR_MS)
    assert [claim.account.window for claim in later.plan.claims] == ["2025-11-22", "2025-11-22T13+00:00", ""]
    back = policy.match((), NOON_MS)
    assert [claim.account.key for claim in back.plan.claims] == [claim.account.key for claim in first.plan.claims]


LABEL_TEXT = st.sampled_from(["(none)", "a", "A", "b", '"', "a,b", '["a"]', "{", "}", "null", "\0", "\n", "é", "\\"])
SUBJECTS = st.dictionaries(st.sampled_from(["team", "agent", "x,y", '"', "session"]), LABEL_TEXT, max_size=5)
BUDGETS = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(["team", "agent"]), st.sampled_from(["a", "*", "[ab]", "{", "?"]), max_size=2),
        st.lists(st.sampled_from(["team", "agent", "x,y", '"']), max_size=3, unique=True),
        st.lists(
            st.sampled_from(["$1/day", "2 requests/minute", "$3/week", "$4/rolling hour", "5 concurrent", "$6/total"]),
            min_size=1,
            max_size=3,
            unique=True,
        ),
    ),
    max_size=4,
)
INSTANTS = st.integers(NOON_MS - 2 * HOUR_MS, NOON_MS + 2 * HOUR_MS) | st.sampled_from(
    [NOON_MS, NOON_MS + 12 * HOUR_MS]
)


@given(BUDGETS, st.lists(st.tuples(SUBJECTS, INSTANTS), min_size=1, max_size=12))
def test_whatever_was_asked_before_a_match_is_what_the_rules_say(
    rules: list[tuple[dict[str, str], list[str], list[str]]], calls: list[tuple[dict[str, str], int]]
) -> None:
    budgets = [Budget(str(number), limits, where=where, per=per) for number, (where, per, limits) in enumerate(rules)]
    policy = Policy(budgets, timezone="Asia/Kolkata")
    for subject, now_ms in calls:
        wanted = []
        for budget in budgets:
            if all(name in subject and fnmatchcase(subject[name], glob) for name, glob in budget.where.items()):
                per = tuple((name, subject.get(name)) for name in budget.per)
                for limit in budget.parsed_limits("Asia/Kolkata"):
                    calendar = limit.period.kind == "calendar"
                    window = tuple(window_at(limit.period, now_ms)) if calendar else ("", None, None)
                    wanted.append((budget.name, per, limit.unit, limit.period, window, limit.amount))
        accounts = [(claim.account, claim.limit) for claim in policy.match(key(**subject), now_ms).plan.claims]
        assert wanted == [
            (a.budget, a.per, a.unit, a.period, (a.window, a.window_start_ms, a.window_end_ms), limit)
            for a, limit in accounts
        ]


@given(SUBJECTS, SUBJECTS)
def test_two_calls_share_an_account_exactly_if_their_per_labels_are_equal(
    one: dict[str, str], other: dict[str, str]
) -> None:
    per = ["team", "x,y", '"']
    policy = Policy([Budget("b", ["$1/day"], per=per)])
    (first,), (second,) = (policy.match(key(**subject), NOON_MS).plan.claims for subject in (one, other))
    equal = [one.get(name) for name in per] == [other.get(name) for name in per]
    assert (first.account.key == second.account.key) is equal
    assert first.account.subject.keys() == set(per)


def test_a_label_of_the_text_none_is_not_the_missing_label_though_both_are_shown_alike() -> None:
    policy = Policy([Budget("b", ["$1/day"], per=["agent"])])
    (missing,), (literal,) = (policy.match(k, NOON_MS).plan.claims for k in (key(), key(agent="(none)")))
    assert missing.account.key != literal.account.key
    assert missing.account.subject == literal.account.subject == {"agent": "(none)"}


def test_sessions_without_end_do_not_grow_what_is_remembered() -> None:
    policy = Policy([Budget("b", ["$1/total"], per=["session"])])

    def blocks_after(first: int, last: int) -> int:
        for number in range(first, last):
            policy.match(key(session=f"s{number}", task=f"t{number}"), NOON_MS)
        return sys.getallocatedblocks()

    full = blocks_after(0, 10_000)
    assert blocks_after(10_000, 30_000) < full + 5 * 20_000  # a session takes some twenty-four


def test_labels_are_known_by_default_if_a_budget_or_the_rules_name_them() -> None:
    rules = Policy(
        [Budget("b", ["$1/day"], where={"tenant": "*"}, per=["region"])],
        labels=LabelRules(required=["squad"], default={"env": "prod"}),
    ).labels
    known = ["team", "agent", "session", "task", "user", "tenant", "region", "squad", "env", "model", "provider"]
    rules.check(dict.fromkeys(known, "x"))
    assert rules.names == set(known)
    for wrong, hint in [("taem", "team"), ("tennant", "tenant"), ("Team", "team")]:
        with pytest.raises(InvalidLabel, match=f'label "{wrong}" is not a known label; did you mean "{hint}"'):
            rules.check({"agent": "x", wrong: "x"})


def test_labels_that_are_known_by_list_are_the_only_ones() -> None:
    rules = LabelRules(known=["team"], default={"env": "prod"})
    Policy([Budget("b", ["$1/day"], where={"team": "a", "env": "p", "model": "m"}, per=["provider"])], labels=rules)
    rules.check({"team": "a", "env": "b", "model": "c", "provider": "d"})
    with pytest.raises(InvalidLabel, match='"agent" is not a known label'):
        rules.check({"agent": "a"})
    with pytest.raises(ConfigError) as caught:
        Policy([Budget("b", ["$1/day"], where={"taem": "a"}, per=["team", "agent"])], labels=rules)
    assert len(caught.value.faults) == 2
    assert caught.value.faults[0].startswith('budget "b".where.taem: "taem" is not a known label; did you mean "team"?')
    assert caught.value.faults[1].startswith('budget "b".per[1]: "agent" is not a known label')
