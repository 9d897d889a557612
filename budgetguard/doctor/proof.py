"""The proof: what is spent on every account is what the ledger's rows charge, what is reserved is what is held.

While calls run, accounts, reservations and rows cannot be read at one instant in Redis. So only an account is judged
that was the same before and after its rows were read, and only if it differs by as much at several looks; of one that
never keeps still it is looked whether its rows lie between what stood before and after.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from budgetguard.core.amounts import format_amount
from budgetguard.core.balances import spent_and_reserved
from budgetguard.core.model import Account
from budgetguard.doctor.findings import Check, some, well
from budgetguard.ledger.tally import Accounts, Difference, Look

LOOKS, REPEATS = 8, 3
PAUSE_S = 0.05
SLOW_S = 5.0
"""A ledger of millions of rows is read again only if something differs."""
SHOWN = 3
FIX = "budgetguard doctor --fix sets them to what is told"


@dataclass
class Proof:
    """What several looks have found. `moving` accounts were never seen still, only between two amounts; `unsure` ones
    differed at some looks, and not by the same at each.
    """

    look: Look
    looks: int = 0
    differences: list[Difference] = field(default_factory=list)
    moving: int = 0
    unsure: int = 0


async def proven(look: Callable[[], Awaitable[Look]]) -> Proof:
    """Look until it is clear. Errors: those of `look`."""
    seen: dict[str, tuple[Difference, int]] = {}
    still: set[str] = set()
    for number in range(1, LOOKS + 1):
        began_s = time.monotonic()
        found = await look()
        slow = time.monotonic() - began_s > SLOW_S
        moved = found.moved()
        now = {one.account.key: one for one in _differences(found, moved)}
        seen = {
            key: (one, _repeats(seen.get(key), one, key in moved)) for key, one in now.items()
        } | {key: before for key, before in seen.items() if key in moved and key not in now}  # fmt: skip
        still |= found.after.keys() - moved
        at_rest = found.before is found.after  # both at one instant
        clear = all(times >= REPEATS for _, times in seen.values())
        if at_rest or (clear and (slow or number >= REPEATS or moved <= still)):
            break
        await asyncio.sleep(PAUSE_S * number)
    certain = [one for one, times in seen.values() if at_rest or times >= REPEATS]
    return Proof(found, number, certain, len(moved - still - seen.keys()), len(seen) - len(certain))


def _repeats(before: tuple[Difference, int] | None, now: Difference, moved: bool) -> int:
    if before is None:
        return 1
    one, times = before
    if moved:  # by how much cannot be said then
        return times + 1 if (one.spent < one.told_spent) == (now.spent < now.told_spent) else 1
    same = one.spent - one.told_spent == now.spent - now.told_spent
    return times + 1 if same and one.reserved - one.told_reserved == now.reserved - now.told_reserved else 1


def _differences(look: Look, moved: set[str]) -> list[Difference]:
    """Of accounts that kept still; of others only if their rows are not between what they had before and after."""
    found = []
    told, now_ms = look.tally.accounts(), look.tally.now_ms

    def spent(where: Accounts, key: str) -> int:
        return spent_and_reserved(*where[key], now_ms)[0] if key in where else 0

    for one in look.tally.differences(look.after):
        key = one.account.key
        if key not in moved:
            found.append(one)
            continue
        bounds = [spent(where, key) for where in (look.before, look.after)]
        if not min(bounds) <= spent(told, key) <= max(bounds):
            found.append(one._replace(reserved=0, told_reserved=0))
    return found


def checks(proof: Proof) -> list[Check]:
    """The two equations, as checks."""
    accounts = sum(proof.look.tally.counts(account) for account, _ in proof.look.after.values())
    tail = f"; {proof.moving} of them changed while each was looked at" if proof.moving else ""
    tail += f"; {proof.unsure} differed at some looks only" if proof.unsure else ""
    spent = [one for one in proof.differences if one.spent != one.told_spent]
    reserved = [one for one in proof.differences if one.reserved != one.told_reserved]
    rows, held = some(proof.look.tally.calls, "row"), some(proof.look.held, "open reservation")
    return [
        _of_spent(proof, spent) if spent else _agree("spent", f"{some(accounts, 'account')} = {rows}{tail}", proof),
        Check(
            "reserved", "failed",
            f"{some(len(reserved), 'account')} not as {held} tell: "
            + _listed([(one.account, one.reserved, one.told_reserved) for one in reserved]),
            FIX,
        ) if reserved else _agree("reserved", f"{some(accounts, 'account')} = {held}{tail}", proof),
    ]  # fmt: skip


def _agree(name: str, found: str, proof: Proof) -> Check:
    if proof.look.tally.untold:
        found += f"; {some(len(proof.look.tally.untold), 'account')} whose windows this machine cannot tell"
    if proof.unsure or proof.look.tally.untold:
        return Check(name, "warning", found, "ask again when fewer calls run; install tzdata where a zone is missing")
    return well(name, found)


def _of_spent(proof: Proof, found: list[Difference]) -> Check:
    certain = [one for one in found if one.whole]
    text = f"{some(len(found), 'account')} not as the ledger tells: " + _listed(
        [(one.account, one.spent, one.told_spent) for one in certain or found]
    )
    if certain:
        return Check("spent", "failed", text, f"{FIX}, if this ledger has all rows")
    return Check(
        "spent", "warning", f"{text}; rows were pruned, or say that they may have been charged (uncounted)",
        "nothing: more is spent than the rows that are left tell",
    )  # fmt: skip


def _listed(found: list[tuple[Account, int, int]]) -> str:
    texts = [f"{named(account)} {format_amount(account.unit, has)}, told {format_amount(account.unit, told)}"
             for account, has, told in found[:SHOWN]]  # fmt: skip
    return "; ".join(texts) + (f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else "")


def named(account: Account) -> str:
    """An account for people."""
    subject = " ".join(f"{name}={value}" for name, value in account.subject.items())
    period = f"/{account.period.label}" if account.period.label else ""
    return " ".join(part for part in (account.budget, subject, f"{account.unit}{period}", account.window) if part)
