"""The nouns of budgetguard, as frozen values. Read this first.

A `Subject` (the labels of a call) is matched against `Budget`s; each matching budget's `Limit`s name
`Account`s. An account with the limit that judges it is a `Claim`; the claims of one call are its `Plan`.
A `Reservation` holds an estimate on every account of its plan until it is settled, released or expired.
Amounts are integers (`core.amounts`), times are milliseconds since 1970-01-01 UTC in the store's time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

from budgetguard.core.amounts import Amounts, Unit
from budgetguard.core.periods import Period, parse_period_text

OnExceed = Literal["refuse", "delay", "shadow"]
OnExpiry = Literal["charge", "release"]
Reason = Literal["impossible", "spent", "held"]
NO_LABEL = "(none)"
"""How the account of calls without a `per` label is shown; its key cannot collide with a label of that text."""

_compact = json.JSONEncoder(separators=(",", ":")).encode

Subject = Mapping[str, str]
"""Who spends: the labels of one call. `model` and `provider` are added by the guard."""


@dataclass(frozen=True, slots=True)
class Limit:
    """An amount of a unit in each window of a period: "5M tokens/hour"; `usd` in nano-dollars."""

    amount: int
    unit: Unit
    period: Period

    @property
    def identity(self) -> str:
        """Unit and period: with the budget's name and `per` values, what makes two limits the same account."""
        return f"{self.unit}/{self.period}"


@dataclass(frozen=True, slots=True)
class Account:
    """One counter: a budget for one value of its `per` labels, one unit, one period, in one window.

    `window_start_ms` and `window_end_ms` are None for periods that have no windows (rolling, total, concurrent).
    """

    budget: str
    per: tuple[tuple[str, str | None], ...]
    unit: Unit
    period: Period
    window: str = ""
    window_start_ms: int | None = None
    window_end_ms: int | None = None
    identity: str = field(init=False)
    """The account without its window: injective over every text, ASCII."""
    key: str = field(init=False)
    """The account with its window: the store's key."""

    def __post_init__(self) -> None:
        identity = _compact((self.budget, self.per, self.unit, str(self.period)))
        object.__setattr__(self, "identity", identity)
        object.__setattr__(self, "key", f"{identity[:-1]},{_compact(self.window)}]")

    @property
    def parts(self) -> tuple[Any, ...]:
        """What to write down so that the account can be made again, in the order of its fields."""
        return (
            self.budget, self.per, self.unit, str(self.period), self.window, self.window_start_ms, self.window_end_ms
        )  # fmt: skip

    @property
    def subject(self) -> dict[str, str]:
        """The `per` labels and values, "(none)" where the call had none."""
        return {name: NO_LABEL if value is None else value for name, value in self.per}


