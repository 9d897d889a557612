"""What the doctor makes of prices that are old, of an outbox that fills, and of what it runs on."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from cli_kit import command, fill
from guard_kit import ESTIMATE, PRICES, USAGE
from redis_kit import MISSING, RedisServer, has_redis

import budgetguard as bg
from budgetguard.doctor.asked import Patient
from budgetguard.doctor.examining import examine
from budgetguard.doctor.installed import OLD_PRICES_DAYS, check_prices
from budgetguard.policy import Policy


@pytest.mark.parametrize(
    ("days", "state", "says"),
    [
        (0, "ok", "genai-prices 0.2.3, installed 0 days ago; 2 prices of the policy's own"),
        (OLD_PRICES_DAYS, "ok", f"installed {OLD_PRICES_DAYS} days ago"),
        (OLD_PRICES_DAYS + 1, "warning", f"installed {OLD_PRICES_DAYS + 1} days ago"),
        (None, "failed", "the built-in price data is missing"),
    ],
)
def test_prices_are_told_with_their_age_and_old_ones_are_a_warning(days: int | None, state: str, says: str) -> None:
    found: dict[str, Any] = {"data": "genai-prices 0.2.3", "installed_days": days, "own": ["a", "b"]}
    check = check_prices(found)
    assert check.state == state and says in check.found
    assert bool(check.do) == (state != "ok")


def test_the_evidence_names_the_program_and_the_policy_that_it_ran_with(tmp_path: Path) -> None:
    fill(tmp_path)
    evidence = json.loads(command(tmp_path, "doctor", "--format", "json").out)
    assert evidence["config"]["file"] == str(tmp_path / "budgetguard.toml")
    assert Path(evidence["program"]["binary"]).name and Path(evidence["program"]["package"]).name == "budgetguard"
    assert evidence["program"]["folder"] == str(tmp_path)


@pytest.mark.skipif(not has_redis(), reason=MISSING)
@pytest.mark.parametrize(("calls", "state"), [(3, "warning"), (4, "failed")])
def test_an_outbox_that_will_soon_refuse_calls_must_be_drained_at_once(
    redis_server: RedisServer, namespace: str, calls: int, state: str
) -> None:
    settings = bg.StoreSettings(redis_server.url, namespace, outbox_max=5)
    patient = Patient(
        Path("policy.toml"), Policy([bg.Budget("all", ["9k tokens/day"])], store=settings), settings, None
    )

    async def main() -> None:
        async with bg.Guard("9k tokens/day", store=settings, prices=PRICES) as guard:
            for _ in range(calls):
                async with guard.reserve(model="acme-1", estimate=ESTIMATE) as hold:
                    hold.record(USAGE)
        (outbox,) = (check for check in (await examine(patient, [])).checks if check.name == "outbox")
        assert (outbox.state, outbox.found) == (state, f"{calls} of at most 5 entries wait to be drained")

    asyncio.run(main())
