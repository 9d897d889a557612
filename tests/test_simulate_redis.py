"""A simulation on Redis finds what it finds on SQLite, call by call, and leaves nothing there for good."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_kit import command
from redis_kit import RedisServer, key_prefix
from redis_world import RedisWorld
from test_simulate_cli import POLICY, REAL, TRACE
from test_simulate_guard import HOLD_OUTPUT, POLICIES, PRICES, a_trace

import budgetguard as bg
from budgetguard.errors import StoreUnusable
from budgetguard.policy import Policy
from budgetguard.policy_file import load_policy
from budgetguard.pricing import PriceTable
from budgetguard.simulation import IN_MEMORY, Report, TracedCall, read_trace, simulate
from budgetguard.simulation.report import Tally

Simulated = tuple[Report, list[Any]]
TRACE_NAME = "azure2023_code.norm.csv.gz"


@pytest.fixture
def simulated(namespace: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Simulated]:
    """Simulates on a store; the report, and what the store answered to each operation."""
    told: list[Any] = []
    answered = Tally.answered

    def remember(tally: Tally, op: Any, answer: Any) -> None:
        told.append((op, answer))
        answered(tally, op, answer)

    monkeypatch.setattr(Tally, "answered", remember)

    def simulated(url: str, *args: Any, **options: Any) -> Simulated:
        told.clear()
        began = time.monotonic()
        report = simulate(*args, estimate="ceiling", store_url=url, namespace=namespace, **options)
        print(f"{url}: {len(told)} operations in {time.monotonic() - began:.2f} s")
        return report, list(told)

    return simulated


def test_of_a_real_trace_each_call_is_answered_as_on_sqlite(
    simulated: Callable[..., Simulated], redis_url: str, shared: Path, tmp_path: Path
) -> None:
    (tmp_path / "real.toml").write_text(REAL, encoding="utf-8")
    policy, calls = load_policy(tmp_path / "real.toml", {}), read_trace(shared / "traces" / TRACE_NAME)
    report, told = simulated(IN_MEMORY, policy, calls)
    assert simulated(redis_url, policy, calls) == (report, told)
    assert (report.calls, report.overspend) == (8819, 0)
    assert len(told) > report.calls
    assert min(report.admitted, report.refused, report.delayed) > 100


@pytest.mark.parametrize("name", POLICIES)
def test_every_kind_of_budget_is_judged_as_on_sqlite(
    simulated: Callable[..., Simulated], redis_url: str, name: str
) -> None:
    policy, calls = Policy(POLICIES[name], prices=PriceTable(PRICES)), a_trace(1)
    report, told = simulated(IN_MEMORY, policy, calls, hold_output=HOLD_OUTPUT)
    assert simulated(redis_url, policy, calls, hold_output=HOLD_OUTPUT) == (report, told)
    assert min(report.admitted, report.refused, report.delayed) > 0


def ttls_s(server: RedisServer, namespace: str) -> dict[str, int]:
    keys = server.keys(f"{key_prefix(namespace)}*")
    return {key.partition("}:")[2]: server.ask("TTL", key) for key in keys}


def total_policy() -> Policy:
    """Of an account that outlives simulations by a year."""
    return Policy([bg.Budget("all", ["1M tokens/total"])])


class Interrupted(BaseException):
    """As Ctrl-C."""


@pytest.mark.parametrize("interrupted", [False, True])
def test_what_it_leaves_goes_within_a_day(redis_server: RedisServer, namespace: str, interrupted: bool) -> None:
    def progress(done: int) -> None:
        if interrupted:
            raise Interrupted

    calls = [TracedCall(100 * number, "m", 10, 5, {}) for number in range(500)]
    try:
        simulate(total_policy(), calls, store_url=redis_server.url, namespace=namespace, progress=progress)
    except Interrupted:
        assert interrupted
    found = ttls_s(redis_server, namespace)
    assert {"meta", "index"} < found.keys()
    assert [name for name, ttl_s in found.items() if not 0 < ttl_s <= 86_400] == []
    assert redis_server.ask("XLEN", f"{key_prefix(namespace)}outbox") < 250, "nobody drains it"


def test_a_namespace_in_use_is_refused_and_left_as_it_is(redis_world: RedisWorld) -> None:
    async def main() -> None:
        async with redis_world.opened():
            pass

    asyncio.run(main())
    before = ttls_s(redis_world.server, redis_world.namespace)
    with pytest.raises(StoreUnusable, match="has the server's clock, and was opened with a manual one"):
        simulate(total_policy(), a_trace(1), store_url=redis_world.url, namespace=redis_world.namespace)
    assert ttls_s(redis_world.server, redis_world.namespace) == before == {"meta": -1}


def test_the_command_says_what_became_of_its_namespace(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text(TRACE, encoding="utf-8")
    (tmp_path / "budgets.toml").write_text(POLICY.format(patience="1ms"), encoding="utf-8")
    with RedisServer(requirepass="s3cret") as server:
        asked = ("simulate", "trace.csv", "-c", "budgets.toml", "--format", "json")
        done = command(tmp_path, *asked, "--store", server.url)
        (namespace,) = {key.partition("}:")[0].removeprefix("bg:{") for key in server.keys("bg:*")}
    said = f"the accounts are in the namespace {namespace}, and go within a day; no ledger was kept\n"
    assert (done.err, done.code) == (said, 0)
    assert [json.loads(done.out)[key] for key in ("calls", "admitted", "refused", "overspend")] == [3, 2, 1, 0]
    with (tmp_path / "budgets.toml").open("a", encoding="utf-8") as policy:
        policy.write('[store]\ntimeout = "200ms"\n')
    gone = command(tmp_path, *asked, "--store", server.url)
    assert (gone.out, gone.code, gone.err.count("\n")) == ("", 2, 1)
    assert "could not be reached in time" in gone.err
    assert "s3cret" not in gone.err
