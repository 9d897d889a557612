"""The README's blocks are run as they stand, each in a process of its own, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from redis_kit import RedisServer

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    for number, text in enumerate(blocks("toml")):
        (folder / ("budgetguard.toml" if number == 0 else f"{number}.toml")).write_text(text, encoding="utf-8")
    environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state")}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )


def test_the_first_block_is_six_lines_that_end_in_a_refusal(tmp_path: Path) -> None:
    first = blocks("python")[0]
    assert len(first.strip().splitlines()) == 6
    done = run(first, tmp_path)
    shown = re.search(r"BudgetExceeded: (.*\n  asked .*? \| resets )", blocks("text")[0])
    assert done.returncode == 1
    assert shown is not None and shown[1] in done.stderr


@pytest.mark.parametrize("number", range(1, len(blocks("python"))))
def test_every_other_block_runs_clean(number: int, tmp_path: Path) -> None:
    done = run(blocks("python")[number], tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_the_readme_names_the_redis_servers_on_which_the_suite_has_run(redis_server: RedisServer) -> None:
    """Another machine's server is no fault, but the end of the run says so: its version may be added if all passed."""
    (line,) = re.findall("^- The whole suite has run on these servers, and on no others: (.+)[.]$", TEXT, re.MULTILINE)
    named = line.split(", ")
    assert named and all(re.fullmatch(r"(Redis|Valkey) \d+\.\d+\.\d+", name) for name in named)
    info = redis_server.info("server")
    server = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"
    if server not in named:
        pytest.skip(f"the tests ran on {server}, and README names {line}: add it there if all of them have passed")


def test_the_commands_that_the_readme_names_stand_in_the_checkout() -> None:
    for block in blocks("sh"):
        for line in block.strip().splitlines():
            command = README.parent / line.split()[0]
            assert os.access(command, os.X_OK), f"{command} cannot be run"
