"""How commands of the command line fail: one line, an exit code, and never a traceback."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from cli_kit import COMMAND, DEADLINE_S, command, environment, fill

from budgetguard.cli.app import run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a policy and a store that nobody changes."""
    return fill(tmp_path_factory.mktemp("place"))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("nothing",), "No such command 'nothing'"),
        (("status", "--nothing"), "No such option: --nothing"),
        (("status", "--format", "xml"), "'table', 'json', 'csv'"),
        (("status", "-c", "none.toml"), "none.toml: there is no such file; `budgetguard init` writes one"),
        (("check", "-c", "none.toml"), "there is no such file"),
        (("check", "-c", "."), "cannot be read"),
        (("check", "--against", "none.toml"), "none.toml: there is no such file"),
        (("holds", "--store", "sqlite:///none.db"), "none.db: there is no such file"),
        (("status", "--store", "none.db"), "--store must be a URL"),
        (("status", "--store", "sqlite:///budgetguard.toml"), "cannot be used"),
        (("status", "--label", "team"), "write name=value"),
        (("status", "--team", "a", "--label", "team=b"), "given twice"),
        (("status", "--label", "tenent=a"), 'did you mean "tenant"'),
        (("status", "--agent", ""), "1 to 512"),
        (("holds", "release"), "Missing argument"),
        (("init", "-c", "no/such/folder.toml"), "No such file or directory"),
    ],
)
def test_an_error_is_one_line_on_stderr_and_exit_code_2(
    args: tuple[str, ...], said: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert run(args) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err


def test_a_defect_is_one_line_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("budgetguard.cli.status.label_globs", lambda *_: 1 / 0)
    assert run(["status"]) == 2
    assert capsys.readouterr().err == "a defect of budgetguard, please report it: ZeroDivisionError: division by zero\n"


def test_where_there_is_nothing_at_all_it_says_how_to_begin(tmp_path: Path) -> None:
    done = command(tmp_path, "status")
    assert (done.code, done.out) == (2, "")
    assert done.err == "budgetguard.toml: there is no such file; `budgetguard init` writes one to begin with\n"


def test_the_policy_can_be_named_by_the_environment(place: Path, tmp_path: Path) -> None:
    done = command(tmp_path, "check", BUDGETGUARD_CONFIG=str(place / "budgetguard.toml"))
    assert (done.code, done.err) == (0, "")
    missing = command(tmp_path, "status", "--store", "sqlite:///x.db", BUDGETGUARD_CONFIG="none.toml")
    assert "none.toml: there is no such file" in missing.err, "a policy that was named must be there"


def test_a_pipe_that_is_closed_early_is_quiet(tmp_path: Path) -> None:
    fill(tmp_path, agents=400)
    with subprocess.Popen(
        [*COMMAND, "status", "--format", "json"], cwd=tmp_path, env=environment(tmp_path), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "[\n"
        process.stdout.close()
        assert (process.stderr.read(), process.wait(DEADLINE_S)) == ("", 141)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_under_the_output_is_one_line(place: Path) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [*COMMAND, "status"], cwd=place, env=environment(place), stdout=full, stderr=subprocess.PIPE, text=True,
            timeout=DEADLINE_S, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, "output: No space left on device\n")
