"""Budgets and the other parts of a policy, made in Python: every fault is told at once, by the field's path."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from limits import RateLimitItemPerHour

from budgetguard.budget import Budget
from budgetguard.core.grammar import parse_limit
from budgetguard.core.model import Limit
from budgetguard.core.periods import Period
from budgetguard.errors import ConfigError, InvalidAmount
from budgetguard.policy import GuardSettings, LabelRules, Policy, StoreSettings, changes
from budgetguard.policy_checks import span_ms
from budgetguard.pricing import PriceTable

HUGE = 10**6_000


@dataclasses.dataclass(frozen=True)
class Odd:
    """A value of no kind that a field takes."""


ODD: list[Any] = [5, 1.5, True, None, "", b"x", float("nan"), float("inf"), HUGE, -1, Odd(), [[]], {"": ""}, {5: 5}]


def test_a_budget_says_by_itself_only_what_it_must() -> None:
    budget = Budget("b", ["$5/day"])
    assert (budget.where, budget.per, budget.on_exceed, budget.block) == ({}, (), "refuse", False)
    assert (budget.max_delay_ms, budget.alert_at, budget.timezone) == (30_000, (0.5, 0.8, 1.0), None)
    assert budget == Budget("b", ("$5/day",))
    assert hash(budget) == hash(Budget("b", ["$5/day"]))


def test_a_budget_does_not_change_with_what_it_was_made_of() -> None:
    limits, where, per = ["$5/day"], {"team": "a"}, ["agent"]
    budget = Budget("b", limits, where=where, per=per)
    limits.append("$1/day")
    where["team"] = "b"
    per.append("user")
    assert budget == Budget("b", ["$5/day"], where={"team": "a"}, per=["agent"])


def test_limits_are_texts_limits_or_a_unit_beside_an_item_of_the_limits_library() -> None:
    own = Limit(7, "requests", Period("total"))
    budget = Budget("b", ["$5/day", own, ("tokens", RateLimitItemPerHour(500_000))], timezone="Europe/Berlin")
    assert budget.parsed_limits("UTC") == (
        parse_limit("$5/day", "Europe/Berlin"),
        own,
        parse_limit("500k tokens/hour", "Europe/Berlin"),
    )


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"name": ""}, 'budget "".name must be text of 1 to 512 UTF-8 bytes'),
        ({"name": "\ud800"}, r'budget "\ud800".name must be text that UTF-8 can write'),
        ({"name": 5}, "budget 5.name must be text"),
        ({"limits": []}, 'budget "b".limits must have at least one limit'),
        ({"limits": "$5/day"}, 'budget "b".limits must be a list of limits, such as ["$5/day"]'),
        ({"limits": ["5 foos/day"]}, "budget \"b\".limits[0]: limit '5 foos/day': unit 'foos' is not known"),
        ({"limits": ["$5/day", "5 tokens"]}, 'budget "b".limits[1]: limit '),
        ({"limits": ["$5/day", "$7/DAY"]}, 'budget "b".limits[1]: "$7/day" has the unit and period of limits[0]'),
        ({"limits": ["5 tokens/rolling 1 hour", "6 tokens/rolling 60 minutes"]}, "of limits[0]: keep one"),
        ({"limits": ["$0/day"]}, 'budget "b".limits[0] is 0, which refuses every call: write block = true'),
        ({"where": ["team"]}, 'budget "b".where must map labels to values'),
        ({"where": {"team": 5}}, 'budget "b".where.team must be text, not 5'),
        ({"where": {"": "x"}}, 'budget "b".where."": a label\'s name must be text of 1 to 512'),
        ({"per": "agent"}, 'did you mean ["agent"]?'),
        ({"per": ["agent", 5]}, 'budget "b".per[1] must be text, not 5'),
        ({"per": ["agent", "agent"]}, 'budget "b".per[1] names "agent" again'),
        ({"on_exceed": "Delay"}, "not 'Delay'; did you mean \"delay\"?"),
        ({"max_delay": "30"}, 'did you mean "30s"?'),
        ({"max_delay": "-1s"}, 'budget "b".max_delay must be a time such as "30s"'),
        ({"alert_at": 0.5}, 'budget "b".alert_at must be a list of shares'),
        ({"alert_at": [0.5, 0]}, 'budget "b".alert_at[1] must be a share of the limit above 0'),
        ({"timezone": "Europe/berlin"}, "did you mean Europe/Berlin?"),
        ({"block": 1}, 'budget "b".block must be true or false, not 1'),
    ],
)
def test_a_fault_of_a_budget_names_the_field_and_says_what_to_write(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Budget(**{"name": "b", "limits": ["$5/day"], **fields})
    assert len(caught.value.faults) == 1
    assert fault in caught.value.faults[0]


RIGHT = [
    ("timezone", None),
    ("estimate", None),
    ("max_delay", 5),
    ("max_delay", 1.5),
    ("max_delay", 1),
    ("block", True),
]
WRONG = [
    pytest.param(field.name, value, id=f"{field.name}-{number}")
    for field in dataclasses.fields(Budget)
    for number, value in enumerate(ODD)
    if field.init and not (value != HUGE and (field.name, value) in RIGHT)
]


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_a_value_of_a_wrong_kind_is_a_fault_of_its_field(field: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Budget(**{"name": "b", "limits": ["$5/day"], field: value})
    assert all(f".{field}" in fault and fault.isprintable() for fault in caught.value.faults)


def test_every_fault_of_a_budget_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Budget("b", ["$5/year", "x"], where={"team": ""}, per=[""], on_exceed="no", max_delay="x", alert_at=[-1, "x"])  # type: ignore[arg-type,list-item]
    paths = ["where.team", "per[0]", "on_exceed", "max_delay", "alert_at[0]", "alert_at[1]", "limits[0]", "limits[1]"]
    assert [next(path for path in paths if f".{path}" in fault) for fault in caught.value.faults] == paths


def test_a_limit_of_zero_is_fine_where_it_is_meant() -> None:
    assert Budget("b", ["0 requests/day", "$5/day"], block=True).parsed_limits("UTC")[0].amount == 0


TIMES: list[tuple[Any, int]] = [
    ("500ms", 500), ("60s", 60_000), ("15m", 900_000), ("24h", 86_400_000), ("7d", 604_800_000), ("1.5 h", 5_400_000),
    (30, 30_000), (0.25, 250), (0, 0), ("0s", 0), (0.0001, 1), ("0.5ms", 1), (1.1, 1_100),
]  # fmt: skip
NO_TIMES: list[Any] = [
    "", "30", "s", "1 y", "1e3s", "-1s", "\u0661s", "1s\n", "9" * 20 + "s", "99999999d", -1, 1e300, float("nan"),
    True, None, [], b"1s", pytest.param(HUGE, id="huge"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "ms"), TIMES)
def test_a_time_is_text_with_a_unit_or_a_number_of_seconds(value: Any, ms: int) -> None:
    assert span_ms(value, "lease") == ms


@pytest.mark.parametrize("value", NO_TIMES)
def test_anything_else_is_no_time(value: Any) -> None:
    with pytest.raises(InvalidAmount, match="lease must be"):
        span_ms(value, "lease")


@pytest.mark.parametrize(
    ("make", "paths"),
    [
        (lambda: GuardSettings(lease_ms=0, max_hold_ms=1.5, replay_keep_ms=True, on_expiry="x", on_unmatched=None),  # type: ignore[arg-type]
         ["guard.lease_ms", "guard.max_hold_ms", "guard.replay_keep_ms", "guard.on_expiry", "guard.on_unmatched"]),
        (lambda: GuardSettings(on_unknown_api="allow", on_unknown_price=0, on_cancel="charge", on_error=None,  # type: ignore[arg-type]
                               on_unknown_outcome="", on_stream_exceed=True, inject_max_tokens=1),  # type: ignore[arg-type]
         ["guard.on_unknown_api", "guard.on_unknown_price", "guard.on_cancel", "guard.on_error",
          "guard.on_unknown_outcome", "guard.on_stream_exceed", "guard.inject_max_tokens"]),
        (lambda: StoreSettings(url="file.db", namespace="a/b", timeout_ms=0, on_store_away=1, spool=""),  # type: ignore[arg-type]
         ["store.url", "store.namespace", "store.timeout_ms", "store.on_store_away", "store.spool"]),
        (lambda: StoreSettings(outbox_max=0, ledger="sql", allow_eviction=1),  # type: ignore[arg-type]
         ["store.outbox_max", "store.ledger", "store.allow_eviction"]),
        (lambda: StoreSettings(outbox_max=2**53), ["store.outbox_max"]),
        (lambda: LabelRules(required="team", known=[""], default={"env": 5}),  # type: ignore[dict-item]
         ["labels.required", "labels.known[0]", "labels.default.env"]),
        (lambda: LabelRules(required=["team", "tema"], known=["team"]), ["labels.required[1]"]),
        (lambda: Policy(mode="on", timezone="Mars", labels=5, guard=5, store=5, prices=5, budgets=5),  # type: ignore[arg-type]
         ["mode", "timezone", "labels", "guard", "store", "prices", "budgets"]),
        (lambda: Policy([Budget("a", ["$1/day"]), Budget("a", ["$2/day"])]), ['budget "a".name: "a" is already']),
        (lambda: Policy(["$5/day"]), ["budgets must be a list of Budget"]),  # type: ignore[list-item]
    ],
)  # fmt: skip
def test_every_fault_of_the_other_parts_is_told_at_once(make: Any, paths: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert len(caught.value.faults) == len(paths)
    for fault, path in zip(caught.value.faults, paths, strict=True):
        assert fault.startswith(path)


def test_two_limits_that_are_one_account_only_in_the_policys_zone_are_a_fault_there() -> None:
    budget = Budget("b", ["$1/day", Limit(2, "usd", Period("calendar", name="day", zone="Asia/Tokyo"))])
    assert len(Policy([budget]).match((), 0).plan.claims) == 2
    with pytest.raises(ConfigError, match=r'budget "b".limits\[1\]: .* has the unit and period of limits\[0\]'):
        Policy([budget], timezone="Asia/Tokyo")


OLD = Policy([Budget("a", ["$5/day", "9 requests/minute"], per=["team"]), Budget("z", ["$1/total"])])


@pytest.mark.parametrize(
    ("new", "lines"),
    [
        (Policy([Budget("z", ["$2/total"], on_exceed="delay", where={"team": "a"}),
                 Budget("a", ["10 requests/minute", "$6/day"], per=["team"], alert_at=[])], mode="shadow"), []),
        (Policy(OLD.budgets, timezone="Europe/Berlin"),
         ["budget a: $/day in Europe/Berlin starts at zero (was UTC)",
          "budget a: requests/minute in Europe/Berlin starts at zero (was UTC)"]),
        (Policy([Budget("a", ["$5/day", "9 requests/rolling minute", "2 concurrent"], per=["team"]), OLD.budgets[1]]),
         ["budget a: requests/rolling minute starts at zero (is new)",
          "budget a: concurrent starts at zero (is new)",
          "budget a: requests/minute in UTC is gone; what it has spent counts no more"]),
        (Policy([Budget("a", ["$5/day"], per=["agent"]), Budget("y", ["$1/total"])]),
         ['budget a: one account per "agent" starts at zero (was one account per "team")',
          "budget y: starts at zero (is new)",
          "budget z: is gone; what it has spent counts no more"]),
        (Policy(OLD.budgets, store=StoreSettings(url="redis://:secret@host/0", namespace="prod")),
         ["store.url: another store, in which every account starts at zero",
          'store.namespace: every account starts at zero in "prod" (was "default")']),
    ],
)  # fmt: skip
def test_changes_tells_what_starts_at_zero_and_nothing_else(new: Policy, lines: list[str]) -> None:
    assert changes(OLD, new) == lines


def test_the_defaults_are_those_of_the_design() -> None:
    policy = Policy()
    assert (policy.mode, policy.timezone, policy.budgets) == ("enforce", "UTC", ())
    assert policy.guard == GuardSettings(60_000, 86_400_000, 900_000, "charge", "allow")
    assert policy.store == StoreSettings(None, "default", 2_000, "refuse", None, 1_000_000, "outbox", False)
    assert isinstance(policy.prices, PriceTable)


def test_a_password_in_a_store_url_is_never_shown() -> None:
    assert "secret" not in repr(StoreSettings(url="redis://:secret@host/0"))
    for url in ["rediz://:secret@host", "redis:/:secret@host", "secret", "sqlite://secret/x.db"]:
        with pytest.raises(ConfigError) as caught:
            StoreSettings(url=url)
        assert "secret" not in str(caught.value)
