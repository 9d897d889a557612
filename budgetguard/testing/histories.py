"""Histories: clients that reserve, settle, repeat themselves, contradict themselves and come too late.

Every choice is decoded from drawn bytes, so that a history can be replayed (and made smaller, by Hypothesis).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple, get_args

from budgetguard.core.amounts import Amounts
from budgetguard.core.grammar import parse_limit
from budgetguard.core.model import Account, CallInfo, Claim, OnExpiry, Plan, UsageRow, UsageSource
from budgetguard.core.periods import window_at
from budgetguard.core.verbs import EndStatus, Expire, Extend, Grow, Release, Reserve, Settle
from budgetguard.testing.oracle import Announce

REPLAY_KEEP_MS = 900_000
LEASES_MS = (60_000, 1_000, 600_000, 7_200_000)
# Days without a midnight (Cairo), two midnights (Havana), hours cut by half (Lord Howe); calendar, rolling, total.
BUDGETS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "everyone": ("UTC", (), ("5000 tokens/hour", "$0.0003/total")),
    "each-agent": ("UTC", ("agent",), ("4000 tokens/hour", "$0.0003/total")),
    "days": ("Africa/Cairo", ("team",), ("$0.00003/day", "90 requests/month", "4000 input_tokens/day")),
    "hours": ("Australia/Lord_Howe", (), ("40 requests/hour", "15 requests/minute")),
    "slides": ("UTC", (), ("3000 tokens/rolling 1 minute", "$0.00003/rolling 1 hour", "20 requests/rolling 1 day")),
    "open": ("UTC", ("agent",), ("9 concurrent",)),
    "weeks": ("America/Havana", (), ("5000 output_tokens/week", "4000 tokens/day")),
    "watched": ("Europe/Berlin", (), ("900 tokens/day", "1500 tokens/rolling 1 day", "3 concurrent")),
}
PROFILES: tuple[tuple[str, ...], ...] = (
    (), ("days",), ("hours",), ("slides",), ("open",), ("weeks", "watched"),
    ("days", "hours", "slides", "open", "weeks", "watched"), ("slides", "open", "watched"),
)  # fmt: skip
AGENTS = ("a", "b", None)
POLICIES = (4, 12, 2, 0)
"""Versions of the policy: what every limit is multiplied by, in quarters."""
SIZES = (100, 1, 0, 37, 250, 12, 60, 600)


class Subject(NamedTuple):
    """Who spends, and under which version of the policy."""

    agent: str | None
    profile: int
    policy: int
    on_expiry: OnExpiry


@lru_cache(4096)
def plan_at(subject: Subject, minute: int) -> Plan:
    """The plan of a call in that minute since 1970. Every offset of these zones is a whole number of minutes."""
    made: list[Claim] = []
    for name in ("everyone", "each-agent", *PROFILES[subject.profile]):
        zone, per, limits = BUDGETS[name]
        values = tuple((label, subject.agent if label == "agent" else None) for label in per)
        for limit in (parse_limit(text, zone) for text in limits):
            window = window_at(limit.period, minute * 60_000) if limit.period.kind == "calendar" else ("", None, None)
            amount = limit.amount * POLICIES[subject.policy] // 4
            levels = tuple(sorted({amount // 2, amount * 4 // 5, amount} - {0}))
            account = Account(name, values, limit.unit, limit.period, *window)
            made.append(Claim(account, amount, name != "watched", levels))
    return Plan(tuple(made), subject.on_expiry)


class Dice:
    """Takes small numbers out of the bytes of one choice."""

    def __init__(self, drawn: bytes) -> None:
        self._left = int.from_bytes(drawn, "little")

    def roll(self, sides: int) -> int:
        """A number from 0 to `sides` - 1."""
        self._left, shown = divmod(self._left, sides)
        return shown


@dataclass
class Call:
    """What a client knows of one call."""

    id: str
    subject: Subject
    plan: Plan
    estimate: Amounts
    tried_since_ms: int
    admitted_ms: int
    lease_ms: int
    asked: Amounts = field(default_factory=Amounts)
    """The estimate that it asked for last, granted or not yet answered."""
    said: list[Any] = field(default_factory=list)

    @property
    def info(self) -> CallInfo:
        labels = {"team": "t", "session": self.id, "tenant": "x"}
        labels |= {"agent": self.subject.agent} if self.subject.agent is not None else {}
        if not int(self.id[1:]) % 2:
            return CallInfo(labels, "guess", "h", prompt_hash="5eed", process="7", library_version="0.1")
        return CallInfo(labels, "guess", "h", operation_id=FIRST, attempt=2)


FIRST = "c0"
"""The operation of some calls: they repeat the first one."""
SOURCES = get_args(UsageSource)[1:]
VERBS = (
    "new", "settle", "new", "release", "settle", "grow", "new", "expire", "extend", "repeat", "assume", "settle",
    "unknown", "again", "announce", "new",
)  # fmt: skip


class Clients:
    """All calls so far, and the time as it was last heard from the store."""

    def __init__(self, heard_ms: int) -> None:
        self.heard_ms = heard_ms
        self.policy = 0
        self.calls: list[Call] = []

    def next(self, drawn: bytes) -> Any:
        """The next operation."""
        dice = Dice(drawn)
        verb = VERBS[dice.roll(len(VERBS))]
        if verb in ("new", "unknown") or not self.calls:
            call = self._new(dice)
            if verb != "unknown":
                return self._said(call, self._reserve(call))
            verb = ("settle", "release", "assume", "grow", "extend", "expire")[dice.roll(6)]
        else:
            # Mostly a recent call; now and then an old one.
            back = dice.roll(12) if dice.roll(8) else dice.roll(400)
            call = self.calls[max(0, len(self.calls) - 1 - back)]
        if verb == "repeat":
            again = call.said[dice.roll(len(call.said))] if call.said else None
            # A growth that was refused may not come back over another one: clients only ever ask for more.
            return again if again and not isinstance(again, Grow) else self._said(call, self._reserve(call))
        return self._said(call, getattr(self, f"_{verb}")(call, dice))

    def heard(self, op: Any, answer: Any) -> None:
        """A client learns from an answer."""
        if isinstance(op, Announce):
            return
        self.heard_ms = answer.now_ms
        if isinstance(op, Grow) and answer.word != "granted":
            next(found for found in reversed(self.calls) if found.id == op.id).asked = Amounts()
        if isinstance(op, (Reserve, Grow)) and answer.word == "granted":
            (call,) = (found for found in reversed(self.calls) if found.id == op.id)
            call.estimate = op.estimate if isinstance(op, Reserve) else Amounts(*map(max, call.estimate, op.to))
            call.asked = call.estimate
            if isinstance(op, Reserve):
                call.plan, call.admitted_ms = op.plan, answer.admitted_ms

    @staticmethod
    def _said(call: Call, op: Any) -> Any:
        call.said = [*call.said[-5:], op]
        return op

    def _new(self, dice: Dice) -> Call:
        on_expiry: OnExpiry = "release" if dice.roll(4) == 3 else "charge"
        subject = Subject(AGENTS[dice.roll(3)], dice.roll(len(PROFILES)), self.policy, on_expiry)
        lease_ms = LEASES_MS[dice.roll(4)]
        plan = plan_at(subject, self.heard_ms // 60_000)
        call = Call(f"c{len(self.calls)}", subject, plan, _amounts(dice), self.heard_ms, self.heard_ms, lease_ms)
        self.calls.append(call)
        return call

    def _reserve(self, call: Call) -> Reserve:
        info = call.info
        info = replace(info, usage=_usage(call.estimate))
        return Reserve(call.id, call.plan, call.estimate, info, call.lease_ms, REPLAY_KEEP_MS, call.tried_since_ms)

    def _again(self, call: Call, dice: Dice) -> Reserve:
        """The reserve once more: in the windows of now, under the policy of now, perhaps with another amount."""
        plan = plan_at(call.subject._replace(policy=self.policy), self.heard_ms // 60_000)
        op = self._reserve(call)._replace(plan=plan)
        if dice.roll(3):
            return op
        other = _amounts(dice)
        return op._replace(estimate=other, info=replace(op.info, usage=_usage(other)))

    def _settle(self, call: Call, dice: Dice, status: EndStatus = "settled") -> Settle:
        actual = (call.estimate, _amounts(dice), _amounts(dice))[dice.roll(3)]
        # A growth takes the larger of each unit by itself; what was really used always adds up.
        actual = actual._replace(tokens=actual.input_tokens + actual.output_tokens)
        if status == "settled":
            status = ("settled", "cancelled", "settled", "error")[dice.roll(4)]
        return Settle(
            call.id, call.plan, actual, _usage(actual), call.info, status, call.estimate, call.admitted_ms,
            REPLAY_KEEP_MS, self.heard_ms, dice.roll(9), "" if status != "error" else "APIError", "table",
        )  # fmt: skip

    def _assume(self, call: Call, dice: Dice) -> Settle:
        return self._settle(call, dice, "assumed")

    def _release(self, call: Call, dice: Dice) -> Release:
        return Release(call.id, REPLAY_KEEP_MS)

    def _grow(self, call: Call, dice: Dice) -> Grow:
        old, more = Amounts(*map(max, call.estimate, call.asked)), _amounts(dice)
        _, prompt, completion, usd = (a + b * dice.roll(2) for a, b in zip(old[:4], more, strict=False))
        to = call.asked = Amounts(prompt + completion, prompt, completion, usd, 1, 1)
        then_ms = (call.admitted_ms, self.heard_ms)[dice.roll(2)]
        plan = plan_at(call.subject._replace(policy=self.policy), then_ms // 60_000)
        return Grow(call.id, plan, to, _usage(to))

    def _extend(self, call: Call, dice: Dice) -> Extend:
        return Extend(call.id, LEASES_MS[dice.roll(4)])

    def _expire(self, call: Call, dice: Dice) -> Expire:
        return Expire(call.id)

    def _announce(self, call: Call, dice: Dice) -> Announce:
        claim = call.plan.claims[dice.roll(len(call.plan.claims))]
        return Announce(claim.account, dice.roll(2) * claim.limit + 1)


def _amounts(dice: Dice) -> Amounts:
    prompt, completion = SIZES[dice.roll(8)], SIZES[dice.roll(8)]
    return Amounts(prompt + completion, prompt, completion, SIZES[dice.roll(8)] * 5, 1, 1)


def _usage(of: Amounts) -> UsageRow:
    streamed, source = of.output_tokens % 2 == 1, SOURCES[of.input_tokens % 3]
    first_token_ms = of.output_tokens if streamed else None
    return UsageRow(
        of.input_tokens, of.output_tokens, of.input_tokens // 3, 0, 0, of.usd, source, streamed, first_token_ms
    )
