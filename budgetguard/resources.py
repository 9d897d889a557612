"""What the engines of one guard share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from budgetguard.draining import Drain
from budgetguard.events import Event
from budgetguard.learning.forecasting import Forecasting
from budgetguard.outcome import Outcome
from budgetguard.refusal_counts import RefusalCounts
from budgetguard.settling import Spool

if TYPE_CHECKING:
    from budgetguard.alerts.alerting import Alerting
    from budgetguard.policy import Policy
    from budgetguard.store import Store


@dataclass
class Resources:
    """Made once for a guard; a reload puts another policy in it."""

    policy: Policy
    store: Store
    spool: Spool
    notify: Callable[[Event], None]
    outcome_of: Callable[[BaseException], Outcome]
    check_policy: Callable[[], None]
    """Read the policy's file again if it has changed."""
    refusals: RefusalCounts
    drain: Callable[[], Drain] | None
    """Makes the drain of an event loop; None where nothing is drained here."""
    alerting: Callable[[Callable[[], int]], Alerting]
    """Makes the alerts of an event loop, which is given the store's time."""
    forecasting: Forecasting

    @property
    def waits(self) -> bool:
        """Whether anything that was counted or learned waits to be kept."""
        return self.refusals.waits or self.forecasting.waits
