"""LiteLLM under `guard_litellm`: every way to call is counted, refusals come up as they are, nothing goes past."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from guard_kit import run_script
from store_kit import rows

pytestmark = [pytest.mark.early]  # to import LiteLLM takes seconds
PLAYS = Path(__file__).with_name("litellm_plays.py")
PYTHON = Path(sys.prefix) / "litellm" / "bin" / "python"
"""Of the environment that scripts/test makes for it: it wants the openai of the major version before."""
MISSING = "LiteLLM is not installed: scripts/test installs it, where it can, into an environment of its own"


def environment(folder: Path) -> dict[str, str]:
    """Without a network: LiteLLM looks for prices when it is imported."""
    own = {"PYTHONPATH": str(PLAYS.parents[1]), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return {**os.environ, **own, "XDG_STATE_HOME": str(folder)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not PYTHON.exists():
        pytest.skip(MISSING)
    return tmp_path_factory.mktemp("litellm")


@pytest.fixture(scope="module")
def told(folder: Path) -> dict[str, list[Any]]:
    """What was played, by name: how it ended, tokens counted, tokens billed, requests received, tokens reserved."""
    done = subprocess.run(
        [str(PYTHON), str(PLAYS), f"sqlite:///{folder}/budgets.db"],
        cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    return {name: rest for name, *rest in lines}


def test_every_way_to_call_is_counted_as_it_is_billed(told: dict[str, list[Any]]) -> None:
    calls = {name: rest for name, rest in told.items() if name.endswith(("async", "sync", "stream"))}
    calls = {name: rest for name, rest in calls.items() if not name.startswith("refused")}
    assert len(calls) == 10
    for name, (_, counted, billed, received, reserved) in calls.items():
        assert (counted, received, reserved) == (billed, 1, 0), name
        assert counted > 0, name


def test_labels_come_from_the_context_and_from_whoever_guards(told: dict[str, list[Any]], folder: Path) -> None:
    found = rows(folder / "budgets.db", "SELECT DISTINCT team, agent, usage_source FROM token_usage WHERE agent != ''")
    assert told
    assert found == [("search", "crawler", "reported")]


@pytest.mark.parametrize("kind", ["async", "sync", "stream", "anthropic", "router"])
def test_a_refusal_comes_up_as_it_is_at_the_first_attempt(kind: str, told: dict[str, list[Any]]) -> None:
    assert told[f"refused {kind}"] == ["BudgetExceeded", 0, 0, 0, 0]


def test_a_deployment_gets_no_rest_for_a_refusal(told: dict[str, list[Any]]) -> None:
    _, counted, billed, received, _ = told["router"]
    assert (counted, received) == (billed, 1)


@pytest.mark.parametrize("way", ["aiohttp", "realtime", "responses websocket", "native", "unknown api"])
def test_what_would_go_past_the_guard_is_refused(way: str, told: dict[str, list[Any]]) -> None:
    assert told[way] == ["UnguardedApi", 0, 0, 0, 0]


def test_it_is_guarded_once(told: dict[str, list[Any]]) -> None:
    assert told["twice"] == ["LiteLLM is guarded already, by the guard that was given first"]


def test_without_litellm_it_says_so(tmp_path: Path) -> None:
    source = """
import sys
sys.modules["litellm"] = None
import budgetguard as bg
from budgetguard.integrations.litellm import guard_litellm
guard_litellm(bg.Guard("$5/day", store="sqlite:///:memory:"))
"""
    assert "it needs litellm" in run_script(source, tmp_path).stderr
