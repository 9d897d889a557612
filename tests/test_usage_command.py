"""`budgetguard usage`: rolling metrics of the ledger up to now, against rows reckoned by hand."""

from __future__ import annotations

import csv
import io
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli_kit import ESCAPES, Ended, command
from drain_kit import NAMESPACE, row
from store_kit import HOUR_MS, MINUTE_MS, amounts, info

from budgetguard.core.model import UsageRow
from budgetguard.core.verbs import Row
from budgetguard.ledger import open_ledger

HOSTILE = "=cmd|'x'!A1\x1b[31m\n<b>"


def call(id: str, ago_ms: int, labels: dict[str, str], attempt: int = 1, **changed: Any) -> Row:
    """A call that was admitted so long ago."""
    about = replace(info(amounts(1), **labels), attempt=attempt)
    return row(id, timestamp_ms=int(time.time() * 1000) - ago_ms, info=about, **changed)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A ledger with five calls of two agents in the last days, and one of long ago."""
    if request.param == "postgres":
        url = str(request.getfixturevalue("postgres").url)
    else:
        url = f"sqlite:///{tmp_path / 'ledger.db'}"
    crawler = {"team": "search", "agent": "crawler", "task": "crawl", "model": "m-1", "provider": "acme"}
    writer = {"team": "docs", "agent": HOSTILE, "model": "m-2"}
    failed = UsageRow(100, 0, cost_nanousd=1_000)
    ledger = open_ledger(url)
    ledger.write([(NAMESPACE, one) for one in (
        call("a", 10 * MINUTE_MS, crawler, usage=failed, error_type="APIError", latency_ms=100),
        call("b", 9 * MINUTE_MS, crawler, 2, usage=UsageRow(100, 50, cost_nanousd=2_000_000_000), latency_ms=800),
        call("c", 5 * HOUR_MS, crawler, usage=UsageRow(300, 50, cost_nanousd=1_000_000_001), latency_ms=1_600),
        call("d", 30 * HOUR_MS, writer, usage=UsageRow(10, 5, cost_nanousd=None), latency_ms=0),
        call("e", 100 * HOUR_MS, writer, usage=UsageRow(10, 5, cost_nanousd=7), latency_ms=4_000),
        call("f", 200 * HOUR_MS, writer, usage=UsageRow(10, 5, cost_nanousd=7)),
    )])  # fmt: skip
    ledger.close()
    return url


def usage(folder: Path, url: str, *more: str) -> Ended:
    return command(folder, "usage", "--ledger", url, "--namespace", NAMESPACE, *more)


def near(value: object, truth: float) -> bool:
    return isinstance(value, int) and abs(value - truth) <= 0.1 * truth


def test_what_an_agent_used_in_a_window_is_what_its_rows_say(url: str, tmp_path: Path) -> None:
    (day,) = json.loads(usage(tmp_path, url, "--format", "json").out)
    assert near(day.pop("latency_p50_ms"), 800) and near(day.pop("latency_p95_ms"), 1_600)
    assert day == {
        "agent": "crawler", "calls": 3, "errors": 1, "error_share": 0.333333, "operations": 2, "prompt_tokens": 500,
        "completion_tokens": 100, "total_tokens": 600, "cost_nanousd": 3_000_001_001, "cost_usd": "3.000001001",
        "unpriced_calls": 0, "tokens_per_completion": 200.0, "cost_per_task_nanousd": 1_500_000_501,
        "cost_per_task_usd": "1.500000501", "token_efficiency": 0.2,
    }  # fmt: skip
    (hour,) = json.loads(usage(tmp_path, url, "--format", "json", "--window", "1h", "--by", "team,model").out)
    assert (hour["team"], hour["model"], hour["calls"], hour["operations"]) == ("search", "m-1", 2, 1)
    week = json.loads(usage(tmp_path, url, "--format", "json", "--window", "7d", "--by", "provider").out)
    assert [(one["provider"], one["calls"], one["unpriced_calls"]) for one in week] == [("acme", 3, 0), (None, 2, 1)]
    asked = ("--window", "7d", "--format", "csv", "--team", "d*", "--model", "m-2")
    ((agent, calls),) = [
        (one["agent"], one["calls"]) for one in csv.DictReader(io.StringIO(usage(tmp_path, url, *asked).out))
    ]
    assert (agent[0], calls) == ("'", "2") and "\x1b" not in agent


def test_a_table_shows_it_without_obeying_labels(url: str, tmp_path: Path) -> None:
    shown = usage(tmp_path, url, "--window", "7d")
    titles, dearest, other = shown.out.splitlines()
    assert titles.split() == [
        "agent",
        "calls",
        "tokens",
        "cost",
        "errors",
        "p50",
        "p95",
        "tokens/call",
        "cost/task",
        "out/in",
    ]
    assert dearest.split()[:4] == ["crawler", "3", "600", "$3.0001"]
    assert dearest.split()[-3:] == ["200", "$1.5001", "0.20"] and "33.3 %" in dearest
    assert "\\x1b[31m" in other and "\x1b" not in ESCAPES.sub("\x1b", shown.out)
    assert "of 1 call nobody knows the cost" in shown.err
    assert usage(tmp_path, url, "--agent", "nobody").out == "no calls\n"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("--by", "session"), "--by: expected one or several of team, agent, task, model, provider, not session"),
        (("--by", "team,team"), "--by: expected one or several of team, agent, task, model, provider, each once"),
        (("--window", "soon"), '--window must be a time such as "30s", "15m" or "24h", not'),
    ],
)
def test_what_cannot_be_asked_is_told(tmp_path: Path, asked: tuple[str, ...], told: str) -> None:
    ledger = open_ledger(f"sqlite:///{tmp_path / 'l.db'}")
    ledger.write([(NAMESPACE, row("r"))])
    ledger.close()
    ended = usage(tmp_path, f"sqlite:///{tmp_path / 'l.db'}", *asked)
    assert ended.code == 2 and told in ended.err


def test_a_redis_store_without_a_ledger_is_told_what_to_name(tmp_path: Path) -> None:
    ended = command(tmp_path, "usage", "--store", "redis://127.0.0.1:1/0")
    assert ended.code == 2 and "--ledger: say which SQL ledger, or set ledger.url" in ended.err
