"""The command line, run as users run it: what each command prints in each format, and how it fails."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import datetime
from pathlib import Path

import pytest
from cli_kit import DEADLINE_S, HOSTILE, POLICY, command, fill, started

from budgetguard.cli.app import run
from budgetguard.policy_file import load_policy


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a policy and a store that nobody changes."""
    return fill(tmp_path_factory.mktemp("place"))


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def words(table: str) -> list[str]:
    """The lines of a table, each space one."""
    return [" ".join(line.split()) for line in table.splitlines()]


# init


def test_init_writes_a_policy_that_is_valid_and_overwrites_nothing(tmp_path: Path) -> None:
    first = started(tmp_path, "init")
    assert (first.code, first.err) == (0, "")
    assert "budgetguard.toml is written" in first.out
    assert [budget.name for budget in load_policy(tmp_path / "budgetguard.toml", {}).budgets] == [
        "everything", "each-agent",
    ]  # fmt: skip
    before = (tmp_path / "budgetguard.toml").read_bytes()
    again = command(tmp_path, "init")
    assert (again.code, again.out) == (2, "")
    assert again.err == "budgetguard.toml: the file is there already, and is left as it is\n"
    assert (tmp_path / "budgetguard.toml").read_bytes() == before


def test_what_init_writes_is_still_valid_with_every_comment_taken_off(tmp_path: Path) -> None:
    command(tmp_path, "init", "-c", "a.toml")
    lines = (tmp_path / "a.toml").read_text(encoding="utf-8").splitlines()
    bare = [line[2:] if re.match(r"# (\[|\w+ = )", line) else line for line in lines]
    (tmp_path / "b.toml").write_text("\n".join(bare), encoding="utf-8")
    policy = load_policy(tmp_path / "b.toml", {"SLACK_WEBHOOK": "https://hooks.example.com/secret"})
    assert [budget.name for budget in policy.budgets][2:] == ["search-team", "runaway-session"]
    assert [route.kind for route in policy.alerts.routes] == ["slack"]
    assert policy.labels.required == ("team",)
    assert policy.store.namespace == "prod"


def test_init_puts_the_store_that_is_named_into_the_file(tmp_path: Path) -> None:
    done = command(tmp_path, "init", "--config", "own.toml", "--store", "sqlite:///mine.db", "--format", "json")
    assert json.loads(done.out) == [{"file": "own.toml"}]
    assert load_policy(tmp_path / "own.toml", {}).store.url == f"sqlite:///{tmp_path / 'mine.db'}"
    assert rows(command(tmp_path, "init", "-c", "c.toml", "--format", "csv").out) == [{"file": "c.toml"}]


def test_init_accept_loss_opens_the_store_as_it_is_and_says_what_is_in_it(place: Path, tmp_path: Path) -> None:
    done = command(place, "init", "--accept-loss", "--format", "json")
    found = {"store": f"sqlite:///{place / 'budgets.db'}", "accounts": 7, "open_holds": 1, "new": False}
    assert json.loads(done.out) == [found]
    assert "budgets.db is accepted as it is: 7 accounts, 1 open holds" in command(place, "init", "--accept-loss").out
    new = command(tmp_path, "init", "--accept-loss", "--store", "sqlite:///new.db")
    assert "new.db was not there and is made new: 0 accounts, 0 open holds" in new.out
    assert sorted(path.name for path in tmp_path.glob("*.toml")) == []


# check


def test_check_shows_every_limit_of_the_policy(place: Path) -> None:
    table = started(place, "check")
    assert (table.code, table.err) == (0, "")
    assert "budgetguard.toml is valid: 2 budgets, 5 limits; mode enforce;" in table.out
    assert "search-team team=search - $50/total delay, up to 30 s - 50 %, 80 %, 100 %" in words(table.out)
    assert "\x1b" not in table.out

    found = json.loads(command(place, "check", "--format", "json").out)
    assert (found["valid"], found["resets"], found["timezone"]) == (True, [], "Europe/Berlin")
    assert found["limits"][1] == {
        "budget": "search-team", "where": {"team": "search"}, "per": [], "unit": "usd", "limit": 50 * 10**9,
        "limit_usd": "50.00", "period": "total", "timezone": None, "on_exceed": "delay", "max_delay_ms": 30_000,
        "alert_at": [0.5, 0.8, 1.0],
    }  # fmt: skip

    lines = rows(command(place, "check", "--format", "csv").out)
    assert [(line["unit"], line["limit"], line["limit_usd"]) for line in lines] == [
        ("tokens", "5000000", ""), ("usd", "50000000000", "50.00"), ("concurrent", "20", ""),
        ("tokens", "500000", ""), ("usd", "5000000000", "5.00"),
    ]  # fmt: skip
    assert json.loads(lines[0]["where"]) == {"team": "search"}


