"""The estimate of an output, by what was learned and by the calls that are open on the same accounts."""

from __future__ import annotations

import budgetguard as bg
from budgetguard.core.model import Plan
from budgetguard.estimate import EstimateSettings
from budgetguard.learning.forecast import Forecast
from budgetguard.policy import Policy

NOW_MS = 1_767_571_200_000
BOUND = 4_096


def plan(*limits: str, agent: str = "a") -> Plan:
    budgets = [bg.Budget("all", ["9M tokens/hour"]), bg.Budget("each", limits, per=["agent"])]
    return Policy(budgets).match((("agent", agent), ("model", "m")), NOW_MS).plan


def learned(long: int = 10) -> Forecast:
    found = Forecast(EstimateSettings())
    for number in range(1_000):
        found.learn({"model": "m", "agent": "a"}, 500 if number % 100 < long else 20, NOW_MS)
    return found


def asked(found: Forecast, plan: Plan, prompt: int = 0, bound: int = BOUND) -> int:
    return found.tokens({"model": "m", "agent": "a"}, plan, prompt, bound, NOW_MS)


def test_the_more_calls_are_open_on_every_account_of_a_call_the_less_it_asks_for() -> None:
    found, mine, other = learned(), plan("1M tokens/hour"), plan("1M tokens/hour", agent="b")
    alone = asked(found, mine)
    assert 500 <= alone <= 525
    for _ in range(99):
        found.opened(other)
    assert asked(found, mine) == alone, "99 are open on the account of all, and none on that of its agent"
    for _ in range(99):
        found.opened(mine)
    among_many = asked(found, mine)
    assert 350 < among_many < alone - 100
    for _ in range(99):
        found.ended(mine)
    assert asked(found, mine) == alone


def test_an_estimate_is_never_above_the_bound_or_what_the_smallest_limit_has() -> None:
    found = learned(long=10)
    assert asked(found, plan("1M tokens/hour"), bound=300) == 300
    assert asked(found, plan("400 output_tokens/hour")) == 400
    assert asked(found, plan("400 output_tokens/hour", "1M tokens/hour")) == 400
    assert asked(found, plan("600 tokens/hour"), prompt=150) == 450
    assert asked(found, plan("5 requests/hour", "2 concurrent")) >= 500


def test_calls_that_are_known_to_write_more_than_the_smallest_limit_has_ask_for_it_and_so_are_refused() -> None:
    found = learned(long=100)
    assert asked(found, plan("400 output_tokens/hour")) >= 500
    assert asked(found, plan("600 tokens/hour"), prompt=150) >= 500
    assert asked(Forecast(EstimateSettings()), plan("400 output_tokens/hour")) == 200, "nothing is known: it is tried"


def test_a_bound_that_cuts_is_higher_and_what_it_cut_raises_it() -> None:
    found, mine = learned(long=3), plan("1M tokens/hour")
    subject = {"model": "m", "agent": "a"}
    assert asked(found, mine) < 400
    bound = found.bound(subject, mine, 0, BOUND, NOW_MS)
    assert 500 <= bound <= 525
    for _ in range(99):
        found.opened(mine)
    assert found.bound(subject, mine, 0, BOUND, NOW_MS) == bound, "others make up for none"
    for _ in range(100):
        found.learn(subject, bound, NOW_MS, is_cut=True)
    assert found.bound(subject, mine, 0, BOUND, NOW_MS) >= 2 * bound


def test_where_several_answers_share_a_bound_each_may_be_as_long_as_all_were() -> None:
    found, mine = learned(long=3), plan("1M tokens/hour")
    subject = {"model": "m", "agent": "a"}
    one, four = (found.bound(subject, mine, 0, BOUND, NOW_MS, answers=answers) for answers in (1, 4))
    assert four == 4 * one
    assert found.bound(subject, mine, 0, 900, NOW_MS, answers=4) == 900, "what the model writes"
    assert found.bound(subject, plan("700 output_tokens/hour"), 0, BOUND, NOW_MS, answers=4) == 700
    assert found.bound(subject, plan("703 output_tokens/hour"), 0, BOUND, NOW_MS, answers=4) == 700
    assert found.bound(subject, plan("3 output_tokens/hour"), 0, BOUND, NOW_MS, answers=4) == 4, "one token each"
