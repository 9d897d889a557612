"""An account book kept from the answers alone: it never looks at `core.machine`, so that the rule itself is checked.

It keeps who holds what and what was charged for whom, computes from that what every account must show, and judges
every admission and every refusal by it (the invariants of FAILURES 2.0).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

from machine_world import Picture

from budgetguard.core.amounts import MAX_AMOUNT, Amounts
from budgetguard.core.model import Account, Balance, Plan
from budgetguard.core.verbs import Expire, Extend, Grow, Reserve, Row, Settle

NOTHING = Amounts()
RANK = {"expired": 0, "released": 1, "assumed": 2, "late": 3, "settled": 3, "cancelled": 3, "error": 3}
DAY_MS = 86_400_000


class Entry(NamedTuple):
    """One call in the book: what it holds or what was charged for it, on which accounts, in which slot."""

    plan: Plan
    amounts: Amounts
    slot_ms: int
    holds: bool
    gone: tuple[str, ...] = ()


def live(account: Account, slot_ms: int, now_ms: int) -> bool:
    """Whether what sits in the slot of that instant still counts: until the slot's end has left the period."""
    if account.period.kind != "rolling":
        return True
    length_ms = account.period.span_ms // 60
    return (slot_ms // length_ms + 1) * length_ms > now_ms - account.period.span_ms


def within(account: Account, now_ms: int) -> bool:
    """Whether an account's window, if it has one, is the one of now."""
    start_ms, end_ms = account.window_start_ms, account.window_end_ms
    return start_ms is None or end_ms is None or start_ms <= now_ms < end_ms


class Shadow:
    """The book. `see` takes an operation with its answer; `check` compares with what stands in a store."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        # By account and call: what it counts there (amount, instant of its slot, whether it is a hold).
        self.pages: defaultdict[str, dict[str, tuple[int, int, bool]]] = defaultdict(dict)
        self.rows: dict[str, tuple[int, int]] = {}
        self.leases: dict[str, int] = {}
        self.standing: frozenset[str] = frozenset()
        self.words: Counter[str] = Counter()

    def see(self, op: Any, answer: Any, row: Row | None, now_ms: int) -> None:
        """Note what the answer says, after judging whether it may say so; `row` is what it wrote in the ledger."""
        self.words[f"{type(op).__name__.lower()} {answer.word}"] += 1
        known = self.entries.get(op.id)
        held = known if known is not None and known.holds else None
        if isinstance(op, Reserve):
            self._judge(op.plan, op.estimate, op.id, answer, now_ms)
            if answer.word == "granted":
                assert known is None
                assert all(within(claim.account, now_ms) for claim in op.plan.claims)
                self._note(op.id, Entry(op.plan, op.estimate, now_ms, True))
                self.leases[op.id] = now_ms + op.lease_ms
        elif isinstance(op, Grow):
            self._see_growth(op, held, answer, now_ms)
        elif isinstance(op, Extend):
            assert (answer.word in ("extended", "replayed")) == (held is not None)
            if held is not None:
                self.leases[op.id] = max(self.leases[op.id], now_ms + op.lease_ms)
        elif isinstance(op, Expire) and held is not None:
            assert answer.word == ("not_due" if now_ms < self.leases[op.id] else "expired")
        if answer.word in ("settled", "late", "released", "expired"):
            self._note(op.id, self._resolved(op, known, row))

    def _see_growth(self, op: Grow, held: Entry | None, answer: Any, now_ms: int) -> None:
        if held is None:
            assert answer.word in ("finished", "unknown")
            return
        to = Amounts(*map(max, op.to, held.amounts))
        limits = {claim.account.key: claim for claim in op.plan.claims}
        plan = Plan(tuple(limits.get(c.account.key, c) for c in held.plan.claims), held.plan.on_expiry)
        standing = Plan(tuple(c for c in plan.claims if self._stands(c.account, now_ms)))
        self._judge(standing, to, op.id, answer, now_ms)
        if answer.word == "granted":
            self._note(op.id, Entry(plan, to, now_ms, True))

    def _stands(self, account: Account, now_ms: int) -> bool:
        """An account is gone 24 hours after its window, unless a longer lease or an open hold keeps it."""
        return account.key in self.standing or now_ms < (account.window_end_ms or now_ms) + DAY_MS

    def _resolved(self, op: Any, known: Entry | None, row: Row | None) -> Entry | None:
        """The hold ends, if there is one; what is charged for it replaces what was. None where no row is written."""
        if row is None:
            return None
        if isinstance(op, Settle):
            charged = op.actual
            known = known or Entry(op.plan, NOTHING, row.slot_ms, False)
        else:
            assert known is not None
            charges = isinstance(op, Expire) and known.plan.on_expiry == "charge"
            charged = known.amounts if charges else NOTHING
        return Entry(known.plan, charged._replace(concurrent=0), known.slot_ms, False, row.gone)

    def _note(self, id: str, entry: Entry | None) -> None:
        known = self.entries.pop(id, None)
        for claim in known.plan.claims if known else ():
            self.pages[claim.account.key].pop(id, None)
        if entry is not None:
            self.entries[id] = entry
            for claim in entry.plan.claims:
                account = claim.account
                amount = getattr(entry.amounts, account.unit)
                if amount and account.key not in entry.gone:
                    self.pages[account.key][id] = amount, entry.slot_ms, entry.holds

    def _judge(self, plan: Plan, asked: Amounts, id: str, answer: Any, now_ms: int) -> None:
        """No admission without room, no refusal with room, and a refusal that explains itself truly."""
        if answer.word not in ("granted", "refused"):
            return
        lacking = {}
        for claim in plan.claims:
            amount = getattr(asked, claim.account.unit)
            spent, reserved = self.sums(claim.account, now_ms, but=id)
            if amount and not spent + reserved + amount <= claim.limit:
                lacking[claim.account.key] = claim, (claim.limit, spent, reserved, amount)
        refusing = {key: told for key, (claim, told) in lacking.items() if claim.enforced}
        assert (answer.word == "refused") == bool(refusing)
        assert set(answer.would_refuse) == {c.account.budget for c, _ in lacking.values() if not c.enforced}
        assert {v.account.key: (v.limit, v.spent, v.reserved, v.requested) for v in answer.violations} == refusing
        for v in answer.violations:
            helps = "impossible" if v.requested > v.limit else "spent" if v.requested > v.limit - v.spent else "held"
            assert v.reason == helps
            assert v.available == v.limit - v.spent - v.reserved

    def sums(self, account: Account, now_ms: int, but: str = "") -> tuple[int, int]:
        """What is spent and reserved on an account, from the book; without one call, if one is named."""
        totals = [0, 0]
        for id, (amount, slot_ms, holds) in self.pages[account.key].items():
            if id != but and live(account, slot_ms, now_ms):
                totals[holds] += amount
        return totals[0], totals[1]

    def check(self, picture: Picture, accounts: Mapping[str, Account], now_ms: int) -> None:
        """Every account shows what the book says; team = sum of its agents; rows only ever gain rank."""
        families: defaultdict[tuple[str, str], defaultdict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for key, balance in picture.balances.items():
            account = accounts[key]
            shown = shown_by(account, balance, now_ms)
            assert shown == self.sums(account, now_ms), account
            assert all(0 <= n <= MAX_AMOUNT for n in (*balance[:5], *(n for slot in balance.slots for n in slot)))
            if account.window_end_ms is None or now_ms < account.window_end_ms + DAY_MS:
                families[f"{account.unit}/{account.period}", account.window][account.budget] += shown
        for family in families.values():
            if "everyone" in family:
                team, agents = family["everyone"], family["each-agent"]
                assert team == [sum(agents[0::2]), sum(agents[1::2])]
        for id, (revision, status, *_) in picture.ledger.items():
            known_revision, known_rank = self.rows.get(id, (0, 0))
            assert revision >= known_revision
            assert RANK[status] >= known_rank
            self.rows[id] = revision, RANK[status]
        held = {id for id, entry in self.entries.items() if entry.holds}
        assert {id for id, told in picture.reservations.items() if told[0] == "held"} == held


def shown_by(account: Account, balance: Balance, now_ms: int) -> tuple[int, int]:
    """What a balance shows: on a rolling period, the sums of its slots that count."""
    if account.period.kind != "rolling":
        return balance.spent, balance.reserved
    length_ms = account.period.span_ms // 60
    counting = [slot for slot in balance.slots if live(account, slot[0] * length_ms, now_ms)]
    return sum(slot[1] for slot in counting), sum(slot[2] for slot in counting)
