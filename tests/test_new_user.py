"""What a new user checks on the first day: rows are there, one adds up by hand, a low threshold warns, totals agree."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

import openai
import pytest
from cli_kit import command

import budgetguard as bg
from budgetguard.testing import FakeProvider, Reply

POLICY = """
[store]
url = "sqlite:///budgets.db"

[[budget]]
name = "each-team"
per = ["team"]
limits = ["$1/day", "1M tokens/day"]
alert_at = [0.01]                   # low: the third call passes it

[[price]]
model = "m-1"
usd_per_mtok = { input = "2.50", output = "10", cache_read = "1.25" }
"""
TASKS = {"summarise": (1_000, 200), "classify": (400, 10), "draft": (900, 700), "review": (1_600, 120)}
CACHED = 300
"""Of each prompt's tokens."""


def answer(input_tokens: int, output_tokens: int) -> Reply:
    usage = {
        "prompt_tokens": input_tokens, "completion_tokens": output_tokens, "total_tokens": input_tokens + output_tokens,
        "prompt_tokens_details": {"cached_tokens": CACHED},
    }  # fmt: skip
    return Reply.json({"object": "chat.completion", "model": "m-1", "choices": [], "usage": usage})


class Ran(NamedTuple):
    """The folder of the policy and the store, and the warnings that were logged."""

    folder: Path
    warnings: list[str]


class Kept(logging.Handler):
    """A log that is kept."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Two teams have run four tasks each."""
    folder = tmp_path_factory.mktemp("new-user")
    (folder / "budgetguard.toml").write_text(POLICY, encoding="utf-8")

    async def main() -> None:
        async with FakeProvider() as provider, bg.Guard.from_toml(folder / "budgetguard.toml") as guard:
            client = guard.wrap(openai.AsyncOpenAI(base_url=provider.base_url, api_key="any"))
            for team in ("search", "support"):
                for task, tokens in TASKS.items():
                    provider.reply_next(answer(*tokens))
                    with bg.acting_as(team=team, agent="a", task=task):
                        await client.chat.completions.create(
                            model="m-1", max_tokens=1_000, messages=[{"role": "user", "content": "Do it."}]
                        )
            await client.close()

    logger, kept = logging.getLogger("budgetguard"), Kept()
    logger.addHandler(kept)
    asyncio.run(main())
    logger.removeHandler(kept)
    return Ran(folder, kept.lines)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """As a user looks: with whatever opens SQLite files."""
    db = sqlite3.connect(folder / "budgets.db")
    db.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in db.execute("SELECT * FROM token_usage")]
    finally:
        db.close()


def test_every_task_that_ran_has_its_row_and_one_rows_cost_is_what_it_comes_to_by_hand(ran: Ran) -> None:
    rows = rows_of(ran.folder)
    assert len(rows) == 2 * len(TASKS) and {row["task_type"] for row in rows} == {*TASKS}
    assert all(row["prompt_tokens"] > 0 and row["completion_tokens"] > 0 for row in rows)
    row = next(row for row in rows if (row["team"], row["task_type"]) == ("search", "draft"))
    by_hand = 600 * 2.50 / 1e6 + CACHED * 1.25 / 1e6 + 700 * 10 / 1e6
    assert round(by_hand, 9) == 0.008875
    assert (row["cost"], row["cost_nanousd"]) == (0.008875, 8_875_000)


def test_a_threshold_set_low_raises_its_warning_for_each_account_once(ran: Ran) -> None:
    alerts = [line for line in ran.warnings if line.startswith("budget.alert ")]
    assert sorted(text.split()[1] for text in alerts if "unit=usd" in text) == ["team=search", "team=support"]
    assert all("threshold_nanousd=10000000" in text for text in alerts if "unit=usd" in text)


@pytest.mark.parametrize("by", ["team", "team,task", "agent,model,day"])
def test_a_report_adds_up_to_the_raw_rows_and_says_so(ran: Ran, by: str) -> None:
    rows = rows_of(ran.folder)
    done = command(ran.folder, "report", "--by", by, "--format", "json", "--verify")
    assert done.code == 0 and "verified: 8 rows" in done.err
    total = json.loads(done.out)["total"]
    assert (total["calls"], total["cost_nanousd"]) == (8, sum(row["cost_nanousd"] for row in rows))
    assert total["prompt_tokens"] + total["completion_tokens"] == sum(row["total_tokens"] for row in rows)