@dataclass(frozen=True, slots=True)
class Claim:
    """One account of a call with the limit that judges it now.

    `enforced` is False for shadow budgets: counted, never refused. `alert_levels` are absolute and ascending.
    """

    account: Account
    limit: int
    enforced: bool = True
    alert_levels: tuple[int, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Every account that a call counts against. Made once per subject and window, and shared by its calls."""

    claims: tuple[Claim, ...]
    on_expiry: OnExpiry = "charge"

    @cached_property
    def window_start_ms(self) -> int:
        """The instant from which every calendar window of the plan has begun."""
        return max((c.account.window_start_ms or 0 for c in self.claims), default=0)

    @cached_property
    def window_end_ms(self) -> int | None:
        """The instant at which the first calendar window of the plan ends; None without one."""
        return min((c.account.window_end_ms for c in self.claims if c.account.window_end_ms is not None), default=None)

    @cached_property
    def keys_text(self) -> str:
        """The keys of its accounts as a JSON list: what a ledger row says was counted."""
        return f"[{','.join([claim.account.key for claim in self.claims])}]"

    @cached_property
    def identities(self) -> tuple[str, ...]:
        """What "the same content" compares: accounts without windows, limits and lease."""
        return tuple(claim.account.identity for claim in self.claims)

    @cached_property
    def uncertain(self) -> tuple[str, ...]:
        """Budgets of which a call may take more than its estimate, of tokens or dollars, each with its `per` labels.

        What is open on one account of a budget is open on all that it has for these labels.
        """
        accounts = [c.account for c in self.claims if c.account.unit in ("tokens", "output_tokens", "usd")]
        return tuple(dict.fromkeys(_compact((account.budget, account.per)) for account in accounts))

    @cached_property
    def least(self) -> Mapping[str, int]:
        """The smallest limit of each unit."""
        return {unit: min(c.limit for c in self.claims if c.account.unit == unit) for unit in self.units}

    @cached_property
    def units(self) -> frozenset[str]:
        """The units that its accounts count."""
        return frozenset(claim.account.unit for claim in self.claims)

    @cached_property
    def text(self) -> str:
        """The plan as JSON text; `plan_from_text` is its inverse."""
        claims = [(*claim.account.parts, claim.limit, claim.enforced, claim.alert_levels) for claim in self.claims]
        return _compact((self.on_expiry, claims))


NO_PLAN = Plan(())
"""What no budget covers."""


def plan_from_text(text: str) -> Plan:
    """The plan of which `text` is the `Plan.text`."""
    on_expiry, rows = json.loads(text)
    claims = []
    for budget, per, unit, period, window, start_ms, end_ms, limit, enforced, levels in rows:
        labels = tuple((name, value) for name, value in per)
        account = Account(budget, labels, unit, parse_period_text(period), window, start_ms, end_ms)
        claims.append(Claim(account, limit, enforced, tuple(levels)))
    return Plan(tuple(claims), on_expiry)


UsageSource = Literal["", "reported", "counted", "estimate"]
"""Who says what a call used: the provider, who counted what was streamed, or the estimate."""


class UsageRow(NamedTuple):
    """The amounts of a ledger row; tokens as `bg.Usage` counts them. `cost_nanousd` is None where nobody knows it.

    `first_token_ms` is from the admission of a stream to the first of its output; None where nobody knows.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nanousd: int | None = 0
    source: UsageSource = ""
    streamed: bool = False
    first_token_ms: int | None = None


NO_USAGE = UsageRow()


@dataclass(frozen=True, slots=True)
class CallInfo:
    """What the ledger says of a call besides amounts, known when it is reserved."""

    labels: Mapping[str, str] = field(default_factory=dict)
    price_source: str = ""
    host: str = ""
    usage: UsageRow = NO_USAGE
    """The estimate as usage: it becomes the row of a call that expires or is assumed."""
    operation_id: str = ""
    """Of an attempt that repeats another: the id of the first one's reservation."""
    attempt: int = 1
    """Which attempt of its operation it is, from 1."""
    prompt_hash: str = ""
    """What tells equal prompts, and says nothing of their text; "" where no key is set, or no request was seen."""
    process: str = ""
    library_version: str = ""


NO_INFO = CallInfo()
ReservationState = Literal["held", "expired", "released", "tombstone", "assumed", "settled"]


class Reservation(NamedTuple):
    """What the store knows of one call.

    `charged` is what stands as spent for it: nothing while held, the estimate after an expiry that
    charges, the actual once settled. `slot_ms` is the instant whose slot it occupies on rolling periods.
    """

    id: str
    state: ReservationState
    plan: Plan
    estimate: Amounts
    charged: Amounts
    info: CallInfo
    admitted_ms: int
    slot_ms: int
    lease_end_ms: int
    keep_until_ms: int
    revision: int = 0
    would_refuse: tuple[str, ...] = ()
    expired_charge: Amounts = Amounts()
    """What an expiry had charged, kept for the ledger after the truth came."""


class Balance(NamedTuple):
    """The state of one account. `slots` of a rolling period: (slot number, spent, reserved), ascending.

    For rolling periods `spent` and `reserved` are 0: the slots hold them.
    """

    spent: int = 0
    reserved: int = 0
    announced: int = 0
    announced_ms: int = 0
    keep_until_ms: int = 0
    slots: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Violation:
    """One limit that refused. `available` may be negative; `retry_ms` is None where waiting cannot help."""

    account: Account
    reason: Reason
    limit: int
    spent: int
    reserved: int
    requested: int
    resets_at_ms: int | None
    retry_ms: int | None

    @property
    def available(self) -> int:
        return self.limit - self.spent - self.reserved


@dataclass(frozen=True, slots=True)
class Alert:
    """An account's level has passed `threshold` (an absolute amount of its limit); told to one worker of the fleet."""

    account: Account
    threshold: int
    limit: int
    level: int
