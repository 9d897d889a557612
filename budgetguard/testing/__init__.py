"""For tests and demonstrations: a provider that keeps its own bill, and a clock that moves when it is told to."""

from __future__ import annotations

from budgetguard.testing.bill import BilledCall, ProviderPrice, read_bill
from budgetguard.testing.chat import count_input_tokens, count_tokens
from budgetguard.testing.clock import ManualClock
from budgetguard.testing.provider import FakeProvider

__all__ = [
    "BilledCall",
    "FakeProvider",
    "ManualClock",
    "ProviderPrice",
    "count_input_tokens",
    "count_tokens",
    "read_bill",
]
