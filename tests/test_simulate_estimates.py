"""What learned estimates gain, and what they cost, against an oracle that knows each output and against the bound."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cli_kit import command

import budgetguard as bg
from budgetguard.policy import Policy
from budgetguard.pricing import PriceTable
from budgetguard.simulation import Report, TracedCall, read_trace, simulate
from budgetguard.simulation.estimates import Method

SECOND_MS = 1_000


def call(at_ms: int, completion: int, prompt: int = 0, model: str = "m", **labels: str) -> TracedCall:
    return TracedCall(at_ms, model, prompt, completion, labels)


def ran(
    calls: list[TracedCall], limit: str, estimate: Method, *, inject: bool = False, per: str = "model",
    bound: int | None = None,
) -> Report:  # fmt: skip
    policy = Policy([bg.Budget("all", [limit], per=[per])])
    return simulate(policy, calls, estimate=estimate, inject=inject, hold_output=bound)


def test_the_oracle_asks_for_what_each_call_takes() -> None:
    report = ran([call(n, 40) for n in range(4)] + [call(9, 20), call(10, 1)], "100 output_tokens/hour", "oracle")
    assert (report.admitted, report.limits[0].spent, report.would_fit, report.overspend) == (3, 100, 0, 0)


def test_a_refused_call_would_have_fit_if_there_was_room_for_it_in_the_end() -> None:
    calls = [call(0, 90), call(1, 9), call(2, 30), call(20 * SECOND_MS, 1)]
    report = ran(calls, "100 output_tokens/hour", "ceiling")
    # 90 are held for each: of the three that are refused, those of 9 and 1 would have fit, the one of 30 would not.
    assert (report.admitted, report.refused, report.would_fit) == (1, 3, 2)
    assert ran([call(0, 90), call(1, 9)], "1 concurrent", "ceiling").would_fit == 0, "too many at once do not fit"


def test_without_anything_learned_two_calls_are_tried_although_their_bound_is_above_the_limit() -> None:
    calls = [call(n, 10) for n in range(4)] + [call(10 * SECOND_MS + n, 10) for n in range(8)]
    assert ran(calls, "1000 output_tokens/hour", "ceiling", bound=5_000).admitted == 0
    assert ran(calls, "1000 output_tokens/hour", "learned", bound=5_000).admitted == 2 + 8


def test_what_an_agent_writes_is_learned_apart_from_what_others_write() -> None:
    calls = [call(30 * SECOND_MS * n, 900, agent="long") for n in range(200)]
    calls += [call(30 * SECOND_MS * n + 1, 20, agent="short") for n in range(200)]
    calls += [call(6000 * SECOND_MS + n, 20, agent="short") for n in range(40)]
    calls += [call(6000 * SECOND_MS + n, 900, agent="long") for n in range(40)]
    report = ran(sorted(calls, key=lambda one: one.at_ms), "2000 output_tokens/minute", "learned", per="agent")
    # In the last minute 40 of each arrive within 40 ms: all the short ones fit, and two of the long ones.
    assert (report.admitted, report.refused, report.would_fit, report.overspend) == (400 + 40 + 2, 38, 0, 0)


def test_a_budget_that_goes_by_the_ceiling_does_so_where_all_else_is_learned() -> None:
    budgets = [bg.Budget("all", ["1000 output_tokens/day"]), bg.Budget("a", ["9M tokens/day"], where={"agent": "a"})]
    calls = [call(10 * SECOND_MS * n, 20, agent="a") for n in range(20)]
    admitted = {}
    for estimate in ("ceiling", None):
        policy = Policy([budgets[0], replace(budgets[1], estimate=estimate)])
        admitted[estimate] = simulate(policy, calls, estimate="learned", hold_output=900).admitted
    assert admitted == {"ceiling": 6, None: 20}, "900 are held for each: once 100 are spent there is no room for that"


def test_where_nothing_else_is_said_it_goes_by_what_the_policy_says() -> None:
    calls = [call(10 * SECOND_MS * n, 20) for n in range(20)]
    budgets, ceiling = [bg.Budget("all", ["1000 output_tokens/day"])], bg.EstimateSettings(output="ceiling")
    admitted = [
        simulate(policy, calls, hold_output=900).admitted
        for policy in (Policy(budgets), Policy(budgets, estimate=ceiling))
    ]
    assert admitted == [20, 6]


def test_a_model_whose_most_costs_more_than_a_limit_of_dollars_is_tried_as_a_guard_does() -> None:
    """The most would cost $4.50, and is held at half of the $1."""
    prices = [bg.Price("m", usd_per_mtok={"input": "1", "output": "900"})]
    policy = Policy([bg.Budget("all", ["$1/day"])], prices=PriceTable(prices))
    calls = [call(10 * SECOND_MS * n, 20) for n in range(20)]
    assert simulate(policy, calls, estimate="ceiling", hold_output=5_000).admitted == 0
    assert simulate(policy, calls, estimate="learned", hold_output=5_000).admitted == 20


def test_what_is_injected_bounds_each_call_and_nothing_is_overspent() -> None:
    calls = [call(SECOND_MS * n, 20 if n < 300 or n % 9 else 800) for n in range(400)]
    free, bounded = (ran(calls, "9000 output_tokens/hour", "learned", inject=inject) for inject in (False, True))
    assert (free.cut, bounded.overspend, bounded.overage.output_tokens) == (0, 0, 0)
    assert free.overspend > 0
    assert 0 < bounded.cut <= 11
    assert ran(calls, "9000 output_tokens/hour", "ceiling", inject=True).cut == 0


@pytest.mark.parametrize(
    ("name", "windows"),
    [("azure2023_code", 46), pytest.param("tau2_multiagent", 192, marks=pytest.mark.long)],
)
def test_learned_estimates_admit_nearly_what_an_oracle_would(shared: Path, name: str, windows: int) -> None:
    calls = read_trace(shared / "traces" / f"{name}.norm.csv.gz")
    demand = sum(one.completion_tokens for one in calls) // windows
    limit = demand // 4
    reports = {
        method: ran(calls, f"{limit} output_tokens/minute", method, per="team")
        for method in ("oracle", "learned", "ceiling")
    }
    figures = {method: report.limits[0] for method, report in reports.items()}
    share = figures["learned"].spent / figures["oracle"].spent
    overspend = figures["learned"].overspend / (limit * figures["learned"].windows)
    print(f"{name}: {share:.3f} of the oracle's, overspend {overspend:.2%}, {reports['learned'].would_fit} would fit")
    assert share >= 0.90 and overspend <= 0.04
    assert figures["ceiling"].spent < 0.5 * figures["oracle"].spent
    bounded = ran(calls, f"{limit} output_tokens/minute", "learned", inject=True, per="team")
    assert bounded.overspend == 0 and bounded.cut <= bounded.admitted // 50


def test_the_command_line_compares_estimates(tmp_path: Path) -> None:
    rows = "".join(f"{n},m,10,{20 if n % 9 else 200}\n" for n in range(90))
    (tmp_path / "trace.csv").write_text("timestamp_s,model,prompt_tokens,completion_tokens\n" + rows, encoding="utf-8")
    policy = '[[budget]]\nname = "all"\nlimits = ["600 output_tokens/minute", "$1/day"]\n'
    policy += '[[price]]\nmodel = "m"\nusd_per_mtok = { input = "1", output = "2" }\n'
    (tmp_path / "budgets.toml").write_text(policy, encoding="utf-8")
    args = ("simulate", "trace.csv", "-c", "budgets.toml", "--estimate", "oracle", "--estimate", "learned")
    done = command(tmp_path, *args, "--format", "json")
    assert (done.err, done.code) == ("", 0)
    records = json.loads(done.out)
    assert [(one["unit"], one["estimate"]) for one in records] == [
        ("output_tokens", "oracle"), ("output_tokens", "learned"), ("usd", "oracle"), ("usd", "learned")
    ]  # fmt: skip
    assert records[0]["of_oracle"] == 1.0 and 0 < records[1]["of_oracle"] < 2
    table = command(tmp_path, *args, "--inject-max-tokens").out
    assert "of oracle's" in table and "600 output_tokens/minute  learned" in table
    assert table.count("  0.0 %") == 4, "nothing is overspent where each estimate is a bound"
