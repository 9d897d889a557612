"""Events in the log: where they go, and what they look like there."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import structlog
from logs_kit import ONE, SkippingLoop, account, lines, refusal, run

import budgetguard as bg
from budgetguard.core.amounts import Amounts
from budgetguard.events import (
    AlertReached,
    Event,
    Exhausted,
    Overage,
    PolicyReloaded,
    Refused,
    Settled,
    StoreProblem,
    Unmatched,
)
from budgetguard.logs import RESERVED, LogObserver

SETTLED = Settled("r-1", {"team": "search"}, "settled", 10, 5, 1_500, 12)


@pytest.fixture
def structured() -> Iterator[list[dict[str, Any]]]:
    """A user's own structlog configuration, which keeps what it is given."""
    kept: list[dict[str, Any]] = []

    def keep(logger: Any, method: str, event_dict: Mapping[str, Any]) -> Mapping[str, Any]:
        kept.append({**event_dict, "level": method, "logger": logger.name})
        raise structlog.DropEvent

    structlog.configure(processors=[keep], logger_factory=structlog.stdlib.LoggerFactory())
    yield kept
    structlog.reset_defaults()


def told(caplog: pytest.LogCaptureFixture, *events: Event) -> list[str]:
    """What a new observer logs of these events."""
    caplog.set_level(logging.DEBUG, "budgetguard")
    log = LogObserver()
    for event in events:
        log.on_event(event)
    return lines(caplog)


# Where they go, and what they look like


def test_without_a_configuration_an_event_is_one_readable_line_of_the_standard_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert told(caplog, SETTLED, refusal(account(agent="crawler"))) == [
        "budget.settled team=search reservation_id=r-1 status=settled input_tokens=10 output_tokens=5"
        " cost_nanousd=1500 latency_ms=12 cache_read_tokens=0 cache_write_tokens=0 reasoning_tokens=0"
        " estimated_tokens=0",
        "budget.refused agent=crawler session=s-17 reservation_id=r-1 cause=budget violations=1 budget=each-agent"
        " unit=usd period=day@UTC window=2026-11-22 reason=spent limit_nanousd=5000000000 spent_nanousd=5000000000"
        " reserved_nanousd=0 requested_nanousd=14200000 retry_after_s=1.0",
    ]
    assert [record.levelname for record in caplog.records] == ["DEBUG", "WARNING"]


