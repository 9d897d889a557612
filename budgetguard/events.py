"""What happens, told to observers: logs, alerts, metrics and reports all hang here.

An event is made like a dataclass, of its annotated fields in their order, and never changes; `fields()` gives its flat
keys, units last. No prompt text and no secret is ever in one. Each is one happening, equal to no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import get_annotations
from typing import Any, ClassVar, Literal, NoReturn, Protocol, dataclass_transform

from budgetguard.core.amounts import Amounts
from budgetguard.core.model import Account, UsageSource, Violation
from budgetguard.event_fields import flat_fields

Level = Literal["debug", "info", "warning", "error"]


@dataclass_transform(eq_default=False, frozen_default=True)
class Event:
    """The root of the events. `name` is stable; `level` is how loud a log should be.

    No dataclass: to write the methods of all events takes Python a sixth of the time of `import budgetguard`.
    """

    name: ClassVar[str] = "budget.event"
    level: ClassVar[Level] = "info"
    keys: ClassVar[tuple[str, ...]] = ()
    """The names of the fields."""
    _needed: ClassVar[int] = 0
    """So many of them, the first, have no value of their own."""

    def __init_subclass__(cls) -> None:
        own = [key for key, kind in get_annotations(cls).items() if "ClassVar" not in str(kind)]
        cls.keys = (*cls.keys, *own)
        cls._needed = sum(not hasattr(cls, key) for key in cls.keys)

    def __init__(self, *values: Any, **named: Any) -> None:
        given = dict(zip(self.keys, values, strict=False))
        if named or not self._needed <= len(values) <= len(self.keys):
            given |= named
            wanted = {*self.keys[: self._needed]} <= given.keys() <= {*self.keys}
            if not wanted or len(given) < len(values) + len(named):
                raise TypeError(f"{type(self).__name__} is made of {', '.join(self.keys)}, each once")
        self.__dict__.update(given)  # what is not given is the class's own

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"an event has happened: its {name} cannot be set")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={getattr(self, key)!r}' for key in self.keys)})"

    def fields(self) -> dict[str, Any]:
        """The event's flat keys and plain values: labels by their names, amounts with their unit (`limit_nanousd`).

        A label with the name of another key is `label_<name>`.
        """
        return flat_fields(self)


class Observer(Protocol):
    """Is told of every event, in the event loop of the call. It must be quick; an error it raises is logged."""

    def on_event(self, event: Event) -> None:
        """Take note of `event`."""


class Refused(Event):
    """A call was refused: by budgets (violations), or for the cause that is named."""

    name: ClassVar[str] = "budget.refused"
    level: ClassVar[Level] = "warning"
    reservation_id: str
    subject: Mapping[str, str]
    cause: str
    violations: tuple[Violation, ...] = ()
    retry_after_s: float | None = None


class WouldRefuse(Event):
    """A call was let through that shadow budgets, or shadow mode, would have refused; or a stream goes on to its end.

    `asked` is what it asked of these budgets, in the units that they count.
    """

    name: ClassVar[str] = "budget.would_refuse"
    reservation_id: str
    subject: Mapping[str, str]
    cause: str
    budgets: tuple[str, ...] = ()
    asked: Amounts = Amounts()


class Delayed(Event):
    """A call was admitted after it had waited for room."""

    name: ClassVar[str] = "budget.delayed"
    reservation_id: str
    subject: Mapping[str, str]
    waited_ms: int


class Settled(Event):
    """A call was settled; `cost_nanousd` is None where nobody knows it.

    Cache tokens are among the input tokens, reasoning tokens among those of the output. `usage_source` says who told
    them, `settle_s` how long the store took; None where the settle was delivered later. `error_type` is what ended the
    call, "" where nothing went wrong.
    """

    name: ClassVar[str] = "budget.settled"
    level: ClassVar[Level] = "debug"
    reservation_id: str
    subject: Mapping[str, str]
    status: str
    input_tokens: int
    output_tokens: int
    cost_nanousd: int | None
    latency_ms: int
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    estimated_tokens: int = 0
    usage_source: UsageSource = ""
    settle_s: float | None = None
    error_type: str = ""


class AlertReached(Event):
    """An account's level has passed a threshold of its limit. Told once in the fleet."""

    name: ClassVar[str] = "budget.alert"
    level: ClassVar[Level] = "warning"
    account: Account
    threshold: int
    limit: int
    level_reached: int


