"""What the tests of the log share: a loop whose time can be moved on, events, and the lines that were logged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import budgetguard as bg
from budgetguard.core.grammar import parse_limit
from budgetguard.core.model import Account, Violation
from budgetguard.events import Refused

NOON_MS = 1_795_348_800_000
ONE = bg.Usage(1, 1)


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time can be moved on."""

    skipped_s = 0.0

    def time(self) -> float:
        return super().time() + self.skipped_s

    async def skip(self, seconds: float) -> None:
        """Move on, and let what is due then happen."""
        self.skipped_s += seconds
        for _ in range(3):
            await asyncio.sleep(0)


def run(play: Callable[[SkippingLoop], Coroutine[Any, Any, None]]) -> None:
    """Run a test's play on a loop whose time it moves."""
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, SkippingLoop)
        runner.run(play(loop))


def account(limit: str = "$5/day", window: str = "2026-11-22", **per: str) -> Account:
    parsed = parse_limit(limit)
    return Account("each-agent", tuple(per.items()), parsed.unit, parsed.period, window)


def refusal(of: Account, limit: int = 5 * 10**9) -> Refused:
    violation = Violation(of, "spent", limit, limit, 0, 14_200_000, NOON_MS, 1_000)
    return Refused("r-1", {"agent": "crawler", "session": "s-17"}, "budget", (violation,), 1.0)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "budgetguard"]