def test_check_of_a_wrong_policy_lists_every_fault_and_exits_1(tmp_path: Path) -> None:
    (tmp_path / "budgetguard.toml").write_text('x = 1\n[[budget]]\nlimits = ["$5/year"]\n', encoding="utf-8")
    table = command(tmp_path, "check")
    assert (table.code, table.out) == (1, "")
    assert table.err.splitlines()[0] == "budgetguard.toml: 3 fault(s)"
    assert "budget[0].name is required" in table.err
    as_json = command(tmp_path, "check", "--format", "json")
    found = json.loads(as_json.out)
    assert (as_json.code, found["valid"], len(found["faults"])) == (1, False, 3)
    assert command(tmp_path, "status").code == 2, "status did not check it: it only could not do its work"


CHANGED = POLICY.replace('per = ["agent"]', 'per = ["team"]').replace("$50/total", "$50/week")


def test_check_says_what_a_change_starts_at_zero_by_the_accounts_that_stand(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "budgetguard.toml").write_text(CHANGED, encoding="utf-8")
    told = json.loads(command(tmp_path, "check", "--format", "json").out)["resets"]
    assert told == [
        "budget each-agent: tokens/total per agent counts no more: 2 accounts with 619,999 tokens spent",
        "budget each-agent: $/month in Europe/Berlin per agent counts no more: 2 accounts with $7.493100007 spent",
        "budget search-team: $/total counts no more: 1 account with $7.493100007 spent",
        "budget search-team: $/week in Europe/Berlin starts at zero",
        "budget each-agent: tokens/total per team starts at zero",
        "budget each-agent: $/month in Europe/Berlin per team starts at zero",
    ]
    assert all(line in command(tmp_path, "check").out for line in told)


def test_check_against_another_version_says_what_that_change_starts_at_zero(tmp_path: Path) -> None:
    (tmp_path / "old.toml").write_text(POLICY, encoding="utf-8")
    (tmp_path / "new.toml").write_text(CHANGED, encoding="utf-8")
    done = command(tmp_path, "check", "-c", "new.toml", "--against", "old.toml", "--format", "csv")
    assert done.code == 0
    assert "search-team: $/week in Europe/Berlin starts at zero" in done.err
    assert 'each-agent: one account per "team" starts at zero (was one account per "agent")' in done.err
    assert list(tmp_path.glob("*.db")) == [], "who only looks makes no store"


def test_check_goes_on_without_a_store_that_it_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "budgetguard.toml").write_text(POLICY, encoding="utf-8")
    (tmp_path / "budgets.db").write_text("this is not a database, but long enough to be looked at " * 20)
    done = command(tmp_path, "check")
    assert done.code == 0
    assert "is valid" in done.out
    assert "the store was not looked at" in done.err


# status


def test_status_shows_accounts_in_each_format(place: Path) -> None:
    table = started(place, "status")
    assert (table.code, table.err) == (0, "")
    assert "each-agent agent=crawler 500k tokens/total 44 % 120,000 100,000 280,000 -" in words(table.out)
    assert "\x1b" not in table.out

    found = {(row["subject"].get("agent"), row["unit"]): row for row in status(place)}
    assert found[("crawler", "tokens")] == {
        "budget": "each-agent", "subject": {"agent": "crawler"}, "unit": "tokens", "period": "total",
        "limit": 500_000, "limit_usd": None, "spent": 120_000, "spent_usd": None, "reserved": 100_000,
        "reserved_usd": None, "available": 280_000, "available_usd": None, "resets_at": None,
    }  # fmt: skip
    dollars = found[(HOSTILE, "usd")]
    assert (dollars["spent"], dollars["spent_usd"]) == (4_993_100_007, "4.993100007")
    resets_at = datetime.fromisoformat(str(dollars["resets_at"]))
    assert (dollars["available_usd"], resets_at.day, resets_at.hour) == ("0.006899993", 1, 0)

    lines = rows(command(place, "status", "--format", "csv").out)
    assert len(lines) == len(found) == 7
    assert {json.loads(line["subject"]).get("agent") for line in lines} == {None, "crawler", HOSTILE}


def status(folder: Path, *args: str) -> list[dict[str, object]]:
    done = command(folder, "status", "--format", "json", *args)
    assert done.code == 0, done.err
    return list(json.loads(done.out))


