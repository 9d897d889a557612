"""`report chargeback`: what each team is charged for a month, open and closed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from chargeback_kit import LATE, OCTOBER, POLICY, REFUSED, STORE, chargeback, fill, lines_of, told
from cli_kit import command
from drain_kit import NAMESPACE
from store_kit import rows

from budgetguard.ledger.refusals import Flush
from budgetguard.policy_file import parse_policy
from budgetguard.reports.chargeback import month_budgets
from budgetguard.stores.sqlite import SQLiteStore


@pytest.fixture(params=["sqlite", "postgres"])
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres").url)
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.db'}"


def test_a_month_is_what_was_added_up_by_hand(any_url: str, tmp_path: Path) -> None:
    fill(tmp_path, any_url, *OCTOBER, Flush("f", (REFUSED, REFUSED._replace(shadow=True, calls=100))))
    done = chargeback(tmp_path, any_url, "2025-10", "--format", "json", "--verify")
    found = told(done)
    assert done.err == "verified: 5 rows, $4.750000001\n"
    assert (found["since"], found["until"]) == ("2025-10-01T00:00:00+02:00", "2025-11-01T00:00:00+01:00")
    assert (found["closed_at"], found["timezone"]) == (None, "Europe/Berlin")
    assert [team["team"] for team in found["teams"]] == ["ads", "search", "idle", None], "none is the last"
    ads, search, idle, none = found["teams"]
    assert lines_of(search) == [
        ("crawler", "mini", None, 2, 1_500_000_001), ("ranker", "big", None, 1, 250_000_000)
    ]  # fmt: skip
    assert (search["cost_usd"], search["cost_center"], search["late_cost_nanousd"]) == (
        "1.750000001",
        "4711",
        500_000_000,
    )
    assert (search["assumed_cost_nanousd"], search["refused_calls"]) == (250_000_000, 7)
    assert search["refused_cost_nanousd"] == 70_000_000
    assert search["budget_nanousd"] == 2_000_000_000
    assert [(one["budget"], one["limit_nanousd"], one["where"], one["per"]) for one in search["budgets"]] == [
        ("search-team", 2_000_000_000, {"team": "search"}, []), ("s-teams", 20_000_000_000, {"team": "s*"}, []),
        ("team-agents", 300_000_000_000, {}, ["agent", "team"]),
    ]  # fmt: skip
    assert (lines_of(ads), ads["expired_cost_nanousd"]) == ([(None, "mini", None, 1, 3_000_000_000)], 3_000_000_000)
    assert (idle["cost_center"], idle["calls"], idle["lines"]) == ("4712", 0, [])
    assert (lines_of(none), none["unpriced_calls"]) == ([("crawler", None, None, 1, 0)], 1)
    assert (found["total"]["cost_usd"], found["total"]["calls"], found["total"]["refused_calls"]) == (
        "4.750000001",
        5,
        7,
    )


def test_what_was_closed_stays_with_its_facts_and_what_came_late_is_named_in_the_next(
    any_url: str, tmp_path: Path
) -> None:
    fill(tmp_path, any_url, *OCTOBER, Flush("f", (REFUSED,)))
    first = chargeback(tmp_path, any_url, "2025-10", "--close", "--format", "json")
    assert first.err == "2025-10 is closed from now on\n"
    frozen = told(first)
    late = Flush("g", (REFUSED,))
    fill(tmp_path, any_url, *LATE, late, policy='[[owner]]\nteam = "search"\ncost_center = "other"\n')
    again = chargeback(tmp_path, any_url, "2025-10", "--close", "--format", "json", "--verify")
    assert told(again) == frozen and frozen["teams"][1]["refused_calls"] == 7
    assert again.err.startswith(f"2025-10 was closed already, at {frozen['closed_at']}: this is what stands\nverified:")
    done = chargeback(tmp_path, any_url, "2025-11", "--format", "json", "--verify")
    found = told(done)
    search, none = found["teams"]
    assert lines_of(search) == [("crawler", "mini", None, 1, 11), ("crawler", "mini", "2025-10", 0, -1)]
    assert lines_of(none) == [(None, "mini", "2025-10", 1, 5)]
    assert (search["cost_usd"], found["total"]["cost_usd"]) == ("0.000000010", "0.000000015")
    assert found["since"] == "2025-10-31T23:00:00+00:00", "where October ended, though the policy is in UTC now"
    assert found["until"] == "2025-12-01T00:00:00+00:00"
    assert "verified: 7 rows, $4.750000016" in done.err, "October's and November's"
    out = chargeback(tmp_path, any_url, "2025-11").out
    assert "adjusts 2025-10" in out and " >-$0.0001 " in out


def test_what_does_not_bill_the_rows_is_not_verified(url: str, tmp_path: Path) -> None:
    fill(tmp_path, url, *OCTOBER)
    chargeback(tmp_path, url, "2025-10", "--close")
    for month in ("2025-10", "2025-11"):
        assert chargeback(tmp_path, url, month, "--verify").code == 0
    done = command(tmp_path, "ledger", "prune", "--ledger", url, "--namespace", NAMESPACE, "--before", "2025-10-02")
    assert done.code == 0 and done.out.startswith("2 rows")
    for month in ("2025-10", "2025-11"):
        done = chargeback(tmp_path, url, month, "--verify")
        assert (done.code, "$4.7500" in done.out) == (0, month == "2025-10"), "what was pruned was billed"
        assert ("beside them 1 call for $1.000000001 whose rows were pruned" in done.err) == (month == "2025-10")
    rows(tmp_path / "ledger.db", "UPDATE billed_lines SET month = '2025-13' WHERE team = 'ads'")  # told by no statement
    done = chargeback(tmp_path, url, "2025-10", "--verify")
    assert done.code == 1 and "NOT verified" in done.err
    assert "the total: cost_nanousd is 750000000 in the report and 3750000000 by the rows" in done.err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ("--month", "2999-01", "--close"),
            "--close: 2999-01 has not ended: its statement can be closed from 2999-02-01",
        ),
        (("--month", "2025-13"), "--month: expected a month such as 2026-11, not '2025-13'"),
        (("--month", "november", "--close"), "expected a month such as 2026-11"),
        (("--month", "2025-10", "--timezone", "Europe/Belrin"), "did you mean Europe/Berlin?"),
        ((), "Missing option '--month'"),
    ],
)
def test_what_cannot_be_told_is_said_and_freezes_nothing(
    url: str, tmp_path: Path, more: tuple[str, ...], said: str
) -> None:
    fill(tmp_path, url, *OCTOBER)
    done = command(tmp_path, "report", "chargeback", "--ledger", url, *more)
    assert (done.code, done.out, said in done.err) == (2, "", True), done.err
    assert rows(tmp_path / "ledger.db", "SELECT count(*) FROM closings") == [(0,)]


def test_a_month_of_a_stores_own_ledger_can_be_closed_and_no_ledger_is_made(tmp_path: Path) -> None:
    done = command(tmp_path, "report", "chargeback", "--month", "2025-10", "--close", "--ledger", "sqlite:///none.db")
    assert (done.code, (tmp_path / "none.db").exists()) == (2, False)

    async def made() -> None:
        store = SQLiteStore(str(tmp_path / "s.db"), NAMESPACE)
        await store.open()
        await store.aclose()

    asyncio.run(made())
    fill(tmp_path, f"sqlite:///{tmp_path / 's.db'}", *OCTOBER, policy=POLICY + STORE)
    for said in ("is closed from now on", "was closed already"):
        done = command(tmp_path, "report", "chargeback", "--month", "2025-10", "--close")
        assert done.code == 0 and said in done.err and "$4.7500" in done.out
    assert rows(tmp_path / "s.db", "SELECT month, zone FROM closings") == [("2025-10", "Europe/Berlin")]


def test_budgets_of_a_team_are_those_that_speak_of_teams_and_may_count_it() -> None:
    policy = parse_policy(
        """
        [[budget]]
        name = "own"
        where = { team = "a" }
        limits = ["$5/month", "$1/day", "$9/rolling 30 days"]
        [[budget]]
        name = "each"
        per = ["team"]
        limits = ["$7/month"]
        [[budget]]
        name = "part"
        where = { team = "a", env = "prod" }
        limits = ["$3/month"]
        [[budget]]
        name = "shared"
        where = { team = "[ab]" }
        limits = ["$4/month"]
        [[budget]]
        name = "fleet"
        limits = ["$99/month"]
        """,
        "b.toml", {}, Path(),
    )  # fmt: skip
    found = {team: [(one.name, one.whole) for one in month_budgets(policy, team)] for team in ("a", "b", "")}
    each = ("each", True)
    assert found == {
        "a": [("own", True), each, ("part", False), ("shared", False)], "b": [each, ("shared", False)], "": [each]
    }  # fmt: skip
