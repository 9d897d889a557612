"""THE rule: what each verb does to a reservation and its accounts, once, in Python.

Each verb is a pure function `(state, operation, now_ms) -> (answer, change)`; SQLite runs it, tests use it
as the oracle, and only Lua restates it. What is known of a call only grows, by rank:

    held < expired < released < assumed < settled

so a verb that would lower or repeat the rank changes nothing, and the end does not depend on the order in which
messages arrive. The whole matrix (a tombstone is what a release of an unknown id leaves behind):

              held                settled    assumed    released  expired            tombstone  unknown
    reserve   replayed|conflict   finished   finished   finished  finished           voided     granted|refused
    settle    settled             replayed|  settled    late      late               late       late|uncounted
                                  conflict   (truth)
    release   released            finished   finished   replayed  released           replayed   tombstone
    grow      granted|refused|    finished   finished   finished  finished           finished   unknown
              replayed
    extend    extended|replayed   finished   finished   finished  finished           finished   unknown
    expire    expired|not_due     finished   finished   finished  replayed           finished   unknown

A settle by guess ("assumed") on one that is assumed answers replayed or conflict, on a settled one finished.
The order in which `reserve` looks for a reason to say no: the id; too_old; clock; stale_window; the limits, all of
them, in the plan's order. `grow`: the id; replayed; clock; the limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from budgetguard.core.amounts import Amounts
from budgetguard.core.balances import DAY_MS, leased
from budgetguard.core.effects import (
    chargeable,
    hold_all,
    judge_all,
    overage_of,
    resolve_all,
    returned,
    row_of,
    with_unended,
)
from budgetguard.core.model import Balance, CallInfo, Plan, Reservation, UsageRow
from budgetguard.core.verbs import (
    Expire,
    Extend,
    Grow,
    Release,
    Reserve,
    Row,
    RowStatus,
    Settle,
    Settlement,
    SettlementWord,
    Verdict,
    VerdictWord,
)

HELD_KEEP_MS = 30 * DAY_MS
EXPIRED_KEEP_MS = 7 * DAY_MS
FORGOTTEN_REVISIONS = 4
"""How many rows a forgotten id may have had: expired, released, assumed, settled. The truth outranks them."""
NOTHING = Amounts()


class State(NamedTuple):
    """What a verb may look at. What has outlived `keep_until_ms` is not in it, unless it holds or is held.

    `accounts` has at least the accounts of the operation's plan and of the reservation's, by key, where they exist.
    `clock_behind`: the store's clock stands too far behind the time it has told. `asks_ledger`: a reservation that
    was forgotten would have been looked up in the ledger, so an unknown id was never resolved.
    """

    reservation: Reservation | None
    accounts: Mapping[str, Balance]
    clock_behind: bool = False
    asks_ledger: bool = True


class Change(NamedTuple):
    """What a verb changes: the reservation, accounts by key, and a ledger row."""

    reservation: Reservation | None = None
    accounts: Mapping[str, Balance] = MappingProxyType({})
    row: Row | None = None


UNCHANGED = Change()


def reserve(state: State, op: Reserve, now_ms: int) -> tuple[Verdict, Change]:
    """Hold the estimate on every account of the plan, or say why not and change nothing."""
    if state.reservation is not None:
        return _reserve_again(state.reservation, op, now_ms), UNCHANGED
    if now_ms - op.tried_since_ms > op.replay_keep_ms // 2:
        return Verdict("too_old", now_ms), UNCHANGED
    if state.clock_behind:
        return Verdict("clock", now_ms), UNCHANGED
    plan, accounts = op.plan, state.accounts
    if now_ms < plan.window_start_ms or (plan.window_end_ms is not None and now_ms >= plan.window_end_ms):
        return Verdict("stale_window", now_ms), UNCHANGED
    violations, would_refuse = judge_all(plan, op.estimate, accounts, now_ms)
    if violations:
        return Verdict("refused", now_ms, 0, violations, would_refuse), UNCHANGED
    # Past this line it must succeed.
    lease_end_ms = now_ms + op.lease_ms
    held, alerts = hold_all(plan, op.estimate, accounts, now_ms, lease_end_ms)
    reservation = Reservation(
        op.id, "held", plan, op.estimate, NOTHING, op.info,
        now_ms, now_ms, lease_end_ms, lease_end_ms + HELD_KEEP_MS, 0, would_refuse,
    )  # fmt: skip
    return Verdict("granted", now_ms, now_ms, (), would_refuse, alerts), Change(reservation, held)


def _reserve_again(known: Reservation, op: Reserve, now_ms: int) -> Verdict:
    word: VerdictWord = "finished"
    if known.state == "tombstone":
        word = "voided"
    elif known.state == "held":
        same = known.plan.identities == op.plan.identities and known.estimate == op.estimate
        word = "replayed" if same else "conflict"
    return Verdict(word, now_ms, known.admitted_ms, (), known.would_refuse)


def settle(state: State, op: Settle, now_ms: int) -> tuple[Settlement, Change]:
    """Charge what was really used. It never fails because of a limit."""
    known = state.reservation
    if known is None or known.state == "tombstone":
        return _settle_unknown(state, op, now_ms)
    ends_as = "assumed" if op.status == "assumed" else "settled"
    if known.state == "settled" and ends_as == "assumed":
        return Settlement("finished", now_ms), UNCHANGED
    if known.state == ends_as:
        same = known.charged == chargeable(op.actual)
        return Settlement("replayed" if same else "conflict", now_ms), UNCHANGED
    late = known.state in ("expired", "released")
    status: RowStatus = "late" if late and op.status != "assumed" else op.status
    return _charge(state, known, op, status, "late" if late else "settled", now_ms)


def _settle_unknown(state: State, op: Settle, now_ms: int) -> tuple[Settlement, Change]:
    """State was lost, or the id forgotten: charge it, unless it may have been charged already."""
    lost = Reservation(
        op.id, "released", op.plan, op.estimate, NOTHING, op.info, op.admitted_ms, op.admitted_ms,
        max(op.admitted_ms, now_ms), 0, 0 if state.asks_ledger else FORGOTTEN_REVISIONS,
    )  # fmt: skip
    if not state.asks_ledger and now_ms - op.tried_since_ms >= op.replay_keep_ms:
        _, change = _charge(state._replace(accounts={}), lost, op, "uncounted", "uncounted", now_ms)
        return Settlement("uncounted", now_ms), change
    state = state._replace(accounts=with_unended(op.plan, state.accounts, now_ms))
    status: RowStatus = "late" if op.status != "assumed" else "assumed"
    return _charge(state, lost, op, status, "late", now_ms)


def _charge(
    state: State, known: Reservation, op: Settle, status: RowStatus, word: SettlementWord, now_ms: int
) -> tuple[Settlement, Change]:
    actual = chargeable(op.actual)
    accounts, gone, alerts, overdrawn = resolve_all(known, state.accounts, actual, now_ms)
    resolved = known._replace(
        state="assumed" if op.status == "assumed" else "settled",
        charged=actual,
        keep_until_ms=now_ms + op.replay_keep_ms,
        revision=known.revision + 1,
    )
    row = row_of(resolved, status, op.usage, now_ms, gone, op.latency_ms, op.error_type, op.price_source)
    overage = overage_of(known, actual)
    return Settlement(word, now_ms, alerts, overage, overdrawn), Change(resolved, accounts, row)


def release(state: State, op: Release, now_ms: int) -> tuple[Settlement, Change]:
    """Return the hold, or what an expiry charged for it. An unknown id leaves a tombstone."""
    known = state.reservation
    keep_until_ms = now_ms + op.replay_keep_ms
    if known is None:
        tombstone = Reservation(
            op.id, "tombstone", Plan(()), NOTHING, NOTHING, CallInfo(), now_ms, now_ms, now_ms, keep_until_ms
        )
        return Settlement("tombstone", now_ms), Change(tombstone)
    if known.state in ("released", "tombstone"):
        return Settlement("replayed", now_ms), UNCHANGED
    if known.state in ("settled", "assumed"):
        return Settlement("finished", now_ms), UNCHANGED
    accounts, gone, _, _ = resolve_all(known, state.accounts, NOTHING, now_ms)
    released = known._replace(state="released", charged=NOTHING, keep_until_ms=keep_until_ms)
    if known.state == "held":
        return Settlement("released", now_ms), Change(released, accounts)
    released = released._replace(revision=known.revision + 1)
    row = row_of(released, "released", UsageRow(), now_ms, gone)
    return Settlement("released", now_ms), Change(released, accounts, row)


def grow(state: State, op: Grow, now_ms: int) -> tuple[Verdict, Change]:
    """Make the hold larger if every budget has room for the new total; else it stands as it was."""
    known = state.reservation
    if known is None:
        return Verdict("unknown", now_ms), UNCHANGED
    if known.state != "held":
        return Verdict("finished", now_ms, known.admitted_ms), UNCHANGED
    to = Amounts(*map(max, op.to, known.estimate))
    if to == known.estimate:
        return Verdict("replayed", now_ms, known.admitted_ms), UNCHANGED
    if state.clock_behind:
        return Verdict("clock", now_ms, known.admitted_ms), UNCHANGED
    limits = {claim.account.key: claim for claim in op.plan.claims}
    plan = Plan(tuple(limits.get(c.account.key, c) for c in known.plan.claims), known.plan.on_expiry)
    without = with_unended(plan, returned(known, state.accounts, now_ms), now_ms)
    standing = Plan(tuple(claim for claim in plan.claims if claim.account.key in without))
    violations, would_refuse = judge_all(standing, to, without, now_ms)
    if violations:
        return Verdict("refused", now_ms, known.admitted_ms, violations, would_refuse), UNCHANGED
    # Past this line it must succeed.
    accounts, alerts = hold_all(standing, to, without, now_ms, known.lease_end_ms)
    grown = known._replace(
        plan=plan,
        estimate=to,
        slot_ms=now_ms,
        info=replace(known.info, usage=op.usage),
        would_refuse=tuple(dict.fromkeys(known.would_refuse + would_refuse)),
    )
    return Verdict("granted", now_ms, known.admitted_ms, (), would_refuse, alerts), Change(grown, accounts)


def extend(state: State, op: Extend, now_ms: int) -> tuple[Verdict, Change]:
    """Move the lease's end, never to an earlier instant."""
    known = state.reservation
    if known is None:
        return Verdict("unknown", now_ms), UNCHANGED
    if known.state != "held":
        return Verdict("finished", now_ms, known.admitted_ms), UNCHANGED
    lease_end_ms = now_ms + op.lease_ms
    if lease_end_ms <= known.lease_end_ms:
        return Verdict("replayed", now_ms, known.admitted_ms), UNCHANGED
    accounts = {}
    for claim in known.plan.claims:
        balance = state.accounts.get(claim.account.key)
        if balance is not None:
            accounts[claim.account.key] = leased(claim.account, balance, now_ms, lease_end_ms)
    extended = known._replace(lease_end_ms=lease_end_ms, keep_until_ms=lease_end_ms + HELD_KEEP_MS)
    return Verdict("extended", now_ms, known.admitted_ms), Change(extended, accounts)


def expire(state: State, op: Expire, now_ms: int) -> tuple[Settlement, Change]:
    """Resolve an abandoned reservation once its lease has passed: charge its estimate, or return it."""
    known = state.reservation
    if known is None:
        return Settlement("unknown", now_ms), UNCHANGED
    if known.state != "held":
        return Settlement("replayed" if known.state == "expired" else "finished", now_ms), UNCHANGED
    if now_ms < known.lease_end_ms:
        return Settlement("not_due", now_ms), UNCHANGED
    charges = known.plan.on_expiry == "charge"
    charged = chargeable(known.estimate) if charges else NOTHING
    accounts, gone, alerts, overdrawn = resolve_all(known, state.accounts, charged, now_ms)
    expired = known._replace(
        state="expired",
        charged=charged,
        expired_charge=charged,
        keep_until_ms=now_ms + EXPIRED_KEEP_MS,
        revision=known.revision + 1,
    )
    row = row_of(expired, "expired", known.info.usage if charges else UsageRow(), now_ms, gone)
    return Settlement("expired", now_ms, alerts, NOTHING, overdrawn), Change(expired, accounts, row)
