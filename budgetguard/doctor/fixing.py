"""`doctor --fix`: the accounts of open windows, set to what the ledger and the open reservations tell."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing

from budgetguard.core.amounts import format_amount
from budgetguard.doctor.asked import LedgerOf, Patient, ledger_of, since_ms
from budgetguard.doctor.findings import some
from budgetguard.doctor.proof import named, proven
from budgetguard.errors import ConfigError
from budgetguard.ledger.table import timestamp
from budgetguard.ledger.tally import Difference, Look, Tally
from budgetguard.policy import StoreSettings
from budgetguard.stores import open_store
from budgetguard.stores.redis.books import RedisBooks
from budgetguard.stores.redis.rebuilding import Rebuild, Source
from budgetguard.stores.sqlite.mending import SQLiteBooks

WAIT_S = 0.25
SHOWN = 50
Tell = Callable[[str], None]


async def fix(patient: Patient, tell: Tell) -> list[str]:
    """Set what differs; nothing is done where all agree. Says what was set, and what could not be.

    Args:
        tell: hears what is waited for.

    Raises:
        ConfigError: nobody says which ledger, or it has no row of what was lost or spent.
        StoreError: the store or the ledger cannot be used.
    """
    path = patient.sqlite_path
    if path is not None:
        books = SQLiteBooks(
            path, patient.settings.namespace, patient.settings.timeout_ms, on_expiry=patient.guard.on_expiry
        )
        differences = await asyncio.to_thread(books.mend)
        return [*_lines(differences), *_left(differences)] or ["all agree: nothing was changed"]
    ledger = ledger_of(patient)
    if ledger is None:
        raise ConfigError(
            "--fix", ["say with --ledger which SQL ledger has the rows: without one use `init --accept-loss`"]
        )
    return await _rebuilt(patient, ledger, tell)


async def _rebuilt(patient: Patient, ledger: LedgerOf, tell: Tell) -> list[str]:
    settings = patient.settings
    extent = await asyncio.to_thread(ledger.extent)
    async with aclosing(
        RedisBooks(patient.url, settings.namespace, settings.timeout_ms, on_expiry=patient.guard.on_expiry)
    ) as books:
        source = Source(ledger.told, since_ms, ledger.resolved, extent.forgotten_ms)
        if not extent.rows and await _lacks_rows(books, source):
            text = f"the ledger has no row of {ledger.namespace}: is it the right one?"
            raise ConfigError("--fix", [f"{text} init --accept-loss starts from nothing"])
        if not await _claimed(books, source, rebuild := Rebuild(books, ledger.replay_keep_ms), tell):
            await _accept(settings)
            return ["all agree: nothing was changed, and guards that knew another state go on with this one"]
        done = await rebuild.run(source)
    said = [*_lines(done.differences), *_left(done.differences)]
    said.append(f"{some(done.remembered, 'call')} that ended lately are remembered again; guards go on by themselves")
    if done.was_lost:
        until = timestamp(extent.settled_ms or 0)[:19]
        said.append(
            f"the ledger ends at {until} UTC: what was settled later and not drained when the state was lost is in no "
            "account; calls that were under way then count when they are settled"
        )
    if extent.forgotten_ms is not None:
        said += _in_part(done.differences, extent.forgotten_ms)
    return said


async def _lacks_rows(books: RedisBooks, source: Source) -> bool:
    """Whether more must have been spent than an empty ledger and the outbox tell."""
    if not (await books.meta()).incarnation:
        return True
    look = await books.look(source.told, source.since_ms)
    return any(one.spent > one.told_spent for one in look.tally.differences(look.after))


async def _accept(settings: StoreSettings) -> None:
    """Whoever knew another incarnation goes on with this one: what it says is what the ledger tells."""
    store = open_store(settings.url, settings.namespace, settings.timeout_ms, allow_eviction=settings.allow_eviction)
    try:
        await store.open(accept_loss=True)
    finally:
        await store.aclose()


async def _claimed(books: RedisBooks, source: Source, rebuild: Rebuild, tell: Tell) -> bool:
    """Claim the namespace, once nobody else rebuilds it; False if all agrees by then."""
    waits_for = ""
    while True:
        meta = await books.meta()
        if meta.incarnation and not meta.claimed_by and await _agrees(books, source):
            return False
        other = await rebuild.claim()
        if not other:
            return True
        if other != waits_for:
            tell(f"{other} rebuilds it: waiting until that ends, or has died")
            waits_for = other
        await asyncio.sleep(WAIT_S)


async def _agrees(books: RedisBooks, source: Source) -> bool:
    async def look() -> Look:
        return await books.look(source.told, source.since_ms, source.pruned_ms)

    proof = await proven(look)
    return not proof.differences


def _lines(differences: Sequence[Difference]) -> list[str]:
    """What was done to each; of many to the first."""
    more = [f"and {len(differences) - SHOWN:,} more accounts"] * (len(differences) > SHOWN)
    return [*map(_set, differences[:SHOWN]), *more]


def _set(one: Difference) -> str:
    account, spent, told, reserved, held, whole = one
    texts = []
    if spent != told and (whole or told > spent):
        texts.append(f"spent {format_amount(account.unit, spent)} -> {format_amount(account.unit, told)}")
    if reserved != held:
        texts.append(f"reserved {format_amount(account.unit, reserved)} -> {format_amount(account.unit, held)}")
    return f"{named(account)}: {', '.join(texts) or 'left as it is'}"


def _in_part(differences: Sequence[Difference], forgotten_ms: int) -> list[str]:
    """What was made of rows of which some were pruned."""
    tally = Tally(time.time_ns() // 1_000_000, forgotten_ms)
    count = sum(not tally.whole(one.account) for one in differences)
    until = timestamp(forgotten_ms)[:19]
    return [f"{some(count, 'account')} lack what calls until {until} UTC had charged: their rows were pruned"] * (
        count > 0
    )


def _left(differences: Sequence[Difference]) -> list[str]:
    """What nothing was taken from: rows of it may have been forgotten."""
    kept = [one for one in differences if not one.whole and one.spent > one.told_spent]
    if not kept:
        return []
    return [
        f"{some(len(kept), 'account')} keep what is spent above what the ledger tells: its rows may have been pruned"
    ]
