"""`budgetguard simulate`, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import apsw
from cli_kit import Ended, command, shown

TRACE = "timestamp_s,model,prompt_tokens,completion_tokens,agent\n0,m,90,10,a\n0.1,m,10,40,b\n61,m,20,5,a\n"
POLICY = """
[estimate]
output = "ceiling"
[[budget]]
name = "all"
limits = ["150 tokens/minute"]
on_exceed = "delay"
max_delay = "{patience}"
[[budget]]
name = "each"
per = ["agent"]
limits = ["$1/day"]
[[price]]
model = "m"
usd_per_mtok = {{ input = "1", output = "2" }}
"""
KEYS = ["calls", "admitted", "refused", "delayed", "overspend", "overage", "would_fit", "cut", "budgets"]


def simulate(folder: Path, *args: str, trace: str = TRACE, patience: str = "1ms", **more: str) -> Ended:
    (folder / "trace.csv").write_text(trace, encoding="utf-8")
    (folder / "budgets.toml").write_text(POLICY.format(patience=patience), encoding="utf-8")
    return command(folder, "simulate", "trace.csv", "-c", "budgets.toml", *args, **more)


def test_json_has_these_keys_and_refusals_are_no_failure(tmp_path: Path) -> None:
    done = simulate(tmp_path, "--format", "json")
    assert (done.err, done.code) == ("", 0)
    report = json.loads(done.out)
    assert list(report) == KEYS
    assert [report[key] for key in KEYS[:-1]] == [3, 2, 1, 0, 0, 0, 1, 0]
    tokens, dollars = report["budgets"]
    assert (tokens["budget"], tokens["unit"], tokens["period"], tokens["limit"]) == ("all", "tokens", "minute", 150)
    assert (tokens["spent"], tokens["spent_usd"], tokens["windows"], tokens["refused"]) == (125, None, 2, 1)
    assert tokens["utilisation"] == round(125 / 300, 6)
    assert (dollars["spent"], dollars["spent_usd"], dollars["accounts"]) == (140_000, "0.00014", 1)


def test_a_table_says_it_to_people(tmp_path: Path) -> None:
    done = simulate(tmp_path, patience="3s")
    assert (done.err, done.code) == ("", 0)
    assert "3 calls: 3 admitted, 0 refused\n" in done.out
    assert "delayed: 1 of those admitted, on average 0.400 s, at most 0.400 s\n" in done.out
    assert "overspend: none\noverage: none\n" in done.out
    assert "all     150 tokens/minute" in done.out
    done = simulate(tmp_path, "--hold-output", "0", trace=TRACE.replace("10,40", "50,40"))
    assert "refused by: nobody\n" in done.out
    assert "overspend: 40 tokens\noverage: 55 tokens, $0.00011\n" in done.out


def test_csv_has_a_line_for_each_limit(tmp_path: Path) -> None:
    header, *lines = simulate(tmp_path, "--format", "csv", patience="3s").out.splitlines()
    rows = [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]
    assert [(row["budget"], row["delayed"], row["max_wait_s"]) for row in rows] == [
        ("all", "1", "0.4"),
        ("each", "0", "0.0"),
    ]


def test_a_progress_bar_is_shown_in_a_terminal_and_the_table_after_it(tmp_path: Path) -> None:
    simulate(tmp_path)
    terminal, code = shown(tmp_path, "simulate", "trace.csv", "-c", "budgets.toml", columns=160)
    assert code == 0
    assert terminal.text.index("3/3") < terminal.text.index("3 calls:") < terminal.text.index("utilisation")


def test_the_books_stay_in_the_store_that_was_named_each_time_in_a_namespace_of_its_own(tmp_path: Path) -> None:
    for _ in range(2):
        done = simulate(tmp_path, "--store", "sqlite:///books.db", BUDGETGUARD_STORE="sqlite:///never.db")
        assert done.err.startswith("accounts and ledger are in the namespace simulation-")
    db = apsw.Connection(str(tmp_path / "books.db"))
    assert db.execute("SELECT count(DISTINCT namespace), count(*) FROM token_usage").fetchall() == [(2, 4)]
    db.close()
    assert not (tmp_path / "never.db").exists()


def test_errors_are_one_line_and_end_with_two(tmp_path: Path) -> None:
    faults = {
        "trace.csv, line 2: prompt_tokens must be": simulate(tmp_path, trace=TRACE.replace("90", "ninety")),
        "each counts dollars, and nobody knows what 'n' costs": simulate(tmp_path, trace=TRACE.replace("m,", "n,", 1)),
        "label": simulate(tmp_path, "--label", "tem=search"),
        "--label team: write name=value": simulate(tmp_path, "--label", "team"),
        "--hold-output": simulate(tmp_path, "--hold-output", "-1"),
        "No such file": command(tmp_path, "simulate", "none.csv", "-c", "budgets.toml"),
        "there is no such file": command(tmp_path, "simulate", "trace.csv", "-c", "none.toml"),
        '"off"': simulate(tmp_path, BUDGETGUARD_MODE="off"),
    }
    for text, done in faults.items():
        assert text in done.err
        assert (done.out, done.code, done.err.count("\n")) == ("", 2, 1), done.err


def test_constant_labels_are_those_of_every_call(tmp_path: Path) -> None:
    done = simulate(tmp_path, "--label", "team=search", "--label", "user=u", "--store", "sqlite:///books.db")
    assert done.code == 0
    db = apsw.Connection(str(tmp_path / "books.db"))
    assert db.execute("SELECT DISTINCT team, user FROM token_usage").fetchall() == [("search", "u")]
    db.close()


REAL = """
timezone = "Europe/Berlin"
[[budget]]
name = "hour"
limits = ["5M tokens/hour", "250k tokens/rolling 1 minute", "600 requests/minute"]
[[budget]]
name = "slow"
limits = ["12 concurrent", "$0.05/minute"]
on_exceed = "delay"
[[price]]
model = "azure-*"
usd_per_mtok = { input = "0.15", output = "0.60" }
"""


def test_a_real_trace_is_never_overspent_and_twice_the_same(tmp_path: Path, shared: Path) -> None:
    (tmp_path / "real.toml").write_text(REAL, encoding="utf-8")
    trace = str(shared / "traces" / "azure2023_code.norm.csv.gz")
    asked = ("simulate", trace, "-c", "real.toml", "--estimate", "ceiling", "--format", "json")
    first, second = (command(tmp_path, *asked) for _ in range(2))
    assert (first.err, first.code) == ("", 0)
    assert first == second
    report = json.loads(first.out)
    assert (report["calls"], report["overspend"], report["overage"]) == (8819, 0, 0)
    assert report["admitted"] + report["refused"] == 8819
    assert report["delayed"] > 0
    assert all(0 < limit["utilisation"] <= 1 for limit in report["budgets"])
    hour = report["budgets"][0]
    assert (hour["windows"], hour["limit"]) == (1, 5_000_000)
    assert 4_900_000 < hour["spent"] <= 5_000_000
