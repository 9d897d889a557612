"""A Redis, as its INFO tells: whether it keeps what it is given, whether it is the one to ask, and what time it has."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from budgetguard.doctor.findings import Check, Facts, some, well
from budgetguard.stores.redis.books import Meta, RedisBooks
from budgetguard.stores.redis.calls import SCHEMA

TOLD = (
    "redis_version", "redis_mode", "os", "uptime_in_seconds", "role", "connected_slaves", "maxmemory",
    "maxmemory_policy", "used_memory", "aof_enabled", "appendfsync", "aof_last_write_status",
    "rdb_last_bgsave_status", "evicted_keys", "loading",
)  # fmt: skip
CLOCK_MS, BEHIND_MS = 5_000, 60_000
"""What workers' clocks may differ by before somebody wonders, and what the store itself may stand behind its time."""
NEARLY_FULL = 0.9


async def server_facts(books: RedisBooks) -> Facts:
    """Of INFO what matters here."""
    found = await books.facts()
    return {name: found.get(name) for name in TOLD}


def check_server(found: Facts, allow_eviction: bool) -> Iterator[Check]:
    """Whether it may lose what was spent."""
    version = f"Redis {found['redis_version']}, {found['redis_mode']}, {found['role']}"
    if found["role"] not in (None, "master"):
        yield Check("server", "failed", f"{version}: it takes no writes", "name the primary, or its sentinels")
    else:
        yield well("server", version)
    yield from _memory(found, allow_eviction)
    yield _durable(found)


def _memory(found: Facts, allow_eviction: bool) -> Iterator[Check]:
    policy, evicted = found["maxmemory_policy"], int(found["evicted_keys"] or 0)
    text = f"maxmemory-policy {policy}, {some(evicted, 'key')} evicted"
    if policy != "noeviction":
        do = "set maxmemory-policy noeviction: it may evict what was spent"
        yield Check("eviction", "warning" if allow_eviction else "failed", text, do)
    elif evicted:
        yield Check("eviction", "warning", text, "since its start it evicted keys: see that spent = ledger below")
    else:
        yield well("eviction", text)
    most, taken = int(found["maxmemory"] or 0), int(found["used_memory"] or 0)
    if most and taken > NEARLY_FULL * most:
        full = f"{100 * taken // most} % of maxmemory is in use"
        yield Check("memory", "warning", full, "raise maxmemory: a full server admits nothing")


def _durable(found: Facts) -> Check:
    fsync = found["appendfsync"] or "not told to this user (+config|get)"
    if found["aof_enabled"] != "1":
        return Check("durability", "warning", "appendonly no", "set appendonly yes: a restart loses what was spent")
    if found["aof_last_write_status"] not in (None, "ok"):
        return Check("durability", "failed", "its last write to the append-only file failed", "look at its disk")
    if fsync == "no":
        do = "set appendfsync everysec or always: a crash loses what the system has not written"
        return Check("durability", "warning", "appendonly yes, appendfsync no", do)
    return well("durability", f"appendonly yes, appendfsync {fsync}")


async def clock_facts(books: RedisBooks) -> Facts:
    """What its clock says beside this machine's, and beside the time that the namespace has told last; in ms."""
    began_ms = time.time_ns() // 1_000_000
    now_ms = await books.clock_ms()
    took_ms = time.time_ns() // 1_000_000 - began_ms
    last_ms = (await books.meta()).last_ms
    return {
        "differs_ms": now_ms - began_ms - took_ms // 2,
        "within_ms": took_ms // 2,
        "behind_ms": max(int(last_ms) - now_ms, 0) if last_ms.isdecimal() else 0,
    }


def check_clock(found: Mapping[str, int]) -> Check:
    """The store's time decides: a worker's clock matters only to people who compare times."""
    differs_ms, within_ms = found["differs_ms"], found["within_ms"]
    text = f"{differs_ms:+,} ms (give or take {within_ms:,}) beside this machine's"
    if found["behind_ms"] > BEHIND_MS:
        text = f"it stands {found['behind_ms']:,} ms behind the time it has told already"
        return Check("clock", "failed", text, "set the server's clock: nothing is admitted until then")
    if abs(differs_ms) - within_ms > CLOCK_MS:
        return Check(
            "clock", "warning", text, "set both by NTP: budgets go by the store's time, logs by this machine's"
        )
    return well("clock", text)


def check_state(meta: Meta, namespace: str, rows: int) -> Check:
    """Whether the namespace is there. `rows`: what the ledger has of it."""
    if meta.claimed_by:
        text = f"{namespace} is being rebuilt by {meta.claimed_by}: nobody is admitted"
        return Check("state", "failed", text, "wait for it; if it has died, run budgetguard doctor --fix again")
    if meta.incarnation and (meta.schema, meta.clock) != (str(SCHEMA), "server"):
        text = f"{namespace} has schema {meta.schema}, clock {meta.clock}, and this budgetguard {SCHEMA}, server"
        return Check("state", "failed", text, "use the version that made it, or another namespace")
    if meta.incarnation:
        return well("state", f"{namespace} stands, schema {meta.schema}")
    if rows:
        text = f"{namespace} is not there, though the ledger has {some(rows, 'row')} of it: its state was lost"
        return Check("state", "failed", text, "budgetguard doctor --fix rebuilds its accounts from the ledger")
    return Check("state", "warning", f"{namespace} was never opened", "nothing: the first call makes it")
