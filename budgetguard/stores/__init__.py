"""Where budgets are held: `open_store(url)` and `open_spool(...)` know which store is which."""

from __future__ import annotations

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


def open_outbox(url: str | None, namespace: str, timeout_ms: int) -> RedisOutbox:
    """The outbox of a namespace in Redis, for the event loop that runs.

    Raises:
        ConfigError: the URL is SQLite's, whose `token_usage` is the ledger itself, or no store's.
    """
    url = url or default_url()
    if url.startswith("sqlite"):
        raise ConfigError("store.url", ["has no outbox: the table token_usage of a SQLite store is the ledger itself"])
    from budgetguard.stores.redis.outbox import RedisOutbox

    return RedisOutbox(url, namespace, timeout_ms)


def open_spool(url: str | None, namespace: str, path: str | None) -> Spool:
    """The spool of a store and namespace: at `path`, or in the user's state directory; in memory for one in memory."""
    from budgetguard.stores.spool import MEMORY, Spool

    if path is not None:
        return Spool(Path(path))
    if url is not None and MEMORY in url:
        return Spool(Path(MEMORY))
    # By the file itself: another folder's relative URL is another store.
    url = url or default_url()
    where = str(Path(url.removeprefix(SQLITE)).resolve()) if url.startswith(SQLITE) else url
    name = blake2b(f"{where}\n{namespace}".encode(), digest_size=8).hexdigest()
    return Spool(state_dir() / "spool" / f"{name}.db")
