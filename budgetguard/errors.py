"""Every error that budgetguard raises, in one tree; each leaf says in `retryable` whether a retry helps.

BudgetGuardError
├── CallRefused                  the call was not admitted, and changed no account
│   ├── BudgetExceeded           budgets refused it: names every limit that did
│   ├── LabelRequired            `[labels] required` names a label that the call lacks
│   ├── CallUnmatched            no budget covers it, and `on_unmatched = "refuse"`
│   ├── UnguardedApi             it goes to an API that is not known, or past the guarded client
│   ├── PriceUnknown             a dollar budget covers it, and nobody knows what it costs
│   └── EstimateRequired         a token or dollar budget covers it, and it came without an estimate
├── InvalidInput (ValueError)    a value that nothing can be done with; nothing was changed
│   ├── InvalidLabel             a label's name or value
│   ├── InvalidAmount            a number of tokens, dollars, requests or milliseconds
│   └── InvalidLimit             a limit's text ("5M tokens/hour")
├── ConfigError                  a policy, with every fault of it by key path
├── StoreError                   the store did not or must not decide
│   ├── StoreAway                it could not be reached in time
│   ├── StateLost                its state was lost: nothing is admitted until somebody accepts that
│   ├── StoreClockBehind         its clock stands more than 60 s behind the time it has already told
│   ├── OutboxFull               ledger rows that nobody has drained fill the outbox
│   └── StoreUnusable            it cannot be used as it is (schema, corruption, full disk, read-only)
├── ReservationConflict          one reservation id with two different contents
├── ReservationFinished          a verb on a reservation that has already ended
├── GuardClosed                  the guard was closed
└── GuardForked                  the guard was opened in another process
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from budgetguard.core.model import Violation


class BudgetGuardError(Exception):
    """The root of the tree."""

    retryable: ClassVar[bool] = False


class CallRefused(BudgetGuardError):
    """A call was not admitted; no account was changed."""


class BudgetExceeded(CallRefused):
    """Budgets refused a call.

    Args:
        text: the whole message, as the user reads it.
        violations: every limit that refused, in the order of the policy.
        retry_after: seconds until waiting can help; None where it cannot.
        reservation_id: the id of the refused call.
        subject: the labels of the call.
    """

    retryable = True

    def __init__(
        self,
        text: str,
        violations: Sequence[Violation],
        retry_after: float | None,
        reservation_id: str,
        subject: dict[str, str],
    ) -> None:
        super().__init__(text, violations, retry_after, reservation_id, subject)
        self.violations = tuple(violations)
        self.retry_after = retry_after
        self.reservation_id = reservation_id
        self.subject = subject

    def __str__(self) -> str:
        return str(self.args[0])


class LabelRequired(CallRefused):
    """The policy requires a label that this call does not carry."""


class CallUnmatched(CallRefused):
    """No budget covers this call and the policy refuses such calls."""


class UnguardedApi(CallRefused):
    """A request that nobody could count: its API is not known, or it would bypass the guarded HTTP client."""


class PriceUnknown(CallRefused):
    """A dollar budget covers this call and no price is known for its model."""


class EstimateRequired(CallRefused):
    """A token or dollar budget covers this call, which came without an estimate."""


class InvalidInput(BudgetGuardError, ValueError):
    """A value that nothing can be done with. Nothing was changed."""


class InvalidLabel(InvalidInput):
    """A label's name or value is not text of 1 to 512 UTF-8 bytes, or its name is not known."""


class InvalidAmount(InvalidInput):
    """A number that is not an integer (or exact decimal, for dollars) in [0, 2**53 - 1]."""


class InvalidLimit(InvalidInput):
    """A limit's text does not say amount, unit and period."""


class ConfigError(BudgetGuardError):
    """A policy is wrong; `faults` has a line for every fault: key path, what was expected, a suggestion."""

    def __init__(self, source: str, faults: Sequence[str]) -> None:
        super().__init__(source, tuple(faults))
        self.source = source
        self.faults = tuple(faults)

    def __str__(self) -> str:
        return "\n".join([f"{self.source}: {len(self.faults)} fault(s)", *(f"  {fault}" for fault in self.faults)])


class StoreError(BudgetGuardError):
    """The store did not, or must not, decide."""


class StoreAway(StoreError):
    """The store could not be reached before the deadline. Whether it did what was asked is not known."""

    retryable = True


class StateLost(StoreError):
    """The store's state was lost, or is being rebuilt.

    Run `budgetguard doctor --fix` to rebuild it from the ledger, or `budgetguard init --accept-loss` to start from
    nothing.
    """


class StoreClockBehind(StoreError):
    """The store's clock stands more than 60 s behind the time it has already told."""

    retryable = True


class OutboxFull(StoreError):
    """Ledger rows that nobody has drained fill the store's outbox. Run `budgetguard ledger drain`.

    What was admitted is settled all the same; only new calls must wait.
    """

    retryable = True


class StoreUnusable(StoreError):
    """The store cannot be used as it is: its schema, its file or its disk."""


class ReservationConflict(BudgetGuardError):
    """A reservation id was used again with other content."""


class ReservationFinished(BudgetGuardError):
    """The reservation has already been settled, released or expired."""


class GuardClosed(BudgetGuardError):
    """The guard was closed with `aclose()`; make a new one."""


class GuardForked(BudgetGuardError):
    """The guard was opened in another process; make a new one in each child after the fork."""
