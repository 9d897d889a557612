"""The Store protocol: where budgets are held. Its docstrings are the contract that every store keeps.

A store is the one serial place in which calls are decided. It runs `core.machine` (or its restatement in Lua),
keeps no policy (limits travel with each operation), and its time is the only time: every answer carries `now_ms`.
Each verb takes a sequence and answers in order; one operation of a batch that cannot be done raises for that
one alone, unless the whole batch failed. Operations asked while a batch is under way form the next one.
Every operation can be repeated, and must be after an error that leaves open whether it was applied.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from budgetguard.core.amounts import Amounts
from budgetguard.core.model import Account
from budgetguard.core.verbs import Expire, Extend, Grow, Release, Reserve, Settle, Settlement, Verdict

Item = TypeVar("Item")


class Clock(Protocol):
    """Where a store without a server takes its time from."""

    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""


class AccountRow(NamedTuple):
    """One account as it stands: amounts of its unit, `now_ms` the store's time when it was read."""

    account: Account
    spent: int
    reserved: int
    now_ms: int


class HoldRow(NamedTuple):
    """One open reservation: who holds what, since when, on which host, and when its lease ends."""

    id: str
    labels: Mapping[str, str]
    accounts: tuple[Account, ...]
    estimate: Amounts
    host: str
    admitted_ms: int
    lease_end_ms: int
    now_ms: int


class Backlog(NamedTuple):
    """Ledger rows that nobody has drained yet, and how many there may be: then calls are refused."""

    rows: int
    most: int


class LostWrites(NamedTuple):
    """Writes that the store had acknowledged between these instants of its time are gone, as after a failover."""

    since_ms: int
    until_ms: int


class RefusedBy(NamedTuple):
    """A limit that refused calls, or of a shadow budget (of which unit and period are not told, "") would have.

    `period` is as people write it ("day", "rolling 10 minutes"). `reason` is that of the violation (`spent`, `held`,
    `impossible`), of a shadow budget `exceeded`.
    """

    budget: str
    unit: str
    period: str
    reason: str


class RefusalCount(NamedTuple):
    """So many calls with these labels were refused, in the minute that begins then (store time), by all of `limits`.

    `shadow`: they were let through, and would have been refused. `cause` is "budget", or for what else they were
    refused (`LabelRequired`, `PriceUnknown`): by no limit then. `asked`: what they asked together, in the units of the
    limits that refused. A call that several limits refuse is counted once.
    """

    minute_ms: int
    shadow: bool
    cause: str
    limits: tuple[RefusedBy, ...]
    labels: Mapping[str, str]
    calls: int
    asked: Amounts


class OutputCount(NamedTuple):
    """So many calls of a set wrote so much: `place` is that of an edge (`learning.sketch`), or says what is summed.

    `words` are the set's name: what its calls have in common, as whoever asks spells it. At most some 9,300 bytes of
    UTF-8, where the control characters of three labels are escaped.
    """

    words: str
    place: int
    calls: int


class OutputSet(NamedTuple):
    """What is kept of a set: (slice, place, calls), in no order, and when it was last written (store time)."""

    words: str
    counts: tuple[tuple[int, int, int], ...]
    written_ms: int


OUTPUT_PLACES: Final = 512
"""A place is below that."""
OUTPUT_SLICES: Final = 6
"""So many slices of a set are kept, that of now among them."""
MOST_OUTPUT_SETS: Final = 20_000
"""So many sets are kept; then those that were written longest ago are forgotten."""
FLUSH_KEPT_MS: Final = 600_000
"""So long a flush of outputs is remembered, so that it counts once."""


class Page(NamedTuple, Generic[Item]):
    """Some rows, and the cursor with which to ask for the next; None after the last.

    A row may come again on a later page, as it stands then: what collects pages goes by account key or hold id. What
    is there from the first page to the last comes at least once.
    """

    rows: tuple[Item, ...]
    cursor: str | None


class Cause(NamedTuple):
    """What one of a fleet tells.

    Args:
        cause: what it is.
        ttl_ms: so long nobody else tells it, in the store's time: 1 or more.
        id: of who asks, new for each thing it finds, and the same when it asks again since no answer came.
    """

    cause: str
    ttl_ms: int
    id: str


