"""What stands in a store: the checks that both kinds have."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

from budgetguard.doctor.asked import LedgerOf, Patient
from budgetguard.doctor.findings import Check, Facts, some, well
from budgetguard.errors import BudgetGuardError
from budgetguard.ledger.books import open_book
from budgetguard.ledger.charges import Extent
from budgetguard.ledger.reading import Stretch
from budgetguard.ledger.table import timestamp
from budgetguard.ledger.tally import Look
from budgetguard.stores import open_spool
from budgetguard.stores.redis.books import RedisBooks
from budgetguard.stores.sqlite.mending import SQLiteBooks

WEEK_MS = 604_800_000
SHOWN = 5
BACKLOG = 0.8
"""Of `outbox_max`: from there on it is urgent."""


def check_held(look: Look) -> Check:
    """Whether what was abandoned is swept."""
    text = some(look.held, "open reservation")
    if look.overdue:
        text += f", {look.overdue:,} of them overdue"
        return Check("held", "warning", text, "let a guard run: each sweeps what was abandoned")
    return well("held", text)


def check_spool(patient: Patient) -> Check:
    """Whether settles wait on this machine's disk."""
    try:
        spool = open_spool(patient.settings.url, patient.settings.namespace, patient.settings.spool)
        try:
            waiting = len(spool)
        finally:
            spool.close()
    except BudgetGuardError as error:
        return Check("spool", "failed", str(error), "what it keeps cannot be delivered until it can be read")
    if waiting:
        text = f"{waiting:,} settled or released calls wait on this machine"
        return Check("spool", "warning", text, "let a guard run here: it delivers them; until then less is spent")
    return well("spool", "empty")


def check_outbox(look: Look, most: int) -> Iterator[Check]:
    """Whether rows wait, and whether all of them can be read."""
    if look.unreadable:
        entry, cause = next(iter(look.unreadable.items()))
        text = f"{some(len(look.unreadable), 'row')} cannot be read: {entry}: {cause}"
        yield Check("outbox entries", "failed", text, "no drain can move them: look at them with XRANGE")
    text = f"{some(look.waiting, 'row')} wait to be drained, of {most:,} at most"
    if look.waiting >= BACKLOG * most:
        yield Check("outbox", "failed", text, "run budgetguard ledger drain: full, it refuses calls")
    elif look.waiting:
        yield Check("outbox", "warning", text, "nothing while calls run; else budgetguard ledger drain, or ledger.url")
    else:
        yield well("outbox", "empty")


async def check_lasting(books: RedisBooks) -> Check:
    """Whether every key ends by itself, but for meta, outbox and index."""
    if "SCAN" not in await books.permitted():
        text = "not looked at: this user may not SCAN, or the server cannot tell"
        return Check("keys", "warning", text, "let a user with +scan run it, to see that no key lasts for ever")
    count, lasting = await books.lasting()
    if lasting:
        text = f"{some(len(lasting), 'key')} of {count:,} without a TTL: {', '.join(lasting[:SHOWN])}"
        return Check("keys", "failed", text, "budgetguard writes none: somebody has; PEXPIRE or delete them")
    return well("keys", f"{some(count, 'key')}: all but meta, outbox and index have a TTL")


def check_outlived(books: SQLiteBooks) -> Check:
    """The same of a file: what has outlived its time is forgotten by sweeps."""
    return well("keys", f"{some(books.outlived(), 'row')} outlived, which the next sweep forgets")


async def extent_of(ledger: LedgerOf) -> tuple[Extent | None, Check]:
    """How far the ledger reaches; None if it cannot be read."""
    try:
        found = await asyncio.to_thread(ledger.extent)
    except BudgetGuardError as error:
        return None, Check("ledger", "failed", str(error), "nothing can be proven without it")
    if ledger.is_missing:
        do = "nothing: the first drain makes it; or name another with --ledger"
        return found, Check("ledger", "warning", f"there is no {ledger.url} yet", do)
    if not found.rows:
        return found, well("ledger", f"schema {found.schema}, no row of {ledger.namespace} yet")
    since, until = (timestamp(at or 0)[:19] for at in (found.first_ms, found.settled_ms))
    text = f"schema {found.schema}, {some(found.rows, 'row')} of {ledger.namespace}, {since} to {until} UTC"
    return found, well("ledger", text)


def check_unpriced(ledger: LedgerOf, now_ms: int) -> Check:
    """Whether calls of the last week were counted as free because nobody knows their price."""
    if ledger.is_missing:
        return well("unpriced", "no call yet")
    book = open_book(ledger.url)
    try:
        stretch = Stretch(ledger.namespace, max(now_ms - WEEK_MS, 0), now_ms)
        models = {one.group[0]: one.unpriced_calls for one in book.totals(stretch, ["model"]) if one.unpriced_calls}
    finally:
        book.close()
    if models:
        named = ", ".join(sorted(models)[:SHOWN])
        text = f"{some(sum(models.values()), 'call')} of the last 7 days without a price: {named}"
        return Check("unpriced", "warning", text, "add a [[price]] for them: dollars do not count these calls")
    return well("unpriced", "every call of the last 7 days has a price")


def file_facts(path: str) -> Facts:
    """Of a SQLite store."""
    return {"bytes": os.stat(path).st_size}
