"""Whom the doctor looks at, and the ledger as its questions are asked."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from budgetguard.core.machine import EXPIRED_KEEP_MS
from budgetguard.core.model import OnExpiry
from budgetguard.ledger import SQLITE
from budgetguard.ledger.books import open_book
from budgetguard.ledger.charges import Charge, Extent
from budgetguard.ledger.tally import LONGEST_WINDOW_MS
from budgetguard.policy import GuardSettings, Policy, StoreSettings
from budgetguard.stores import default_url


class Patient(NamedTuple):
    """A store, with the policy that uses it where there is one, and the URL of its ledger where one is known."""

    path: Path
    policy: Policy | None
    settings: StoreSettings
    ledger: str | None
    faults: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """Of the store."""
        return self.settings.url or default_url()

    @property
    def guard(self) -> GuardSettings:
        return GuardSettings() if self.policy is None else self.policy.guard

    @property
    def sqlite_path(self) -> str | None:
        """Of a store that is a file."""
        return self.url.removeprefix("sqlite:///") if self.url.startswith("sqlite") else None


class LedgerOf(NamedTuple):
    """The SQL ledger of a namespace. Each question opens it anew: it may be asked from any thread.

    Raises:
        ConfigError, StoreAway, StoreUnusable: from every method, if it cannot be read.
    """

    url: str
    namespace: str
    on_expiry: OnExpiry
    replay_keep_ms: int

    @property
    def is_missing(self) -> bool:
        """Whether it is a file that nobody has made yet."""
        return self.url.startswith(SQLITE) and not os.path.exists(self.url.removeprefix(SQLITE))

    def told(self, since_ms: int) -> Iterator[Charge]:
        """What its rows charge; those of calls since then, and what names accounts without windows."""
        if self.is_missing:
            return
        book = open_book(self.url)
        try:
            yield from book.charges(self.namespace, since_ms, self.on_expiry)
        finally:
            book.close()

    def resolved(self, now_ms: int, ids: Collection[str]) -> Iterator[Mapping[str, Any]]:
        """The rows of calls that a store remembers: those that ended lately, and these."""
        book = open_book(self.url)
        try:
            since_ms = now_ms - self.replay_keep_ms, now_ms - EXPIRED_KEEP_MS
            yield from book.resolved(self.namespace, *since_ms, ids)
        finally:
            book.close()

    def extent(self) -> Extent:
        """How far its rows reach; of schema 0 if it is missing."""
        if self.is_missing:
            return Extent(0, 0, None, None, None, None)
        book = open_book(self.url)
        try:
            return book.extent(self.namespace)
        finally:
            book.close()


def since_ms(now_ms: int) -> int:
    """From when on a calendar window may have begun that is open now."""
    return max(now_ms - LONGEST_WINDOW_MS, 0)


def ledger_of(patient: Patient) -> LedgerOf | None:
    """Its ledger; None where nobody says which it is, or there is none."""
    if patient.ledger is None or patient.settings.ledger == "none":
        return None
    guard, namespace = patient.guard, patient.settings.namespace
    return LedgerOf(patient.ledger, namespace, guard.on_expiry, guard.replay_keep_ms)