class Store(Protocol):
    """Holds budgets. Errors: `StoreAway` (outcome unknown), `StateLost`, `StoreUnusable`."""

    async def open(self, accept_loss: bool = False) -> int:
        """Connect, check schema and incarnation, and return the store's time. Idempotent, for any event loop.

        Raises:
            StateLost: the store no longer has the incarnation that this object knew, and not `accept_loss`.
            StoreUnusable: another schema, a broken or unwritable file.
        """

    def reserve(self, ops: Sequence[Reserve]) -> Awaitable[list[Verdict]]:
        """Admit each call or refuse it. A refused call changes nothing at all.

        Raises:
            OutboxFull: as many ledger rows as the store keeps wait to be drained; nothing was changed.
        """

    def settle(self, ops: Sequence[Settle]) -> Awaitable[list[Settlement]]:
        """Charge what each call really used and write its ledger row, in one step."""

    def release(self, ops: Sequence[Release]) -> Awaitable[list[Settlement]]:
        """Return each hold."""

    def grow(self, ops: Sequence[Grow]) -> Awaitable[list[Verdict]]:
        """Enlarge each hold, or leave it as it stands."""

    def extend(self, ops: Sequence[Extend]) -> Awaitable[list[Verdict]]:
        """Move the end of each lease."""

    def expire(self, ops: Sequence[Expire]) -> Awaitable[list[Settlement]]:
        """Resolve each reservation whose lease has passed."""

    async def due(self, most: int) -> list[str]:
        """Ids of at most `most` open reservations whose lease has passed, the oldest first; forgets what is too old."""

    async def announce(self, levels: Sequence[tuple[Account, int]]) -> list[bool]:
        """Mark each account as announced up to a level. True for exactly one asker of the fleet and window."""

    async def first_to_tell(self, causes: Sequence[Cause]) -> list[bool]:
        """For each cause: True for exactly one asker of the fleet, until its time has passed.

        Repeatable: the id that was answered True is answered True again, as its first answer may have been lost. What
        the store loses, as after a failover, may be told again.
        """

    async def note_refusals(self, flush_id: str, rows: Sequence[RefusalCount]) -> None:
        """Keep counts of refusals for the ledger. Repeatable: the rows of one `flush_id` count once.

        Changes no account. A store whose ledger nobody keeps (`store.ledger = "none"`) keeps none.

        Raises:
            OutboxFull: as many rows as the store keeps wait to be drained; nothing was kept.
        """

    async def note_outputs(self, flush_id: str, slice_ms: int, rows: Sequence[OutputCount]) -> None:
        """Add to what calls wrote, for estimates.

        Repeatable: the rows of one `flush_id` count once, for `FLUSH_KEPT_MS`. They count in the slice of now: the
        store's time divided by `slice_ms`. Changes no account. A set whose record somebody else has written over begins
        anew; one that is not written any more is forgotten after `OUTPUT_SLICES` + 1 slices.

        Raises:
            InvalidAmount: a number of a row is none, or its place is none; nothing was kept.
        """

    async def read_outputs(self, words: Sequence[str] | None = None, most: int = 1000) -> list[OutputSet]:
        """What is kept of these sets, as far as they are known; None: of those that were written last, at most `most`.

        The latest first. A set whose record cannot be read is left out.
        """

    async def read_balances(self, accounts: Sequence[Account]) -> list[AccountRow]:
        """These accounts as they stand, in order; one that does not exist has nothing spent or reserved."""

    async def read_accounts(
        self, budget: str = "*", labels: Mapping[str, str] | None = None, cursor: str | None = None, most: int = 1000
    ) -> Page[AccountRow]:
        """Accounts of current windows whose budget's name and `per` labels match these globs (as fnmatchcase).

        A page holds about `most` rows, and fewer, even none, where it looked at many that do not match.
        """

    async def read_holds(
        self, budget: str = "*", labels: Mapping[str, str] | None = None, cursor: str | None = None, most: int = 1000
    ) -> Page[HoldRow]:
        """Open reservations that count against a budget and carry labels that match these globs (as fnmatchcase).

        Pages are those of `read_accounts`.
        """

    async def lost_writes(self) -> LostWrites | None:
        """What was found to be lost since this was asked last: less may stand in the accounts than was spent."""

    async def backlog(self) -> Backlog | None:
        """How many ledger rows wait to be drained; None where the store is the ledger itself, or nobody drains it."""

    async def leave(self) -> None:
        """This event loop will not ask again: finish what it asked, and let go of what is kept for it alone.

        Idempotent, and raises nothing of its own. If the loop does ask again, it is answered as at first.
        """

    async def aclose(self) -> None:
        """Finish what is under way and let go of every connection."""