def test_a_structlog_configuration_of_the_user_gets_names_keys_and_levels(
    structured: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    assert told(caplog, AlertReached(account("2k tokens/day"), 1_600, 2_000, 1_700)) == []
    assert structured == [
        {
            "event": "budget.alert", "level": "warning", "logger": "budgetguard", "budget": "each-agent",
            "unit": "tokens", "period": "day@UTC", "window": "2026-11-22", "threshold_tokens": 1_600,
            "limit_tokens": 2_000, "level_reached_tokens": 1_700,
        }
    ]  # fmt: skip


def test_amounts_have_their_unit_in_their_key() -> None:
    used = Overage("r-1", {}, Amounts(tokens=3, usd=7), 1).fields()
    assert (used["overage_tokens"], used["overage_nanousd"]) == (3, 7)
    assert Exhausted(account(), 5, 6).fields()["spent_nanousd"] == 6
    assert Exhausted(account("20 concurrent"), 20, 20).fields()["limit_concurrent"] == 20


HOSTILE = "a\nb\x1b[31m\u202e\u200b\x00\x85\u2028 =\"'"


@pytest.mark.parametrize("hostile", [HOSTILE, "\ud800"])
def test_what_does_not_print_is_escaped_in_names_and_values(
    hostile: str, caplog: pytest.LogCaptureFixture, structured: list[dict[str, Any]]
) -> None:
    events = [Unmatched({hostile: hostile}), StoreProblem("reserve", hostile), PolicyReloaded("f", (hostile,))]
    told(caplog, *events)
    structlog.reset_defaults()
    texts = [*told(caplog, *events), *(text for kept in structured for text in strings(kept))]
    assert len(texts) > 10
    assert [text for text in texts if not text.isprintable()] == []


def strings(value: Any) -> Iterator[str]:
    """Every text in a structure, keys included."""
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


def test_a_value_that_is_no_single_word_is_quoted_so_that_nobody_can_forge_a_key(
    caplog: pytest.LogCaptureFixture,
) -> None:
    (line,) = told(caplog, Unmatched({"team": 'x" reason=spent', "task": "two words"}))
    assert line == 'budget.unmatched team="x\' reason=spent" task="two words"'


@pytest.mark.parametrize("name", sorted(RESERVED | {"budget", "reservation_id", "limit_nanousd"}))
def test_a_label_named_like_another_key_or_a_loggers_own_is_set_apart(
    name: str, structured: list[dict[str, Any]]
) -> None:
    violations = refusal(account()).violations
    LogObserver().on_event(Refused("r-1", {name: "mine"}, "budget", violations))
    (kept,) = structured
    assert kept[f"label_{name}"] == "mine"
    assert (kept["event"], kept["reservation_id"], kept["limit_nanousd"]) == ("budget.refused", "r-1", 5 * 10**9)


def test_a_password_in_a_urls_text_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    error = "redis://user:pa:ss@w0rd@host:6379/0 did not answer"
    (line,) = told(caplog, StoreProblem("reserve", error))
    assert "w0rd" not in line
    assert "redis://***@host:6379/0" in line


def test_an_event_below_the_level_loads_nothing_and_prints_nothing() -> None:
    out = python(
        """
import sys
from budgetguard.events import Settled, SpoolReplayed
from budgetguard.logs import LogObserver
log = LogObserver()
log.on_event(Settled("r-1", {"team": "x"}, "settled", 1, 1, 1, 1))
log.on_event(SpoolReplayed(3))
assert not {"structlog", "limits"} & set(sys.modules), "loaded"
"""
    )
    assert (out.stdout, out.stderr, out.returncode) == ("", "", 0)


def test_who_configures_nothing_sees_one_warning_a_sum_at_exit_and_nothing_else() -> None:
    out = python(
        """
import asyncio
import budgetguard as bg

async def main():
    async with bg.Guard("1 requests/day", store="sqlite:///:memory:") as guard:
        async with guard.reserve(team="search", estimate=bg.Usage(1, 1)) as hold:
            hold.record(bg.Usage(1, 1))
        for _ in range(5):
            try:
                await guard.reserve(team="search")
            except bg.BudgetExceeded:
                pass

asyncio.run(main())
"""
    )
    assert (out.stdout, out.returncode) == ("", 0)
    assert [line.split(" ")[0] for line in out.stderr.splitlines()] == [
        "budget.alert", "budget.refused", "budget.refused_summary",
    ]  # fmt: skip
    assert out.stderr.endswith('budget.refused_summary count=4 kinds=1 most="default requests/day@UTC: 4"\n')


def python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)


# What goes wrong in others' code


class Failing:
    """An observer that raises."""

    def on_event(self, event: Event) -> None:
        raise RuntimeError(f"on\n{event.name}")


def test_an_observer_that_raises_is_told_once_a_minute_and_disturbs_no_call(caplog: pytest.LogCaptureFixture) -> None:
    async def play(_: SkippingLoop) -> None:
        async with bg.Guard("9 requests/day", store="sqlite:///:memory:", observers=[Failing()]) as guard:
            for _ in range(3):
                async with guard.reserve(estimate=ONE) as hold:
                    hold.record(bg.Usage(1, 1))
            assert [row.spent for row in await guard.status()] == [3]

    run(play)
    assert [line for line in lines(caplog) if "observer_failed" in line] == [
        rf"budget.observer_failed observer=Failing failed_on={name} error=RuntimeError('on\n{name}')"
        for name in ("budget.admitted", "budget.settled")
    ]


def test_a_processor_of_the_user_that_raises_disturbs_no_call(
    structured: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("out of\norder")

    structlog.configure(processors=[broken])
    LogObserver().on_event(Exhausted(account(), 5, 6))
    assert capsys.readouterr().err == (
        "budgetguard: the log failed on budget.exhausted: ValueError('out of\\norder')\n"
    )
