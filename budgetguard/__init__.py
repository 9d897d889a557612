"""budgetguard: every LLM call held to the budgets of its agent and its team.

The public names, and nothing else:

    import budgetguard as bg

    guard = bg.Guard("$5/day")
"""

from budgetguard.alerts.raised import AlertRaised
from budgetguard.alerts.settings import AlertRoute, AlertSettings
from budgetguard.core.model import Limit, Violation
from budgetguard.errors import (
    BudgetExceeded,
    BudgetGuardError,
    CallRefused,
    CallUnmatched,
    ConfigError,
    EstimateRequired,
    GuardClosed,
    GuardForked,
    InvalidAmount,
    InvalidInput,
    InvalidLabel,
    InvalidLimit,
    LabelRequired,
    OutboxFull,
    PriceUnknown,
    ReservationConflict,
    ReservationFinished,
    StateLost,
    StoreAway,
    StoreClockBehind,
    StoreError,
    StoreUnusable,
    UnguardedApi,
)
from budgetguard.estimates.settings import EstimateSettings
from budgetguard.events import Event, Observer
from budgetguard.guard import Guard
from budgetguard.hold import Hold
from budgetguard.labels import acting_as, carry
from budgetguard.owners import Owner
from budgetguard.policy import Budget, GuardSettings, LabelRules, LedgerSettings, StoreSettings
from budgetguard.price import Price
from budgetguard.refusal import refusal_in
from budgetguard.usage import Usage
from budgetguard.wire.hosts import Host
from budgetguard.within import stop_at_refusal

__all__ = [
    "AlertRaised",
    "AlertRoute",
    "AlertSettings",
    "Budget",
    "BudgetExceeded",
    "BudgetGuardError",
    "CallRefused",
    "CallUnmatched",
    "ConfigError",
    "EstimateRequired",
    "EstimateSettings",
    "Event",
    "Guard",
    "GuardClosed",
    "GuardForked",
    "GuardSettings",
    "Hold",
    "Host",
    "InvalidAmount",
    "InvalidInput",
    "InvalidLabel",
    "InvalidLimit",
    "LabelRequired",
    "LabelRules",
    "LedgerSettings",
    "Limit",
    "Observer",
    "OutboxFull",
    "Owner",
    "Price",
    "PriceUnknown",
    "ReservationConflict",
    "ReservationFinished",
    "StateLost",
    "StoreAway",
    "StoreClockBehind",
    "StoreError",
    "StoreSettings",
    "StoreUnusable",
    "UnguardedApi",
    "Usage",
    "Violation",
    "acting_as",
    "carry",
    "refusal_in",
    "stop_at_refusal",
]
