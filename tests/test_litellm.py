"""LiteLLM under `guard_litellm`: every way to call is counted, refusals come up as they are, nothing goes past."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from guard_kit import run_script
from recipe_kit import Recipe, assert_does_what_it_says, run_recipe
from store_kit import rows
from warm_python import ran_warm

pytestmark = [pytest.mark.early]  # to import LiteLLM takes seconds
PLAYS = Path(__file__).with_name("litellm_plays.py")
PYTHON = Path(sys.prefix) / "litellm" / "bin" / "python"
"""Of the environment that scripts/test makes for it: it wants the openai of the major version before."""
MISSING = "LiteLLM is not installed: scripts/test installs it, where it can, into an environment of its own"


MODULES = ("litellm", "litellm.main", "budgetguard.testing", "budgetguard.stores.sqlite")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not PYTHON.exists():
        pytest.skip(MISSING)
    return tmp_path_factory.mktemp("litellm")


@pytest.fixture(scope="module")
def told(folder: Path) -> dict[str, list[Any]]:
    """What was played, by name: how it ended, tokens counted, tokens billed, requests received, tokens reserved, and
    how often a budget was asked in vain.
    """
    environment = {**os.environ, "XDG_STATE_HOME": str(folder)}
    source, store = PLAYS.read_text(encoding="utf-8"), f"sqlite:///{folder}/budgets.db"
    said = ran_warm(source, folder, environment, MODULES, store, python=str(PYTHON))
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("[")]
    return {name: rest for name, *rest in lines}


def test_the_recipe_does_what_it_says(folder: Path) -> None:
    """Here, since it is a fork of the process that has imported LiteLLM already."""
    recipe = Recipe(MODULES, 2)
    assert_does_what_it_says(recipe, *run_recipe("litellm", recipe, folder, python=str(PYTHON)))


def test_every_way_to_call_is_counted_as_it_is_billed(told: dict[str, list[Any]]) -> None:
    calls = {name: rest for name, rest in told.items() if name.endswith(("async", "sync", "stream"))}
    calls = {name: rest for name, rest in calls.items() if not name.startswith(("refused", "cut off"))}
    assert len(calls) == 16
    for name, (_, counted, billed, received, reserved, _) in calls.items():
        assert (counted, received, reserved) == (billed, 1, 0), name
        assert counted > 0, name


def test_a_login_passes(told: dict[str, list[Any]]) -> None:
    assert told["login"] == ["done", 8, 8, 2, 0, 0]


def test_labels_come_from_the_context_and_from_whoever_guards(told: dict[str, list[Any]], folder: Path) -> None:
    query = "SELECT DISTINCT team, agent, usage_source FROM token_usage WHERE agent NOT IN ('', 'short', 'mirrored')"
    assert told
    assert rows(folder / "budgets.db", query) == [("search", "crawler", "reported")]


REFUSED = (
    "async", "sync", "stream", "anthropic", "fallbacks", "sync fallbacks", "sync fallbacks in a loop", "retries",
    "async retries", "router", "sync router",
)  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_a_refusal_comes_up_as_it_is_at_the_first_attempt(kind: str, told: dict[str, list[Any]]) -> None:
    assert told[f"refused {kind}"] == ["BudgetExceeded", 0, 0, 0, 0, 1]


def test_threads_that_litellm_starts_have_the_labels_of_its_caller(told: dict[str, list[Any]], folder: Path) -> None:
    assert told["refused batch"] == ["BudgetExceeded BudgetExceeded", 0, 0, 0, 0, 2]
    ended, counted, billed, received, *_ = told["mirrored"]
    assert (ended, counted, received) == ("done", billed, 2)
    found = rows(folder / "budgets.db", "SELECT count(*) FROM token_usage WHERE agent = 'mirrored'")
    assert found == [(2,)]


@pytest.mark.parametrize("kind", ["async", "sync", "router"])
def test_so_does_one_in_the_midst_of_a_stream(kind: str, told: dict[str, list[Any]]) -> None:
    ended, counted, _, received, reserved, refused = told[f"cut off {kind}"]
    assert (ended, received, reserved, refused) == ("BudgetExceeded", 1, 0, 1)
    assert counted > 0


def test_a_deployment_gets_no_rest_for_a_refusal(told: dict[str, list[Any]]) -> None:
    _, counted, billed, received, *_ = told["router"]
    assert (counted, received) == (billed, 1)


AROUND = (
    "aiohttp", "realtime", "responses websocket", "native", "image", "speech", "variation", "fallbacks", "batch job",
    "sync batch job", "fine-tuning", "assistant", "boto3",
)  # fmt: skip


@pytest.mark.parametrize("way", AROUND)
def test_what_would_go_past_the_guard_is_refused(way: str, told: dict[str, list[Any]]) -> None:
    ended, *counted, _ = told[way]
    assert (ended, counted) == ("UnguardedApi", [0, 0, 0, 0])


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
