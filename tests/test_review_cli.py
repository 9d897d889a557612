"""What the command line says where there is little to say: no budgets, no file, no room, another store's URL."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_kit import POLICY, command

import budgetguard as bg
from budgetguard.errors import ConfigError
from budgetguard.version import VERSION


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a policy, and no store yet."""
    (tmp_path / "budgetguard.toml").write_text(POLICY, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("labels", "said"), [("x", "'x' must be name=value"), ("foo=1", 'label "foo" is not a known label')]
)
def test_labels_of_the_environment_that_no_call_could_pass_are_told_at_once(
    labels: str, said: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = command(place, "check", BUDGETGUARD_LABELS=labels)
    assert (done.code, done.out) == (1, "")
    assert "BUDGETGUARD_LABELS" in done.err
    assert said in done.err
    found = json.loads(command(place, "check", "--format", "json", BUDGETGUARD_LABELS=labels).out)
    assert (found["valid"], len(found["faults"])) == (False, 1)
    monkeypatch.setenv("BUDGETGUARD_LABELS", labels)
    with pytest.raises(ConfigError, match=said):
        bg.Guard.from_toml(place / "budgetguard.toml")
    with pytest.raises(ConfigError, match=said):
        bg.Guard("$5/day", store="sqlite:///:memory:")


def test_labels_of_the_environment_that_the_policy_knows_are_none_of_its_faults(place: Path) -> None:
    assert command(place, "check", BUDGETGUARD_LABELS="tenant=acme, team=search").code == 0


def test_a_guard_that_is_off_takes_any_label_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUDGETGUARD_LABELS", "foo=1")
    assert bg.Guard.off().policy.mode == "off"


def test_a_new_version_that_does_not_know_a_label_of_the_environment_is_not_put_in_force(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUDGETGUARD_LABELS", "tenant=acme")
    guard = bg.Guard.from_toml(place / "budgetguard.toml")
    before = guard.policy
    (place / "budgetguard.toml").write_text(POLICY.replace(', "tenant"', ""), encoding="utf-8")
    with pytest.raises(ConfigError, match='label "tenant" is not a known label'):
        guard.reload()
    assert guard.policy is before


@pytest.mark.parametrize("url", ["foo", "postgres://host/db", "redis://", "rediz://host"])
def test_a_url_of_no_store_is_told_what_there_is(url: str, place: Path) -> None:
    done = command(place, "status", "--store", url)
    assert (done.code, done.out) == (2, "")
    assert "--store must be a URL such as sqlite:///budgets.db; it " in done.err
    assert "did you mean" not in done.err


@pytest.mark.parametrize(("name", "code"), [("check", 0), ("status", 2)])
def test_a_redis_that_is_not_there_is_told_without_its_password(name: str, code: int, place: Path) -> None:
    (place / "budgetguard.toml").write_text(POLICY.replace("[store]", '[store]\ntimeout = "200ms"'), encoding="utf-8")
    done = command(place, name, "--store", "redis://:secret@127.0.0.1:1/0")
    assert done.code == code
    assert "127.0.0.1:1" in done.err
    assert "secret" not in done.err + done.out


@pytest.mark.parametrize("format", ["table", "json", "csv"])
def test_check_of_a_policy_without_budgets_warns_that_nothing_is_held(format: str, tmp_path: Path) -> None:
    (tmp_path / "budgetguard.toml").write_text("", encoding="utf-8")
    done = command(tmp_path, "check", "--format", format)
    assert (done.code, done.err) == (0, "no budgets: nothing is held\n")


def test_version_is_that_of_the_package(tmp_path: Path) -> None:
    assert command(tmp_path, "--version") == (f"budgetguard {VERSION}\n", "", 0)


LONG = POLICY.replace("search-team", "search-production-eu-crawlers")


def test_a_table_in_a_pipe_is_as_wide_as_columns_says(tmp_path: Path) -> None:
    (tmp_path / "budgetguard.toml").write_text(LONG, encoding="utf-8")
    for columns in (60, 80, 200):
        done = command(tmp_path, "check", COLUMNS=str(columns))
        table = done.out.split("\n\n", 1)[1]
        assert (done.code, "\x1b" in table) == (0, False)
        assert max(len(line) for line in table.splitlines()) <= columns
    assert {command(tmp_path, "check", COLUMNS=nothing).out for nothing in ("wide", "0", "")} == {
        command(tmp_path, "check").out
    }


def test_a_name_that_is_too_long_for_its_column_folds_after_a_hyphen(tmp_path: Path) -> None:
    (tmp_path / "budgetguard.toml").write_text(LONG, encoding="utf-8")
    first = [line.split(" ")[0] for line in command(tmp_path, "status", COLUMNS="80").out.splitlines()]
    assert "".join(first).count("search-production-eu-crawlers") == 3
    parts = {part for part in first if part and part in "search-production-eu-crawlers"}
    assert all(part.endswith("-") or part == "crawlers" or part.endswith("-crawlers") for part in parts), parts
