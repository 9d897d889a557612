"""What a simulation finds, on traces small enough to be counted by hand.

A call takes 0.3 s and 20 ms for each output token.
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import apsw
import pytest

import budgetguard as bg
from budgetguard.errors import ConfigError, LabelRequired, PriceUnknown, StoreUnusable
from budgetguard.policy import GuardSettings, LabelRules, Policy
from budgetguard.pricing import PriceTable
from budgetguard.simulation import LimitFigures, Report, TracedCall, simulate
from budgetguard.simulation.report import UNMATCHED, Waits

MINUTE_MS, HOUR_MS = 60_000, 3_600_000


def call(at_ms: int, prompt: int, completion: int = 10, model: str = "m-1", **labels: str) -> TracedCall:
    """A call that takes half a second, unless its completion says otherwise."""
    return TracedCall(at_ms, model, prompt, completion, labels)


def budget(*limits: str, name: str = "all", **options: Any) -> bg.Budget:
    return bg.Budget(name, list(limits), **options)


def ran(*budgets: bg.Budget, calls: list[TracedCall], hold_output: int | None = None, **policy: Any) -> Report:
    return simulate(Policy(budgets, **policy), calls, hold_output=hold_output, estimate="ceiling")


def only(report: Report) -> LimitFigures:
    (figures,) = report.limits
    return figures


def test_a_call_holds_its_estimate_until_it_completes() -> None:
    calls = [call(0, 50), call(499, 50), call(500, 50), call(501, 50)]
    report = ran(budget("100 tokens/hour"), calls=calls, hold_output=40)
    # The first holds 90 until 500 ms, then has spent 60; at no time do 90 more fit.
    assert (report.calls, report.admitted, report.refused) == (4, 1, 3)
    report = ran(budget("100 tokens/hour"), calls=[call(0, 40), call(499, 40), call(500, 40), call(501, 40)])
    # 50 and 50 fit beside each other.
    assert (report.admitted, only(report).spent, only(report).utilisation) == (2, 100, 1.0)


def test_what_completes_at_an_instant_has_returned_its_hold_to_who_arrives_at_it() -> None:
    calls = [call(0, 20), call(499, 20), call(500, 20)]
    report = ran(budget("100 tokens/hour"), calls=calls, hold_output=60)
    assert (report.admitted, report.refused_by) == (1, {"all": 2})
    report = ran(budget("110 tokens/hour"), calls=calls, hold_output=60)
    assert (report.admitted, report.refused_by, only(report).refused) == (2, {"all": 1}, 1)


def test_a_call_counts_in_the_window_in_which_it_was_admitted() -> None:
    calls = [call(HOUR_MS - 1, 90), call(HOUR_MS, 50), call(HOUR_MS + 600, 30), call(3 * HOUR_MS, 20)]
    report = ran(budget("100 tokens/hour"), calls=calls)
    figures = only(report)
    assert (report.admitted, figures.spent, figures.windows, figures.accounts) == (4, 230, 3, 1)
    assert figures.utilisation == pytest.approx(230 / 300)


def test_the_trace_begins_at_midnight_in_the_time_zone_of_the_policy() -> None:
    calls = [call(0, 90), call(24 * HOUR_MS - 1, 90), call(24 * HOUR_MS, 90)]
    report = ran(budget("100 tokens/day"), calls=calls, timezone="America/New_York")
    assert (report.admitted, report.refused, only(report).windows) == (2, 1, 2)


def test_what_was_taken_above_the_reservations_is_overage_and_above_the_limit_overspend() -> None:
    calls = [call(0, 50, 40), call(0, 10, 5), call(HOUR_MS, 70, 10)]
    report = ran(budget("60 tokens/hour", "1000 tokens/total"), calls=calls, hold_output=0)
    hour, total = report.limits
    assert (hour.spent, hour.windows, hour.overspend, hour.overage, hour.refused) == (105, 1, 45, 45, 1)
    assert (total.spent, total.windows, total.overspend, total.overage, total.refused) == (105, 1, 0, 45, 0)
    assert (report.overspend, report.overage.tokens, report.overage.output_tokens) == (45, 45, 45)


def test_each_agent_has_accounts_of_its_own() -> None:
    calls = [call(n, 40, agent=agent) for n, agent in enumerate(["a", "b", "a", "b", "a"])] + [
        call(9, 40),
        call(10, 40),
    ]
    figures = only(ran(budget("100 tokens/hour", per=["agent"]), calls=calls))
    assert (figures.accounts, figures.windows, figures.spent, figures.refused) == (3, 3, 300, 1)
    assert figures.utilisation == 1.0


def test_of_a_rolling_limit_the_level_is_the_most_that_ever_counted() -> None:
    calls = [call(0, 50), call(20_000, 20), call(61_000, 60), call(62_000, 60)]
    figures = only(ran(budget("100 tokens/rolling 1 minute"), calls=calls))
    # 60 leave when their slot of one second has: at 61 s there is room for 70 beside 30, at 62 s there is none.
    assert (figures.spent, figures.refused, figures.windows, figures.overspend) == (160, 1, 1, 0)
    assert figures.utilisation == 1.0
    # A slot counts to its end, and the most may have counted long ago.
    figures = only(ran(budget("100 tokens/rolling 1 minute"), calls=[call(0, 60, 0), call(60_500, 30, 0)]))
    assert figures.utilisation == 0.9
    calls = [call(0, 50, 90), call(70_000, 50, 60)]
    over = only(ran(budget("100 tokens/rolling 1 minute"), calls=calls, hold_output=0))
    assert (over.spent, over.overspend, over.overage) == (250, 40, 150)


def test_concurrent_calls_are_counted_while_they_are_open() -> None:
    calls = [call(0, 1), call(100, 1), call(200, 1), call(550, 1)]
    figures = only(ran(budget("2 concurrent"), calls=calls))
    assert (figures.spent, figures.refused, figures.utilisation, figures.overspend) == (0, 1, 1.0, 0)
    shadow = ran(budget("2 concurrent", on_exceed="shadow"), calls=calls)
    assert (shadow.admitted, only(shadow).utilisation, only(shadow).overspend) == (4, 1.5, 1)
    assert shadow.would_refuse == {"all": 2}


def test_dollars_are_those_of_the_price_table() -> None:
    prices = PriceTable([bg.Price("m-*", {"input": "1", "output": "2"})])
    calls = [call(0, 1000, 500), call(20_000, 1000, 500), call(40_000, 1000, 500)]
    report = ran(budget("$0.005/day"), calls=calls, prices=prices)
    assert (report.refused, only(report).spent, only(report).utilisation) == (1, 4_000_000, 0.8)


def test_models_without_a_price_are_named_before_anything_begins() -> None:
    prices = PriceTable([bg.Price("m-1", {"input": "1", "output": "2"})])
    calls = [call(0, 1), call(1, 1, model="m-2"), call(2, 1, model="m-3"), call(3, 1, model="free")]
    budgets = [budget("$5/day", where={"model": "m-*"}), budget("9 requests/day", name="others")]
    told: list[int] = []
    with pytest.raises(
        PriceUnknown, match=r"^all counts dollars, .* 'm-2', 'm-3' costs: add a \[\[price\]\] for each$"
    ):
        simulate(Policy(budgets, prices=prices), calls, progress=told.append)
    assert told == []
    assert ran(*budgets, calls=calls, prices=prices, mode="shadow").admitted == 4


def test_the_trace_begins_when_its_prices_are_valid(tmp_path: Path) -> None:
    prices = PriceTable([bg.Price("m-1", {"input": "1", "output": "2"}, valid_from=date(2031, 3, 5))])
    policy = Policy([budget("$5/day")], prices=prices)
    simulate(policy, [call(0, 1), call(5000, 1)], store_url=f"sqlite:///{tmp_path / 'books.db'}")
    seconds = [row["timestamp"].partition(".")[0] for row in ledger(tmp_path / "books.db")]
    assert seconds == ["2031-03-10 00:00:00", "2031-03-10 00:00:05"]


def test_a_call_waits_for_the_hold_that_is_returned() -> None:
    report = ran(budget("1 concurrent", on_exceed="delay"), calls=[call(0, 1), call(100, 1), call(350, 1)])
    assert (report.admitted, report.delayed) == (3, 2)
    # The second from 100 to 500, the third from 350 to 1000.
    assert report.waits == Waits(2, 400 + 650, 650)
    assert report.delayed_by == {"all": report.waits}


def test_a_call_waits_for_the_window_that_follows_and_is_counted_there() -> None:
    calls = [call(0, 90), call(59_000, 50), call(59_500, 5, 0), call(61_000, 30)]
    report = ran(budget("100 tokens/minute", on_exceed="delay"), calls=calls)
    # The small one would fit, but does not overtake. A minute holds 60 and 15 of those two, and then no 40 more.
    assert (report.admitted, report.refused, report.waits) == (3, 1, Waits(2, 1500, 1000))
    assert (only(report).windows, only(report).spent) == (2, 165)


def test_patience_ends() -> None:
    calls = [call(0, 1, 500), call(0, 2), call(1000, 3), call(9500, 4)]
    report = ran(budget("1 concurrent", on_exceed="delay", max_delay="5s"), calls=calls)
    # Two give up; the first is open for 10.3 s, and the last waits for it.
    assert (report.admitted, report.refused, report.waits) == (2, 2, Waits(1, 800, 800))
    report = ran(budget("100 tokens/hour", on_exceed="delay"), calls=[call(0, 90), call(600, 1)])
    assert (report.refused, report.delayed, only(report).refused) == (1, 0, 1), "an hour is longer than its patience"


def test_who_waits_is_refused_by_another_budget_as_soon_as_that_one_fills() -> None:
    slow = budget("1 concurrent", name="slow", where={"task": "t"}, on_exceed="delay")
    hard = budget("1 concurrent", name="hard", where={"agent": "a"})
    first, waits = call(0, 1, 500, task="t"), call(1000, 2, task="t", agent="a")
    report = ran(slow, hard, calls=[first, waits])
    assert (report.admitted, report.waits) == (2, Waits(1, 9300, 9300))
    # At 2.2 s it asks again, as it does five times a second, and finds that the third has taken its place.
    report = ran(slow, hard, calls=[first, waits, call(2050, 3, agent="a")])
    assert (report.admitted, report.refused_by, report.delayed) == (2, {"slow": 1, "hard": 1}, 0)


def test_calls_that_no_budget_covers() -> None:
    calls = [call(0, 1, agent="a"), call(1, 1)]
    assert ran(budget("9 requests/day", where={"agent": "a"}), calls=calls).admitted == 2
    refusing = GuardSettings(on_unmatched="refuse")
    report = ran(budget("9 requests/day", where={"agent": "a"}), calls=calls, guard=refusing)
    assert (report.admitted, report.refused_by) == (1, {UNMATCHED: 1})


def test_labels_come_from_the_columns_then_from_the_arguments_then_from_the_policy() -> None:
    rules = LabelRules(required=["team"], default={"agent": "nobody"})
    policy = Policy([budget("1 requests/day", per=["team", "agent"])], labels=rules)
    calls = [call(0, 1, agent="a"), call(1, 1), call(2, 1, session="s")]
    with pytest.raises(LabelRequired, match=r"'team', which the call at 0 s lacks: add --label team="):
        simulate(policy, calls)
    assert simulate(policy, calls, labels={"team": "search"}).refused == 1
    assert simulate(policy, calls, labels={"team": "search", "agent": "b"}).admitted == 2


def test_columns_whose_labels_the_policy_does_not_know_are_passed_over() -> None:
    policy = Policy([budget("9 requests/day")], labels=LabelRules(known=["team"]))
    assert simulate(policy, [call(0, 1, agent="a", session="s")]).admitted == 1


def test_a_policy_that_is_off_counts_nothing_and_is_not_simulated() -> None:
    with pytest.raises(ConfigError, match="off"):
        ran(budget("9 requests/day"), calls=[call(0, 1)], mode="off")


def ledger(path: Path) -> list[dict[str, Any]]:
    db = apsw.Connection(str(path))
    cursor = db.execute("SELECT * FROM token_usage ORDER BY reservation_id")
    names = [name for name, _ in cursor.get_description()]
    found = [dict(zip(names, row, strict=True)) for row in cursor]
    db.close()
    return found


MIXED = (
    budget("5k tokens/minute", "1 concurrent", "250 requests/hour", name="slow", on_exceed="delay", max_delay="20s"),
    budget("9k input_tokens/rolling 5 minutes", "$0.08/day", name="each", per=["agent"]),
    budget("100 output_tokens/minute", name="seen", on_exceed="shadow"),
)


def test_report_ledger_and_accounts_say_the_same(tmp_path: Path) -> None:
    path = tmp_path / "books.db"
    policy = Policy(MIXED, prices=PriceTable([bg.Price("m-1", {"input": "3", "output": "7"})]))
    calls = [call(n * 1700, 90 + n % 7 * 40, n % 5 * 30, agent=f"a{n % 3}") for n in range(300)]
    report = simulate(policy, calls, hold_output=60, store_url=f"sqlite:///{path}")
    rows = ledger(path)
    assert len(rows) == report.admitted < report.calls
    assert min(report.refused, report.delayed, report.overage.usd, report.overspend) > 0
    db = apsw.Connection(str(path))
    spent = dict(db.execute("SELECT key, spent FROM accounts WHERE slots = '' AND unit <> 'concurrent'"))
    assert db.execute("SELECT sum(reserved) FROM accounts").fetchall() == [(0,)]
    db.close()
    columns = {
        "tokens": "total_tokens", "input_tokens": "prompt_tokens", "output_tokens": "completion_tokens",
        "usd": "cost_nanousd",
    }  # fmt: skip
    booked: dict[str, int] = {}
    for row in rows:
        for account in json.loads(row["accounts"]):
            key = json.dumps(account, separators=(",", ":"))
            booked[key] = booked.get(key, 0) + (row[columns[account[2]]] if account[2] in columns else 1)
    assert {key: booked[key] for key in spent} == spent
    for figures in report.limits:
        prefix, unit = f'["{figures.budget}",', f'"{figures.limit.unit}","{figures.limit.period}"'
        windows = [amount for key, amount in booked.items() if key.startswith(prefix) and unit in key]
        if figures.limit.unit != "concurrent":
            assert (figures.spent, figures.windows) == (sum(windows), len(windows))
        if figures.limit.period.kind == "calendar":
            assert figures.overspend == sum(max(0, level - figures.limit.amount) for level in windows)
    assert all(datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC).year == 2026 for row in rows)


def test_a_store_that_answers_otherwise_ends_it(tmp_path: Path) -> None:
    policy, url = Policy([budget("100 tokens/hour")]), f"sqlite:///{tmp_path / 'books.db'}"
    simulate(policy, [call(0, 50)], store_url=url)
    with pytest.raises(StoreUnusable, match="the store answered"):
        simulate(policy, [call(0, 50)], store_url=url)
    assert simulate(policy, [call(0, 50)], store_url=url, namespace="other").admitted == 1
