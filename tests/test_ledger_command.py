"""`budgetguard ledger drain` where it cannot do its work: one line that says why, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_kit import command, fill
from daemon_kit import free_port
from store_kit import rows

from budgetguard.cli.app import run

REDIS = ("--store", "redis://127.0.0.1:1/0")
INTO = ("--to", "sqlite:///ledger.db")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((*REDIS,), "--to: say which SQL ledger: sqlite:///file.db or postgresql://..., or set ledger.url"),
        (("--to", "mysql://me:secret@db/ledger", *REDIS), "--to: expected sqlite:///file.db or postgresql://host"),
        (("--to", "ledger.db", *REDIS), "--to: expected sqlite:///file.db or postgresql://host"),
        (("--to", "sqlite:///:memory:", *REDIS), "not sqlite:///:memory:"),
        ((*INTO,), "store.url: has no outbox: the table token_usage of a SQLite store is the ledger"),
        ((*INTO, "--store", "sqlite:///none.db"), "has no outbox"),
        ((*INTO, "--store", "none.db"), "--store must be a URL"),
        ((*INTO, "--config", "none.toml"), "none.toml: there is no such file"),
        ((*INTO, "--namespace", "a b", *REDIS), "--namespace must be 1 to 100 letters"),
    ],
)
def test_what_it_cannot_work_on_is_told_in_one_line_and_leaves_no_file(
    args: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run(["ledger", "drain", *args]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), "secret" in err) == ("", 1, False)
    assert said in err
    assert [path.name for path in tmp_path.iterdir() if "ledger" in path.name or "none" in path.name] == []


def test_a_redis_that_is_away_is_told_within_the_stores_timeout(tmp_path: Path) -> None:
    url = f"redis://:secret@127.0.0.1:{free_port()}/0"
    (tmp_path / "budgetguard.toml").write_text(f'[store]\nurl = "{url}"\ntimeout = "200ms"\n', encoding="utf-8")
    done = command(tmp_path, "ledger", "drain", *INTO)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "could not be reached" in done.err and "secret" not in done.err


def test_a_ledger_that_cannot_be_written_is_told_before_the_store_is_asked(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"# a policy, no ledger\n" * 100)
    done = command(tmp_path, "ledger", "drain", *INTO, *REDIS)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "ledger.db cannot be used" in done.err
    rows(tmp_path / "other.db", "CREATE TABLE events (a)")
    done = command(tmp_path, "ledger", "drain", "--to", "sqlite:///other.db", *REDIS)
    assert "other.db is another program's database and no ledger: name another file" in done.err
