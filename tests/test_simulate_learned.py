"""With learned estimates, too, the simulation does what a guard does: a cut of a real trace through both."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from test_simulate_guard import START_MS, books
from transport_kit import JSON, heard, request
from virtual_time import Guarded, Patiently, run

import budgetguard as bg
from budgetguard.integrations.httpx import BudgetTransport
from budgetguard.policy import Policy
from budgetguard.pricing import PriceTable
from budgetguard.simulation import TracedCall, read_trace, simulate
from budgetguard.stores.sqlite import SQLiteStore

CALLS = 300
ESTIMATES = bg.EstimateSettings(tokenizer="bytes")
PRICES = [bg.Price("*", {"input": "1", "output": "2"})]


class Provider(httpx2.AsyncBaseTransport):
    """Answers one traced call, after the time that it takes."""

    def __init__(self, call: TracedCall) -> None:
        self._call = call

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(self._call.takes_ms / 1000)
        usage = {"prompt_tokens": self._call.prompt_tokens, "completion_tokens": self._call.completion_tokens}
        return httpx2.Response(200, headers=JSON, content=json.dumps({"choices": [], "usage": usage}).encode())


class Learning(Guarded):
    """Each is made through the transport of a guard that shares what it learns with its store."""

    def __init__(self, folder: Path, limit: str, bound: int) -> None:
        super().__init__(START_MS)
        self._bound = bound
        store = Patiently(SQLiteStore(str(folder / "guard.db"), clock=self), self.loop)
        self.guard = bg.Guard(budgets=[bg.Budget("all", [limit])], prices=PRICES, estimate=ESTIMATES, store=store)

    async def call(self, call: TracedCall) -> None:
        asked: dict[str, Any] = {"model": call.model, "messages": [], "max_tokens": self._bound}
        with bg.acting_as(labels=call.labels):
            outcome = await heard(BudgetTransport(self.guard, Provider(call)), request(asked))
        if isinstance(outcome.error, bg.BudgetExceeded):
            self.refuse(outcome.error)
        elif outcome.error is not None:
            raise outcome.error


def a_cut(shared: Path, name: str, each: int) -> list[TracedCall]:
    """Calls, one of so many, no two of them at one instant: whichever came first would be chance."""
    calls, taken_ms = list[TracedCall](), set[int]()
    for call in read_trace(shared / "traces" / f"{name}.norm.csv.gz")[::each]:
        instants = {call.at_ms, call.at_ms + call.takes_ms}
        if not instants & taken_ms and len(calls) < CALLS:
            taken_ms |= instants
            calls.append(call)
    return calls


@pytest.mark.parametrize(
    ("name", "each", "limit"),
    [("tau2_multiagent", 25, "800 output_tokens/minute"), ("azure2023_code", 15, "300 output_tokens/minute")],
)
def test_it_learns_and_refuses_as_a_guard_would(
    name: str, each: int, limit: str, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    calls = a_cut(shared, name, each)
    bound = max(call.completion_tokens for call in calls)
    guarded = Learning(tmp_path, limit, bound)
    run(guarded.loop, guarded.replay(calls))
    policy = Policy([bg.Budget("all", [limit])], prices=PriceTable(PRICES), estimate=ESTIMATES)
    url = f"sqlite:///{tmp_path / 'simulated.db'}"
    report = simulate(policy, calls, estimate="learned", hold_output=bound, store_url=url)
    ceiling = simulate(policy, calls, estimate="ceiling", hold_output=bound)
    print(name, report.limits[0].windows, report.admitted, report.refused_by, "by ceilings", ceiling.admitted)
    assert report.refused_by == guarded.refused
    assert books(tmp_path / "simulated.db") == books(tmp_path / "guard.db")
    assert report.refused > 20 and report.admitted > ceiling.admitted + 20
