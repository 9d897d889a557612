"""`budgetguard doctor` beside calls that run: no false alarm, and no drift overlooked; and what it tells of a Redis."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from doctor_kit import made_ledger
from guard_kit import ESTIMATE, PATIENT_MS, PRICES, USAGE
from redis_kit import RedisServer, key_prefix
from redis_world import RedisWorld

import budgetguard as bg
from budgetguard.doctor.asked import Patient
from budgetguard.doctor.examining import Report, examine
from budgetguard.doctor.findings import Check
from budgetguard.doctor.served import check_clock, check_server, check_state
from budgetguard.policy import Policy, StoreSettings
from budgetguard.policy_settings import LedgerSettings
from budgetguard.stores.redis.books import Meta
from budgetguard.stores.redis.reading import ACCOUNT, balance_from

LIMITS = ("900k requests/total", "900M tokens/rolling 10 minutes", "$9000/day", "900 concurrent")
GOOD = {
    "redis_version": "7.0.15", "redis_mode": "standalone", "role": "master", "maxmemory": "0", "used_memory": "1",
    "maxmemory_policy": "noeviction", "aof_enabled": "1", "appendfsync": "everysec", "aof_last_write_status": "ok",
    "evicted_keys": "0",
}  # fmt: skip


def states(report: Report) -> dict[str, str]:
    return {check.name: check.state for check in report.checks}


def patient_of(server: RedisServer, namespace: str, ledger: str | None, url: str = "") -> Patient:
    settings = StoreSettings(url=url or server.unix_url, namespace=namespace, timeout_ms=PATIENT_MS)
    policy = Policy([bg.Budget("all", LIMITS)], store=settings, ledger=LedgerSettings(url=ledger))
    return Patient(Path("policy.toml"), policy, settings, ledger)


async def calls(guard: bg.Guard, ended: asyncio.Event) -> None:
    while not ended.is_set():
        async with guard.reserve(model="acme-1", estimate=ESTIMATE) as hold:
            await asyncio.sleep(0.005)
            hold.record(USAGE)


def drift(server: RedisServer, namespace: str) -> None:
    """Let every account have spent one more, in one step each, while it may be written by others."""
    for key in server.keys(f"{key_prefix(namespace)}a:*"):
        while True:
            value, ttl_ms = server.ask("GET", key), server.ask("PTTL", key)
            if not balance_from(value).spent:  # of a rolling period, or concurrent
                break
            spent, *others = ACCOUNT.unpack(value[: ACCOUNT.size])
            other = ACCOUNT.pack(spent + 100_000, *others)
            swapped = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end "
            if server.ask("EVAL", f"{swapped} redis.call('SET', KEYS[1], ARGV[2], 'PX', {ttl_ms}) return 1", 1, key,
                          value, other):  # fmt: skip
                break


def test_calls_that_run_give_no_false_alarm_and_hide_no_drift(
    redis_server: RedisServer, namespace: str, tmp_path: Path, state_home: None
) -> None:
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    patient = patient_of(redis_server, namespace, ledger)
    made_ledger(ledger)

    async def main() -> None:
        assert patient.policy is not None
        guard, ended = (
            bg.Guard(*LIMITS, store=patient.settings, prices=PRICES, ledger=patient.policy.ledger),
            asyncio.Event(),
        )
        async with guard:
            running = [asyncio.create_task(calls(guard, ended)) for _ in range(3)]
            for _ in range(2):
                report = await examine(patient, ["budgetguard", "doctor"])
                assert [check for check in report.checks if check.state == "failed"] == []
                assert {states(report)[name] for name in ("spent", "reserved", "held", "state")} == {"ok"}
            await asyncio.to_thread(drift, redis_server, namespace)
            report = await examine(patient, ["budgetguard", "doctor"])
            assert states(report)["spent"] == "failed", report.checks
            ended.set()
            await asyncio.gather(*running)
            report = await examine(patient, ["budgetguard", "doctor"])
            assert (states(report)["spent"], states(report)["reserved"]) == ("failed", "ok")
            assert report.facts["figures"]["looks"] >= 3

    asyncio.run(main())


def test_a_key_without_a_ttl_is_found_by_who_may_look_for_it(redis_server: RedisServer, namespace: str) -> None:
    async def main() -> None:
        for url, state in ((redis_server.unix_url, "warning"), (redis_server.admin_url, "failed")):
            report = await examine(patient_of(redis_server, namespace, None, url), [])
            (keys,) = (check for check in report.checks if check.name == "keys")
            assert keys.state == state, keys
        assert "1 key of 2 without a TTL: a:of-somebody" in keys.found
        (durable,) = (check for check in report.checks if check.name == "durability")
        assert (durable.state, durable.found) == ("warning", "appendonly no")
        redis_server.ask("DEL", f"{key_prefix(namespace)}a:of-somebody")
        report = await examine(patient_of(redis_server, namespace, None, redis_server.admin_url), [])
        assert (states(report)["keys"], states(report)["ledger"]) == ("ok", "warning")

    async def opened() -> None:
        async with RedisWorld(redis_server, namespace).opened():
            redis_server.ask("SET", f"{key_prefix(namespace)}a:of-somebody", "1")

    asyncio.run(opened())
    asyncio.run(main())


@pytest.mark.parametrize(
    ("name", "state", "facts"),
    [
        ("server", "failed", {"role": "slave"}),
        ("eviction", "failed", {"maxmemory_policy": "allkeys-lru"}),
        ("eviction", "warning", {"evicted_keys": "7"}),
        ("memory", "warning", {"maxmemory": "100", "used_memory": "95"}),
        ("durability", "warning", {"aof_enabled": "0"}),
        ("durability", "warning", {"appendfsync": "no"}),
        ("durability", "failed", {"aof_last_write_status": "err"}),
        ("durability", "ok", {"appendfsync": None}),
    ],
)
def test_a_server_that_may_lose_what_was_spent_is_told(name: str, state: str, facts: dict[str, Any]) -> None:
    found = {check.name: check for check in check_server(GOOD | facts, allow_eviction=False)}
    assert found.pop(name).state == state
    assert {check.state for check in found.values()} == {"ok"}
    assert all(check.do for check in check_server(GOOD | facts, allow_eviction=False) if check.state != "ok")


def test_an_eviction_that_is_allowed_is_a_warning() -> None:
    found = check_server(GOOD | {"maxmemory_policy": "allkeys-lru"}, allow_eviction=True)
    assert {check.name: check.state for check in found}["eviction"] == "warning"


@pytest.mark.parametrize(
    ("state", "differs_ms", "behind_ms"), [("ok", -4_900, 0), ("warning", 5_200, 0), ("failed", 0, 60_001)]
)
def test_a_clock_that_differs_is_told(state: str, differs_ms: int, behind_ms: int) -> None:
    assert check_clock({"differs_ms": differs_ms, "within_ms": 100, "behind_ms": behind_ms}).state == state


@pytest.mark.parametrize(
    ("state", "incarnation", "rows"),
    [("ok", "ab", 9), ("failed", "", 9), ("warning", "", 0), ("failed", "rebuild:h:1", 0)],
)
def test_a_namespace_that_is_lost_or_being_rebuilt_is_told(state: str, incarnation: str, rows: int) -> None:
    found: Check = check_state(Meta("1", incarnation, "5", "server"), "prod", rows)
    assert found.state == state and (state == "ok" or found.do)


@pytest.mark.parametrize("meta", [Meta("2", "ab", "5", "server"), Meta("1", "ab", "5", "manual")])
def test_a_namespace_that_no_guard_of_this_version_would_use_is_told(meta: Meta) -> None:
    found = check_state(meta, "prod", 9)
    assert found.state == "failed" and f"schema {meta.schema}, clock {meta.clock}" in found.found
