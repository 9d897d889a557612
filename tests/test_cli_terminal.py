"""The command line in a terminal: bars and colours, widths, and accounts that are watched."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from cli_kit import COMMAND, DEADLINE_S, Terminal, command, environment, fill, shown


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a policy and a store that nobody changes."""
    return fill(tmp_path_factory.mktemp("place"))


def test_status_has_bars_of_what_is_spent_and_reserved(place: Path) -> None:
    terminal, code = shown(place, "status", columns=140)
    assert code == 0
    crawler, writer = (line for line in terminal.text.splitlines() if "500k tokens/total" in line)
    assert "███▒▒▒······  44 %" in crawler
    assert "████████████ 100 %" in writer
    assert "\x1b[32m███▒▒▒\x1b[0m" in terminal.raw, "green: there is room"
    assert "\x1b[33m████████████\x1b[0m" in terminal.raw, "yellow: nearly spent"


def test_a_terminal_without_colours_or_unicode_gets_neither(place: Path) -> None:
    plain, _ = shown(place, "status", columns=140, NO_COLOR="1")
    assert not any(f"\x1b[{colour}m" in plain.raw for colour in (31, 32, 33))
    ascii_only, code = shown(place, "status", columns=140, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert code == 0
    assert "###===......  44 %" in ascii_only.text


@pytest.mark.parametrize(("columns", "seen", "not_seen"), [
    (140, "resets", "subject:"), (80, "█▒", "resets"), (44, "subject: agent=crawler", "──"),
])  # fmt: skip
def test_no_line_is_wider_than_the_terminal(columns: int, seen: str, not_seen: str, place: Path) -> None:
    terminal, code = shown(place, "status", columns=columns)
    assert code == 0
    assert max(len(line) for line in terminal.text.splitlines()) <= columns
    assert seen in terminal.text
    assert not_seen not in terminal.text


def test_watched_accounts_follow_the_store_until_ctrl_c(tmp_path: Path) -> None:
    fill(tmp_path)
    terminal = Terminal(tmp_path, "status", "--watch", "--agent", "crawler", columns=140)
    terminal.read_until(lambda text: "███▒▒▒······  44 %" in text)
    assert command(tmp_path, "holds", "release", "r-open").code == 0
    terminal.read_until(lambda text: "███·········  24 %" in text)
    terminal.interrupt()
    assert terminal.end() == 130
    assert "Traceback" not in terminal.text


def test_watched_in_a_pipe_they_are_printed_again_when_something_changes(tmp_path: Path) -> None:
    fill(tmp_path)
    with subprocess.Popen(
        [*COMMAND, "status", "--watch", "--agent", "crawler", "--format", "csv"], cwd=tmp_path,
        env=environment(tmp_path), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        first = [process.stdout.readline() for _ in range(6)]
        assert command(tmp_path, "holds", "release", "r-open").code == 0
        second = [process.stdout.readline() for _ in range(6)]
        assert first[0] == second[0]
        assert "120000,,100000,,280000" in first[4]
        assert "120000,,0,,380000" in second[4]
        process.send_signal(2)
        assert (process.stderr.read(), process.wait(DEADLINE_S)) == ("", 130)


def test_check_and_holds_have_tables_too(place: Path) -> None:
    for args, seen in ((("check",), "delay, up to 30 s"), (("holds",), "agent=crawler team=search")):
        terminal, code = shown(place, *args, columns=140)
        assert code == 0
        assert seen in terminal.text
        assert "──────" in terminal.text


def test_json_is_the_same_in_a_terminal(place: Path) -> None:
    terminal, _ = shown(place, "status", "--format", "json")
    assert "\x1b" not in terminal.raw
    assert len(json.loads(terminal.text)) == 7
