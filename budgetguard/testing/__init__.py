"""For tests: a provider that keeps its own bill, a clock that moves when it is told to, a check of stores.

`budgetguard.testing.pytest_plugin` is the plugin of pytest; it needs no import.
"""

from __future__ import annotations

from budgetguard.testing.bill import BilledCall, ProviderPrice, read_bill
from budgetguard.testing.chat import count_input_tokens, count_tokens
from budgetguard.testing.clock import FakeClock
from budgetguard.testing.provider import FakeProvider
from budgetguard.testing.recorded import Recorded, exchange_reply, recorded_exchange
from budgetguard.testing.reply import NO_ANSWER, Reply, aws_event, json_line, sse_event
from budgetguard.testing.store_check import check_store
from budgetguard.testing.store_rules import StoreContractBroken

__all__ = [
    "NO_ANSWER",
    "BilledCall",
    "FakeClock",
    "FakeProvider",
    "ProviderPrice",
    "Recorded",
    "Reply",
    "StoreContractBroken",
    "aws_event",
    "check_store",
    "count_input_tokens",
    "count_tokens",
    "exchange_reply",
    "json_line",
    "read_bill",
    "recorded_exchange",
    "sse_event",
]
