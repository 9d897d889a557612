"""The README's blocks are run as they stand, each in a process of its own, in an empty folder."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from redis_kit import RedisServer

from budgetguard.testing import FakeProvider, ProviderPrice

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


class Done(NamedTuple):
    returncode: int
    stderr: str


def run(code: str, folder: Path) -> Done:
    """Run a block; the clients in it meet a provider on this machine."""
    pytest.importorskip("openai", reason="the openai SDK is not installed")
    pytest.importorskip("anthropic", reason="the anthropic SDK is not installed")
    for number, text in enumerate(blocks("toml")):
        (folder / ("budgetguard.toml" if number == 0 else f"{number}.toml")).write_text(text, encoding="utf-8")

    async def main() -> Done:
        prices = {name: ProviderPrice(150_000_000, 600_000_000) for name in ("gpt-4o", "gpt-4o-mini")}
        async with FakeProvider(prices) as provider:
            environment = {
                **os.environ, "XDG_STATE_HOME": str(folder / "state"), "OPENAI_BASE_URL": provider.base_url,
                "OPENAI_API_KEY": "any", "ANTHROPIC_API_KEY": "any",
            }  # fmt: skip
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", code, cwd=folder, env=environment,
                stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            async with asyncio.timeout(60):
                _, stderr = await process.communicate()
            return Done(process.returncode or 0, stderr.decode())

    return asyncio.run(main())


def test_the_first_block_is_seven_lines_that_end_in_a_refusal(tmp_path: Path) -> None:
    first = blocks("python")[0]
    assert len(first.strip().splitlines()) == 7
    done = run(first, tmp_path)
    shown = re.search(r"BudgetExceeded: (.*\n  asked .*? \| resets )", blocks("text")[0])
    assert done.returncode == 1
    # What the last call asks, and so what is spent before it, depends on how old what was learned is taken to be.
    assert shown is not None and amounts_left_out(shown[1]) in amounts_left_out(done.stderr)
    assert all(re.search(r"\n  \d+ output tokens are learned: p95 of \d+ calls of agent crawler\n", text)
               for text in (blocks("text")[0], done.stderr))  # fmt: skip


def amounts_left_out(text: str) -> str:
    return re.sub(r"(asked|spent|available) \$[\d.]+", r"\1 $", text)


def test_every_other_block_runs_clean(tmp_path: Path) -> None:
    """But for the test, which `test_pytest_plugin` runs."""
    (block,) = [block for block in blocks("python")[1:] if "def test_" not in block]
    done = run(block, tmp_path)
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
