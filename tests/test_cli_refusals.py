"""`budgetguard refusals`: what a ledger says was refused, in every form, whatever labels look like."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from cli_kit import Ended, Terminal, command, shown
from store_kit import HOUR_MS, MINUTE_MS

from budgetguard.core.amounts import Amounts
from budgetguard.ledger import open_ledger
from budgetguard.ledger.refusals import Flush
from budgetguard.store import RefusalCount, RefusedBy

NOW_MS = time.time_ns() // 1_000_000 // MINUTE_MS * MINUTE_MS
DAY = RefusedBy("team-day", "usd", "day/UTC", "spent")
HOUR = RefusedBy("each-agent", "tokens", "hour/UTC", "held")
HOSTILE = ("=1+1", "@SUM(A1)", "\x1b[31mred", "a\nb\u202e", "[bold]x", "<b>&", "\u00e9" * 20)
COUNTS = (
    RefusalCount(NOW_MS, False, "budget", (DAY, HOUR), {"team": "search"}, 3, Amounts(tokens=4_300, usd=1_200_000_001)),
    RefusalCount(NOW_MS - 30 * HOUR_MS, False, "budget", (DAY,), {"team": "ads"}, 7, Amounts(usd=5)),
    RefusalCount(NOW_MS - HOUR_MS, False, "LabelRequired", (), {"agent": "x"}, 2, Amounts()),
    RefusalCount(NOW_MS, True, "budget", (RefusedBy("trial", "", "", "exceeded"),), {"team": "search"}, 9, Amounts()),
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.write([("default", Flush("f", COUNTS))])
    ledger.write([("hostile", Flush("f", tuple(_hostile(value) for value in HOSTILE)))])
    ledger.close()
    return tmp_path


def _hostile(value: str) -> RefusalCount:
    by = RefusedBy(value, "usd", "day/UTC", "spent")
    return RefusalCount(NOW_MS, False, "budget", (by,), {"team": value, "calls": value}, 1, Amounts(usd=1))


def refusals(place: Path, *more: str) -> Ended:
    return command(place, "refusals", "--ledger", "sqlite:///ledger.db", *more)


def told(place: Path, *more: str) -> list[dict[str, Any]]:
    done = refusals(place, "--format", "json", *more)
    assert (done.code, done.err) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.out)
    return found


def test_the_last_day_is_told_by_team_and_budget_the_most_first(place: Path) -> None:
    found = told(place)
    assert [(one["team"], one["budget"], one["calls"]) for one in found] == [
        ("search", "each-agent", 3), ("search", "team-day", 3), (None, None, 2)
    ]  # fmt: skip
    assert (found[0]["asked_tokens"], found[0]["asked_cost_usd"]) == (4_300, "0.00")
    assert (found[1]["asked_tokens"], found[1]["asked_cost_usd"]) == (0, "1.200000001")
    done = refusals(place)
    assert re.search(r"search +team-day +3 +\$1\.200000001 +\d{4}-\d\d-\d\d \d\d:\d\d", done.out)
    assert re.search(r"\(none\) +- +2 +-", done.out) and "--last 7d" in done.err


def test_a_call_that_two_limits_refuse_is_one_call(place: Path) -> None:
    assert [(one["team"], one["calls"]) for one in told(place, "--by", "team", "--last", "2d")] == [
        ("ads", 7), ("search", 3), (None, 2)
    ]  # fmt: skip
    assert [(one["reason"], one["calls"]) for one in told(place, "--by", "reason", "--team", "s*")] == [
        ("held", 3), ("spent", 3)
    ]  # fmt: skip


def test_what_would_have_been_refused_is_asked_for_apart(place: Path) -> None:
    (found,) = told(place, "--shadow", "--by", "budget,reason", "--last", "1h")
    assert (found["budget"], found["reason"], found["calls"]) == ("trial", "exceeded", 9)
    assert "would refuse" in refusals(place, "--shadow").out
    assert refusals(place, "--shadow", "--team", "ads").out == "no call would have been refused\n"
    assert refusals(place, "--until", "2020-01-01").out == "no call was refused\n"


def test_times_are_told_and_meant_in_the_zone_that_is_asked_for(place: Path) -> None:
    (found,) = told(place, "--by", "agent", "--agent", "x", "--timezone", "Asia/Kathmandu")
    assert found["last"].endswith("+05:45")
    hour_ago = time.strftime("%Y-%m-%dT%H:%M+00:00", time.gmtime((NOW_MS - HOUR_MS) / 1000))
    assert told(place, "--by", "agent", "--agent", "x", "--since", hour_ago)
    assert not told(place, "--by", "agent", "--agent", "x", "--since", "2020-01-01", "--until", hour_ago)


def test_hours_are_those_of_the_zone_and_come_in_their_order(place: Path) -> None:
    found = told(place, "--by", "hour,team", "--timezone", "Asia/Kathmandu", "--last", "2d")
    assert [(one["team"], one["calls"]) for one in found] == [("ads", 7), (None, 2), ("search", 3)]
    hours = [one["hour"] for one in found]
    assert hours == sorted(hours) and all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:00\+05:45", hour) for hour in hours)
    days = told(place, "--by", "team,day", "--team", "search")
    assert [(one["team"], len(one["day"])) for one in days] == [("search", 10)]


@pytest.mark.parametrize("format", ["table", "csv", "json"])
def test_hostile_labels_and_budgets_reach_no_terminal_and_no_spreadsheet(place: Path, format: str) -> None:
    done = refusals(place, "--namespace", "hostile", "--by", "team,budget,calls", "--format", format)
    assert done.code == 0
    assert "\x1b" not in done.out and "\u202e" not in done.out
    if format == "json":
        found = {(one["team"], one["budget"], one["label_calls"]) for one in json.loads(done.out)}
        assert found == {(value,) * 3 for value in HOSTILE}
    if format == "csv":
        cells = [cell for line in csv.reader(io.StringIO(done.out)) for cell in line]
        assert "'=1+1" in cells and not any(cell.startswith(("=", "+", "@")) for cell in cells)
    if format == "table":
        assert done.out.count("\n") == len(HOSTILE) + 1


def test_a_terminal_shows_labels_as_they_are_and_obeys_none(place: Path) -> None:
    terminal: Terminal
    terminal, code = shown(place, "refusals", "--ledger", "sqlite:///ledger.db", "--namespace", "hostile")
    assert code == 0 and "[bold]x" in terminal.text and "\\x1b[31mred" in terminal.text


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--by", "team,,budget"], "--by: write names, each once"),
        (["--by", "team,team"], "--by: write names, each once"),
        (["--last", "soon"], "--last"),
        (["--last", "1h", "--since", "2026-01-01"], "--last: it ends now"),
        (["--ledger", "sqlite:///none.db"], "there is no ledger"),
        (["--label", "x"], "write name=value"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_line(place: Path, args: list[str], said: str) -> None:
    done = refusals(place, *args)
    assert done.code == 2 and said in done.err and done.err.count("\n") == 1


def test_the_policy_says_which_ledger_and_namespace(place: Path) -> None:
    (place / "budgetguard.toml").write_text(
        '[store]\nurl = "redis://localhost/0"\n[ledger]\nurl = "sqlite:///ledger.db"\n'
        '[[budget]]\nname = "b"\nlimits = ["$5/day"]\n'
    )
    done = command(place, "refusals", "--format", "csv", "--by", "team")
    assert [line.split(",")[:2] for line in done.out.splitlines()[1:]] == [["search", "3"], ["", "2"]]
