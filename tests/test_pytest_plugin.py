"""The plugin of pytest, in runs of its own: a test that spends more than its budget fails; no other is disturbed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
PLUGIN = "budgetguard.testing.pytest_plugin"
CALLS = """
    import asyncio
    import pytest
    import budgetguard as bg

    async def call(guard, cost, tokens=5):
        async with guard.reserve(model="m", estimate=bg.Usage(10, 10, cost_usd="0.01")) as hold:
            hold.record(bg.Usage(10, tokens, cost_usd=cost))
"""


@pytest.fixture
def run(pytester: pytest.Pytester, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder in which runs have the plugin as one that is installed would be, and every warning is an error."""
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (entries,) = [f"{name} = {value}" for name, value in project["entry-points"]["pytest11"].items()]
    installed = pytester.path / "site" / "budgetguard_as_installed-1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: budgetguard-as-installed\nVersion: 1\n")
    (installed / "entry_points.txt").write_text(f"[pytest11]\n{entries}\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(installed.parent), str(checkout)]))
    monkeypatch.setenv("XDG_STATE_HOME", str(pytester.path / "state"))
    pytester.makeini("[pytest]\naddopts = --strict-markers --strict-config\nfilterwarnings = error\n")
    return pytester


def test_a_test_that_spends_more_than_its_mark_says_fails_and_says_what_was_spent(run: pytest.Pytester) -> None:
    run.makepyfile(
        CALLS
        + """
    @pytest.mark.budget("$0.10")
    def test_all_of_it(budget_guard):
        asyncio.run(call(budget_guard, "0.10"))

    @pytest.mark.budget("$0.10")
    def test_more(budget_guard):
        for _ in range(2):
            asyncio.run(call(budget_guard, "0.06"))

    @pytest.mark.budget("1 requests", "20 tokens")
    def test_other_units(budget_guard):
        with budget_guard.sync.reserve(model="m", estimate=bg.Usage(1, 1)) as hold:
            hold.record(bg.Usage(12, 9))

    @pytest.mark.budget("$1")
    def test_of_unknown_cost(budget_guard):
        with budget_guard.sync.reserve(model="acme-9", estimate=bg.Usage(1, 1)) as hold:
            hold.record(bg.Usage(1, 1))

    def test_without_a_mark(budget_guard):
        asyncio.run(call(budget_guard, "100"))
    """
    )
    done = run.runpytest_subprocess()
    done.assert_outcomes(passed=2, failed=3)
    done.stdout.fnmatch_lines([
        "this test spent more than its budget: $0.12 is above $0.10 (this test: $0.12 in 2 calls of 30 tokens)",
        "this test spent more than its budget: 21 tokens is above 20 tokens (*",
        "this test spent more than its budget: nobody knows what acme-9 costs: *",
    ])  # fmt: skip


def test_what_a_test_spends_while_it_ends_and_on_a_guard_of_its_own_counts(run: pytest.Pytester) -> None:
    run.makepyfile(
        CALLS
        + """
    @pytest.fixture
    def own_guard(budget_meter):
        guard = bg.Guard("$5/day", store="sqlite:///:memory:", observers=[budget_meter])
        yield guard
        guard.sync.close()

    @pytest.fixture
    def summary(budget_guard):
        yield
        asyncio.run(call(budget_guard, "0.07"))

    @pytest.mark.budget("$0.05")
    def test_own(own_guard):
        asyncio.run(call(own_guard, "0.06"))

    @pytest.mark.budget("$0.05")
    def test_end(summary):
        pass

    @pytest.mark.budget("$0.05")
    def test_failed_anyway(budget_guard):
        asyncio.run(call(budget_guard, "0.04"))
        raise ValueError("its own error")
    """
    )
    done = run.runpytest_subprocess()
    done.assert_outcomes(passed=1, errors=1, failed=2)
    done.stdout.fnmatch_lines(["*$0.07 is above $0.05*", "*$0.06 is above $0.05*", "*ValueError: its own error"])


def test_a_run_with_a_budget_stops_spending_when_it_is_spent(run: pytest.Pytester) -> None:
    run.makepyfile(
        CALLS
        + """
    @pytest.mark.parametrize("number", range(4))
    def test_call(budget_guard, number):
        asyncio.run(call(budget_guard, "0.90"))

    def test_free():
        pass
    """
    )
    done = run.runpytest_subprocess("--budget", "2usd")
    done.assert_outcomes(passed=3, failed=1, errors=1)
    done.stdout.fnmatch_lines([
        "not begun: the run has spent its budget: $2.70 is above $2.00",
        "with this test the run spent more than its budget: $2.70 is above $2.00 (this test: $0.90 in 1 call *",
        "budget 2usd: spent $2.70 in 3 calls of 45 tokens",
    ])  # fmt: skip
    run.runpytest_subprocess("--budget", "4usd").assert_outcomes(passed=5)


def test_of_several_marks_the_closest_counts(run: pytest.Pytester) -> None:
    run.makepyfile(
        CALLS
        + """
    pytestmark = pytest.mark.budget("$0.01")

    @pytest.mark.budget("$0.05")
    class TestAll:
        def test_of_its_class(self, budget_guard):
            asyncio.run(call(budget_guard, "0.04"))

        @pytest.mark.budget("$1", "1 requests")
        def test_of_its_own(self, budget_guard):
            asyncio.run(call(budget_guard, "0.90"))

        @pytest.mark.budget("20 tokens")
        def test_of_its_own_and_more(self, budget_guard):
            asyncio.run(call(budget_guard, "0.90", tokens=11))

    def test_of_its_module(budget_guard):
        asyncio.run(call(budget_guard, "0.04"))
    """
    )
    done = run.runpytest_subprocess()
    done.assert_outcomes(passed=2, failed=2)
    done.stdout.fnmatch_lines(["*: 21 tokens is above 20 tokens (*", "*: $0.04 is above $0.01 (*"])


def test_budgets_that_cannot_be_kept_are_told(run: pytest.Pytester) -> None:
    run.makepyfile(
        CALLS
        + """
    @pytest.mark.budget("$0.10")
    def test_that_counts_nothing():
        pass

    @pytest.mark.budget("$0.10/day")
    def test_with_a_period(budget_guard):
        pass

    @pytest.mark.budget()
    def test_of_nothing(budget_guard):
        pass

    @pytest.mark.budget("$0.10", tokens="20k")
    def test_by_name(budget_guard):
        pass

    @pytest.mark.budget(0.10)
    def test_of_a_number(budget_guard):
        pass
    """
    )
    done = run.runpytest_subprocess()
    done.assert_outcomes(errors=5)
    done.stdout.fnmatch_lines([
        "*nothing would be counted*", "*the budget of a test has no period*",
        "*test_of_nothing: it takes amounts and nothing else, as in budget(*", "*test_by_name: it takes amounts*",
        "*test_of_a_number: *",
    ])  # fmt: skip
    refused = run.runpytest_subprocess("--budget", "a lot")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    refused.stderr.fnmatch_lines(["ERROR: --budget: limit 'a lot'*"])


def test_the_fixtures_serve_synchronous_and_asynchronous_clients(run: pytest.Pytester) -> None:
    run.makepyfile("""
    import asyncio
    import openai
    import pytest
    import budgetguard as bg
    from budgetguard.testing import Reply

    ANSWER = {"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini", "choices": [],
              "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}}
    ASK = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi."}], "max_tokens": 100}

    @pytest.mark.budget("$0.001")
    def test_sync(budget_guard, fake_provider):
        fake_provider.reply_next(Reply.json(ANSWER))
        with budget_guard.wrap(openai.OpenAI(base_url=fake_provider.base_url, api_key="any")) as client:
            client.chat.completions.create(**ASK)
        assert [call.input_tokens for call in fake_provider.bill] == [1000]

    @pytest.mark.budget("500 tokens")
    def test_async(budget_guard, fake_provider):
        fake_provider.reply_next(Reply.json(ANSWER))
        async def main():
            async with budget_guard.wrap(openai.AsyncOpenAI(base_url=fake_provider.base_url, api_key="any")) as client:
                await client.chat.completions.create(**ASK)
        asyncio.run(main())
    """)
    done = run.runpytest_subprocess()
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["*1,100 tokens is above 500 tokens*"])


def test_the_example_in_the_readme_is_a_test_that_passes(run: pytest.Pytester, checkout: Path) -> None:
    text = (checkout / "README.md").read_text(encoding="utf-8")
    (example,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "budget_guard" in block]
    run.makepyfile(test_example=example, test_tighter=example.replace("$0.001", "$0.0002"))
    done = run.runpytest_subprocess("-rf")
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["FAILED test_tighter.py*"])


def test_a_suite_that_does_not_use_it_is_not_disturbed(run: pytest.Pytester) -> None:
    heavy = ["anyio", "apsw", "genai_prices", "httpx2", "limits", "msgpack", "openai", "redis", "structlog", "typer"]
    run.makepyfile(f"""
    import sys

    def test_plain():
        assert sorted(sys.modules.keys() & set({heavy!r})) == []
        assert "budgetguard.testing.pytest_plugin" in sys.modules
    """)
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-W", "error"]
    done = subprocess.run(command, cwd=run.path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "budget" not in done.stdout


def test_this_very_suite_runs_with_it(run: pytest.Pytester, checkout: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--budget",
        "1usd",
        "tests/test_grammar.py",
    ]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "budget 1usd: spent $0.00 in 0 calls of 0 tokens" in done.stdout
