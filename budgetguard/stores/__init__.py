"""Where budgets are held: `open_store(url)` and `open_spool(...)` know which store is which."""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from budgetguard.errors import ConfigError

if TYPE_CHECKING:
    from budgetguard.store import Clock, Store
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
    """The store of a URL: `sqlite:///file.db` (relative to the working directory) or `sqlite:///:memory:`.

    Nothing is opened yet: that is `Store.open`. The keywords are those of `StoreSettings`.

    Raises:
        ConfigError: no store has such a URL.
    """
    url = url or default_url()
    if not url.startswith(SQLITE) or url == SQLITE:
        scheme = url.partition(":")[0][:20]
        missing = f"no store for {scheme!r}" if scheme == "sqlite" else "the Redis store is not in this version"
        raise ConfigError("store.url", [f"{missing}: expected sqlite:///file.db or sqlite:///:memory:"])
    from budgetguard.stores.sqlite import SQLiteStore

    return SQLiteStore(url.removeprefix(SQLITE), namespace, timeout_ms, clock)


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
