"""Which policy and which store a command works on."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from budgetguard.errors import ConfigError, InvalidLabel
from budgetguard.labels import check_label
from budgetguard.policy import Policy, StoreSettings
from budgetguard.policy_checks import a_store_url
from budgetguard.setup import CONFIG_VARIABLE, DEFAULT_FILE, STORE_VARIABLE

if TYPE_CHECKING:
    from budgetguard.store import Store


def policy_path(config: Path | None) -> Path:
    """The policy's file: the one that was named, else `BUDGETGUARD_CONFIG`, else `./budgetguard.toml`."""
    return config or Path(os.environ.get(CONFIG_VARIABLE) or DEFAULT_FILE)


def policy_of(config: Path | None, store: str | None) -> Policy:
    """The policy of the file; `store` overrides its store.

    Raises:
        ConfigError: lists every fault of the file, or of the URL.
    """
    from budgetguard.policy_file import load_policy

    url = store_url(store)
    return load_policy(policy_path(config), {**os.environ, STORE_VARIABLE: url} if url else os.environ)


def policy_or_store(config: Path | None, store: str | None) -> tuple[Policy | None, StoreSettings]:
    """The policy and its store's settings; of a store that was named without a policy, only these.

    Raises:
        ConfigError: as `policy_of`; also if there is neither.
    """
    named = config is not None or os.environ.get(CONFIG_VARIABLE)
    url = store_url(store) or os.environ.get(STORE_VARIABLE)
    if url and not named and not policy_path(None).exists():
        return None, StoreSettings(url=url)
    policy = policy_of(config, store)
    return policy, policy.store


def store_url(store: str | None) -> str | None:
    """What `--store` says, a file in it absolute: relative ones are in the working directory.

    Raises:
        ConfigError: it is not the URL of a store.
    """
    from budgetguard.policy_file import resolved_url

    if store is None:
        return None
    faults = list(a_store_url("--store", store))
    if faults:
        raise ConfigError("command line", faults)
    return resolved_url(store, Path.cwd())


async def is_there(settings: StoreSettings) -> bool:
    """Whether the store has been made already. Errors: those of a Redis that cannot be asked."""
    from budgetguard.stores import store_exists

    return await store_exists(
        settings.url, settings.namespace, settings.timeout_ms, allow_eviction=settings.allow_eviction
    )


def shown_store(settings: StoreSettings) -> str:
    """The store's URL for people, without a password."""
    from budgetguard.stores import default_url

    without_login = re.sub(r"://[^\s/]*@", "://***@", settings.url or default_url())
    return re.sub(r"(?<=password=)[^&]*", "***", without_login)


@asynccontextmanager
async def opened(settings: StoreSettings, accept_loss: bool = False) -> AsyncIterator[Store]:
    """The store, open. Errors: those of `Store.open`; ConfigError for a URL of no store."""
    from budgetguard.stores import open_store

    store = open_store(
        settings.url, settings.namespace, settings.timeout_ms,
        outbox_max=settings.outbox_max, ledger=settings.ledger, allow_eviction=settings.allow_eviction,
    )  # fmt: skip
    try:
        await store.open(accept_loss)
        yield store
    finally:
        await store.aclose()


@asynccontextmanager
async def looked_at(settings: StoreSettings, store: str | None) -> AsyncIterator[Store]:
    """The store for a command that only looks, and so must not make it: an empty one where there is none yet.

    Raises:
        ConfigError: it is in a file that is not there, and was named by `--store`; or the URL is of no store.
        StoreError: as `opened`.
    """
    if not await is_there(settings):
        if store is not None and store.startswith("sqlite"):
            raise ConfigError(shown_store(settings), ["there is no such file"])
        settings = StoreSettings(url="sqlite:///:memory:")
    async with opened(settings) as found:
        yield found


def label_globs(usual: Mapping[str, str | None], others: Sequence[str]) -> dict[str, str]:
    """The globs of the label options: the usual labels, and `name=value` texts.

    Raises:
        InvalidLabel: one is not `name=value`, not the text of a label, or given twice.
    """
    globs = {name: glob for name, glob in usual.items() if glob is not None}
    for text in others:
        name, equals, glob = text.partition("=")
        if not equals:
            raise InvalidLabel(f"--label {text}: write name=value, as in --label tenant=acme")
        if name in globs:
            raise InvalidLabel(f"--label {text}: {name} is given twice")
        globs[name] = glob
    for name, glob in globs.items():
        check_label(name, glob)
    return globs