class Exhausted(Event):
    """The first refusal of a window because its limit is spent. Told once in the fleet."""

    name: ClassVar[str] = "budget.exhausted"
    level: ClassVar[Level] = "warning"
    account: Account
    limit: int
    spent: int


class Overage(Event):
    """A call used more than it had reserved; `overdrawn` counts the accounts that now stand above their limit."""

    name: ClassVar[str] = "budget.overage"
    level: ClassVar[Level] = "warning"
    reservation_id: str
    subject: Mapping[str, str]
    overage: Amounts
    overdrawn: int


class Assumed(Event):
    """What a call used is not known, and its estimate was charged."""

    name: ClassVar[str] = "budget.assumed"
    level: ClassVar[Level] = "warning"
    reservation_id: str
    subject: Mapping[str, str]
    cause: str


class Late(Event):
    """A settle found its reservation expired, released or lost; it was charged all the same."""

    name: ClassVar[str] = "budget.late"
    level: ClassVar[Level] = "warning"
    reservation_id: str
    word: str


class Expired(Event):
    """A reservation whose lease had passed was resolved as its `on_expiry` says."""

    name: ClassVar[str] = "budget.expired"
    level: ClassVar[Level] = "warning"
    reservation_id: str


class LeaseLost(Event):
    """A hold that is still open here was resolved by somebody else; its settle will be late."""

    name: ClassVar[str] = "budget.lease_lost"
    level: ClassVar[Level] = "warning"
    reservation_id: str


class StoreProblem(Event):
    """The store did not answer, or must not be used; `let_through`: calls go on without it."""

    name: ClassVar[str] = "budget.store_away"
    level: ClassVar[Level] = "error"
    verb: str
    error: str
    let_through: bool = False


class Spooled(Event):
    """Settles or releases were put in the durable local spool, to be delivered later."""

    name: ClassVar[str] = "budget.spooled"
    level: ClassVar[Level] = "warning"
    count: int


class SpoolReplayed(Event):
    """Settles or releases from the spool were delivered."""

    name: ClassVar[str] = "budget.spool_replayed"
    count: int


class OutboxFilling(Event):
    """Of the `most` ledger rows that the store keeps, so many wait to be drained; when all do, calls are refused."""

    name: ClassVar[str] = "budget.outbox_filling"
    level: ClassVar[Level] = "warning"
    rows: int
    most: int
    advice: str = "run `budgetguard ledger drain`: calls are refused once the outbox is full"


class LedgerAway(Event):
    """The SQL ledger, or the outbox, cannot be drained now. Told once, until it can; rows wait in the outbox."""

    name: ClassVar[str] = "budget.ledger_away"
    level: ClassVar[Level] = "error"
    error: str


class LedgerBack(Event):
    """What was told to be away is drained again, and all that had waited is in the ledger."""

    name: ClassVar[str] = "budget.ledger_back"


class RowUnreadable(Event):
    """An entry of the outbox is no row that the ledger can hold. It stays there, and holds up no other."""

    name: ClassVar[str] = "budget.row_unreadable"
    level: ClassVar[Level] = "error"
    entry_id: str
    error: str


class WritesLost(Event):
    """The store has lost what it had acknowledged between two instants of its time, as after a failover.

    Holds and settles of that stretch are in no account; spent may pass a limit by as much.
    """

    name: ClassVar[str] = "budget.writes_lost"
    level: ClassVar[Level] = "error"
    since_ms: int
    until_ms: int
    advice: str = "compare the ledger with the provider's bill for this stretch"


class SettleRejected(Event):
    """A settle disagrees with what is already recorded; the record stands."""

    name: ClassVar[str] = "budget.settle_rejected"
    level: ClassVar[Level] = "error"
    reservation_id: str
    word: str


class Unmatched(Event):
    """A call that no budget covers. Told once per label set."""

    name: ClassVar[str] = "budget.unmatched"
    level: ClassVar[Level] = "warning"
    subject: Mapping[str, str]


class PolicyReloaded(Event):
    """The policy's file was read again; `resets` says which accounts start at zero, and what awaits the next start."""

    name: ClassVar[str] = "budget.policy_reloaded"
    source: str
    resets: tuple[str, ...] = ()


class PolicyRejected(Event):
    """The new version of the policy's file is wrong; the old one stays in force."""

    name: ClassVar[str] = "budget.policy_rejected"
    level: ClassVar[Level] = "error"
    source: str
    error: str
