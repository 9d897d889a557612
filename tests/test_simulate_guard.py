"""The simulation does what a real guard does: the same traces through both, the guard on a loop of virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest
from virtual_time import Guarded, Patiently, run

import budgetguard as bg
from budgetguard.policy import Policy
from budgetguard.pricing import PriceTable
from budgetguard.simulation import TracedCall, simulate
from budgetguard.stores.sqlite import SQLiteStore

START_MS = 1_767_571_200_000
"""Monday 2026-01-05, 00:00 UTC."""
HOLD_OUTPUT = 300
PRICES = [bg.Price("m-*", {"input": "1", "output": "2"})]
Budgets = Sequence[bg.Budget]

POLICIES: dict[str, Budgets] = {
    "held back by open calls": [
        bg.Budget("open", ["2 concurrent"], on_exceed="delay", max_delay="7s"),
    ],
    "spent and held, for a minute at a time": [
        bg.Budget("minute", ["6500 tokens/minute"], on_exceed="delay", max_delay="45s"),
    ],
    "rolling": [
        bg.Budget("rolling", ["6000 tokens/rolling 1 minute"], on_exceed="delay", max_delay="50s"),
    ],
    "each agent and all of them": [
        bg.Budget("each", ["2500 tokens/minute", "1 concurrent"], per=["agent"], on_exceed="delay", max_delay="30s"),
        bg.Budget("all", ["7000 tokens/minute"], on_exceed="delay", max_delay="12s"),
    ],
    "one that delays beside one that refuses": [
        bg.Budget("slow", ["2 concurrent"], where={"agent": "a*"}, on_exceed="delay", max_delay="15s"),
        bg.Budget("hard", ["$0.012/minute"]),
        bg.Budget("seen", ["1000 tokens/minute"], on_exceed="shadow"),
    ],
    "delays with different patience": [
        bg.Budget("short", ["5000 tokens/minute"], where={"agent": "a1"}, on_exceed="delay", max_delay="3.3s"),
        bg.Budget("long", ["9000 tokens/rolling 2 minutes"], on_exceed="delay", max_delay="70s"),
        bg.Budget("few", ["40 requests/minute"], per=["model"]),
    ],
}


def a_trace(seed: int) -> list[TracedCall]:
    """Sixty calls of three agents in two and a half minutes; prompts tell them apart, and no two begin at once."""
    chosen = random.Random(seed)
    instants = sorted(chosen.sample(range(1, 150_000), 60))
    return [
        TracedCall(
            at_ms,
            chosen.choice(["m-1", "m-2"]),
            100 + number + 100 * chosen.randrange(4),
            chosen.choice([3, 20, 90, 250, 310]),
            {"agent": chosen.choice(["a1", "a2", "b1"])},
        )
        for number, at_ms in enumerate(instants)
    ]


class ByHand(Guarded):
    """Each is reserved by hand."""

    def __init__(self, folder: Path, budgets: Budgets) -> None:
        super().__init__(START_MS)
        self.waits_ms: list[int] = []
        self.admitted: list[int] = []
        store = SQLiteStore(str(folder / "guard.db"), clock=self)
        self.guard = bg.Guard(budgets=budgets, prices=PRICES, store=Patiently(store, self.loop))

    async def call(self, call: TracedCall) -> None:
        estimate = bg.Usage(call.prompt_tokens, HOLD_OUTPUT)
        try:
            async with self.guard.reserve(agent=call.labels["agent"], model=call.model, estimate=estimate) as hold:
                self.admitted.append(call.prompt_tokens)
                if (waited_ms := self.loop.now_ms() - call.at_ms) > 0:
                    self.waits_ms.append(waited_ms)
                await asyncio.sleep(0.3 + 0.02 * call.completion_tokens)
                hold.record(bg.Usage(call.prompt_tokens, call.completion_tokens))
        except bg.BudgetExceeded as refusal:
            self.refuse(refusal)


def books(path: Path) -> dict[str, Any]:
    """What stands in a store: the accounts, and the ledger without its times."""
    db = apsw.Connection(str(path))
    accounts = db.execute("SELECT key, spent, reserved FROM accounts WHERE slots = '' ORDER BY key").fetchall()
    ledger = db.execute(
        "SELECT prompt_tokens, completion_tokens, cost_nanousd, agent, model, status, accounts, would_refuse "
        "FROM token_usage ORDER BY prompt_tokens, completion_tokens, agent, model"
    ).fetchall()
    db.close()
    return {"accounts": accounts, "ledger": ledger}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", POLICIES)
def test_it_admits_delays_and_refuses_the_calls_that_a_guard_would(
    name: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("budgetguard.admission.poll_s", lambda: 0.2)  # the guard's jitter is random
    calls = a_trace(seed)
    guarded = ByHand(tmp_path, POLICIES[name])
    run(guarded.loop, guarded.replay(calls))
    url = f"sqlite:///{tmp_path / 'simulated.db'}"
    policy = Policy(POLICIES[name], prices=PriceTable(PRICES))
    report = simulate(policy, calls, hold_output=HOLD_OUTPUT, estimate="ceiling", store_url=url)
    waits = (len(guarded.waits_ms), sum(guarded.waits_ms), max(guarded.waits_ms, default=0))
    print(name, seed, report.admitted, report.refused_by, report.waits)
    assert (report.waits.calls, report.waits.total_ms, report.waits.longest_ms) == waits
    assert (report.admitted, report.refused_by) == (len(guarded.admitted), guarded.refused)
    assert books(tmp_path / "simulated.db") == books(tmp_path / "guard.db")
    assert report.delayed > 0
    assert report.refused > 0
