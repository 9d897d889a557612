"""Where budgets are held: `open_store(url)` and `open_spool(...)` know which store is which."""

from __future__ import annotations

import asyncio
import os
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from budgetguard.errors import ConfigError

if TYPE_CHECKING:
    from budgetguard.store import Clock, Store
    from budgetguard.stores.redis.outbox import RedisOutbox
    from budgetguard.stores.spool import Spool

SQLITE = "sqlite:///"


def state_dir() -> Path:
    """The user's state directory of budgetguard (`XDG_STATE_HOME`, else `~/.local/state`)."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "budgetguard"


def default_url() -> str:
    """SQLite in the user's state directory."""
    return f"{SQLITE}{state_dir() / 'budgets.db'}"


def open_store(
    url: str | None,
    namespace: str,
    timeout_ms: int,
    clock: Clock | None = None,
    *,
    outbox_max: int = 1_000_000,
    ledger: Literal["outbox", "none"] = "outbox",
    allow_eviction: bool = False,
) -> Store:
    """The store of a URL: `sqlite:///file.db` (relative to the working directory), `sqlite:///:memory:`, `redis://...`.

    Nothing is opened yet: that is `Store.open`. The keywords are those of `StoreSettings`, for Redis.

    Raises:
        ConfigError: no store has such a URL.
    """
    url = url or default_url()
    if not url.startswith("sqlite"):
        from budgetguard.stores.redis import RedisStore

        return RedisStore(
            url, namespace, timeout_ms, clock, outbox_max=outbox_max, ledger=ledger, allow_eviction=allow_eviction
        )
    if not url.startswith(SQLITE) or url == SQLITE:
        raise ConfigError("store.url", ["expected sqlite:///file.db, sqlite:///:memory: or redis://host:port/db"])
    from budgetguard.stores.sqlite import SQLiteStore

    return SQLiteStore(url.removeprefix(SQLITE), namespace, timeout_ms, clock)


def open_outbox(url: str | None, namespace: str, timeout_ms: int, claim_after_ms: int = 0) -> RedisOutbox:
    """The outbox of a namespace in Redis, for the event loop that runs.

    Args:
        claim_after_ms: entries that another reader has had for so long are taken over.

    Raises:
        ConfigError: the URL is SQLite's, whose `token_usage` is the ledger itself, or no store's.
    """
    url = url or default_url()
    if url.startswith("sqlite"):
        raise ConfigError("store.url", ["has no outbox: the table token_usage of a SQLite store is the ledger itself"])
    from budgetguard.stores.redis.outbox import RedisOutbox

    return RedisOutbox(url, namespace, timeout_ms, claim_after_ms)


def own_ledger_url(url: str | None) -> str | None:
    """The ledger that a store is itself: SQLite's file. None for memory, and for a store that has none."""
    url = url or default_url()
    return url if url.startswith(SQLITE) and not url.endswith(":memory:") else None


async def store_exists(url: str | None, namespace: str, timeout_ms: int, *, allow_eviction: bool = False) -> bool:
    """Whether there is a store already: SQLite's file, or the namespace in Redis. To find out makes none.

    Raises:
        ConfigError: no store has such a URL.
        StoreError: a Redis cannot be asked.
    """
    url = url or default_url()
    if url.startswith("sqlite"):
        path = url.removeprefix(SQLITE)
        return path == ":memory:" or await asyncio.to_thread(os.path.exists, path)
    from budgetguard.stores.redis import namespaces

    return await namespaces.namespace_exists(url, namespace, timeout_ms, allow_eviction)


async def let_lapse(url: str, namespace: str, timeout_ms: int) -> None:
    """Let a namespace in Redis that nobody will ask again go within a day; what is in SQLite stays.

    Raises:
        ConfigError: no store has such a URL.
        StoreError: it could not be done.
    """
    if not url.startswith("sqlite"):
        from budgetguard.stores.redis import namespaces

        await namespaces.let_lapse(url, namespace, timeout_ms)


def open_spool(url: str | None, namespace: str, path: str | None) -> Spool:
    """The spool of a store and namespace: at `path`, or in the user's state directory; in memory for one in memory."""
    from budgetguard.stores.spool import MEMORY, Spool

    if path is not None:
        return Spool(Path(path))
    if url is not None and MEMORY in url:
        return Spool(Path(MEMORY))
    name = blake2b(f"{_place(url or default_url())}\n{namespace}".encode(), digest_size=8).hexdigest()
    return Spool(state_dir() / "spool" / f"{name}.db")


def _place(url: str) -> str:
    """What tells stores apart: the file itself (another folder's relative URL is another store), a Redis without login
    (with the next password it is still the same)."""
    if url.startswith(SQLITE):
        return str(Path(url.removeprefix(SQLITE)).resolve())
    if url.startswith(("redis", "unix")):
        from budgetguard.stores.redis.address import parse_address

        return str(parse_address(url))
    return url