@pytest.mark.parametrize(
    ("args", "subjects"),
    [
        (("--agent", "c*"), {"{}", '{"agent": "crawler"}'}),
        (("--team", "ops"), {'{"agent": "crawler"}', json.dumps({"agent": HOSTILE})}),
        (("--team", "sea*", "--label", "agent=crawler"), {"{}", '{"agent": "crawler"}'}),
        (("--agent", "nobody"), {"{}"}),
    ],
)
def test_status_can_be_asked_for_labels_by_globs(
    args: tuple[str, ...], subjects: set[str], place: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(place)
    assert run(["status", "--format", "json", *args]) == 0
    assert {json.dumps(row["subject"]) for row in json.loads(capsys.readouterr().out)} == subjects


def test_status_without_a_policy_shows_what_stands_in_the_store(place: Path, tmp_path: Path) -> None:
    found = status(tmp_path, "--store", f"sqlite:///{place / 'budgets.db'}")
    assert len(found) == 7
    assert {(row["limit"], row["available"]) for row in found} == {(None, None)}
    assert {row["spent"] for row in found if row["budget"] == "search-team"} == {619_999, 7_493_100_007, 0}
    table = command(tmp_path, "status", BUDGETGUARD_STORE=f"sqlite:///{place / 'budgets.db'}")
    assert "tokens/total" in table.out


def test_status_of_a_store_that_is_not_there_yet_shows_the_limits_and_makes_nothing(tmp_path: Path) -> None:
    (tmp_path / "budgetguard.toml").write_text(POLICY, encoding="utf-8")
    assert [row["available"] for row in status(tmp_path)] == [5_000_000, 50 * 10**9, 20]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["budgetguard.toml"]


def test_what_does_not_print_in_a_label_is_escaped(place: Path) -> None:
    for args in (("status",), ("status", "--format", "csv"), ("holds",), ("status", "--format", "json")):
        out = command(place, *args).out
        assert [line for line in out.splitlines() if not line.isprintable()] == []
    assert r"agent=writer\x1b[31m\u202e\n" in command(place, "status").out


# holds


def test_holds_shows_open_ones_with_age_and_host_in_each_format(place: Path) -> None:
    table = started(place, "holds")
    assert (table.code, table.err) == (0, "")
    assert table.out.splitlines()[1].startswith("r-open")
    assert "host-1:42  agent=crawler team=search tenant=acme" in table.out
    (found,) = json.loads(command(place, "holds", "--format", "json").out)
    assert 0 <= found.pop("age_ms") < 60_000 * DEADLINE_S
    assert found.pop("lease_end_ms") - found.pop("admitted_ms") == 60_000
    found.pop("lease_left_ms")
    assert found == {
        "id": "r-open", "labels": {"agent": "crawler", "team": "search", "tenant": "acme"},
        "budgets": ["search-team", "each-agent"], "host": "host-1:42", "tokens": 100_000, "input_tokens": 99_900,
        "output_tokens": 100, "cost_nanousd": 14_200_000, "cost_usd": "0.0142", "requests": 1, "concurrent": 1,
    }  # fmt: skip
    (line,) = rows(command(place, "holds", "--format", "csv").out)
    assert (line["id"], line["host"], line["cost_usd"]) == ("r-open", "host-1:42", "0.0142")
    assert command(place, "holds", "--label", "tenant=other").out == "no open holds\n"


def test_holds_release_returns_what_is_held_and_nothing_else(tmp_path: Path) -> None:
    fill(tmp_path)
    before = {(row["budget"], str(row["subject"]), row["unit"]): row["spent"] for row in status(tmp_path)}
    done = command(tmp_path, "holds", "--format", "json", "release", "r-open", "r-typo")
    assert done.code == 1, "one of them was checked and found wrong"
    assert json.loads(done.out) == [
        {"id": "r-open", "answer": "released"}, {"id": "r-typo", "answer": "no open hold has this id"},
    ]  # fmt: skip
    after = status(tmp_path)
    assert {row["reserved"] for row in after} == {0}
    assert {(row["budget"], str(row["subject"]), row["unit"]): row["spent"] for row in after} == before
    assert json.loads(command(tmp_path, "holds", "--format", "json").out) == []
    assert command(tmp_path, "holds", "release", "r-open").code == 1


# All of them


@pytest.mark.parametrize("name", ["init", "check", "status", "holds", "ledger drain", "simulate", "doctor"])
def test_every_command_takes_the_common_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*name.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert [option for option in ("-c", "--config", "--store", "--format") if option not in shown] == []


def test_without_a_command_it_says_which_there_are(tmp_path: Path) -> None:
    done = started(tmp_path)
    assert (done.code, done.err) == (0, "")
    names = ("init", "check", "status", "holds", "ledger", "simulate", "demo", "doctor")
    assert [name for name in names if name not in done.out] == []
