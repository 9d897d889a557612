"""What becomes of a call on the wire whose usage nobody told: one table.

| how it ended | what is settled |
|---|---|
| nothing was sent: no connection stood | released |
| answered with 3xx, 4xx (but 408, 499), 503 or 529: sent elsewhere, turned away | released |
| stopped, because a budget has no room for more of the stream | what was streamed |
| answered with 408, 499 or another 5xx; broken off, or an error inside it | `on_error` |
| cancelled by the caller, or a stream that it left unread | `on_cancel` |
| no answer came; or one that states no usage | `on_unknown_outcome` |

The settings say `release`, `input` (the estimated input), `streamed` (that and what was counted of a stream; the
estimate where the answer is no stream) or `estimate`. What an answer states for good is always what is settled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from budgetguard.core.verbs import EndStatus
from budgetguard.errors import BudgetGuardError
from budgetguard.outcome import LEFT, is_unsent
from budgetguard.parts import LEFT_UNREAD, Charge
from budgetguard.sharing import NOTHING
from budgetguard.usage import Usage

if TYPE_CHECKING:
    from budgetguard.answer import Answer
    from budgetguard.policy_settings import GuardSettings, WithoutUsage

TURNED_AWAY = frozenset([503, 529])
"""Answers of servers that are too busy to begin."""
TIMED_OUT = frozenset([408, 499])
"""Time ran out, with the provider perhaps still at work."""


def rule_of(error: BaseException | None, answer: Answer | None, settings: GuardSettings) -> WithoutUsage:
    """What to settle. `error` is what ended the exchange, GeneratorExit where the caller left; None if it is whole."""
    if isinstance(error, BudgetGuardError):
        return "streamed"
    if answer is None:
        if isinstance(error, LEFT):
            return settings.on_cancel
        return "release" if error is not None and is_unsent(error) else settings.on_unknown_outcome
    if not answer.is_success:
        refused = answer.status < 500 and answer.status not in TIMED_OUT
        return "release" if refused or answer.status in TURNED_AWAY else settings.on_error
    if answer.error:  # SDKs leave a stream when they read it
        return settings.on_error
    if isinstance(error, LEFT):
        return settings.on_cancel
    return settings.on_error if error is not None else settings.on_unknown_outcome


def charge_of(rule: WithoutUsage, answer: Answer | None, estimate: Usage) -> Charge | None:
    """What a rule says to settle: None for nothing."""
    if rule == "release":
        return None
    if rule == "input":
        return Charge(Usage(estimate.input_tokens, 0), "counted")
    if rule == "streamed" and answer is not None and answer.is_stream:
        return answer.so_far()
    return Charge(estimate, "estimate")


def charge_if_left(rule: WithoutUsage, answer: Answer, estimate: Usage) -> Charge:
    """The same for a stream that nobody reads any more, though it may have told its usage by then."""
    return answer.timed(answer.charge() or charge_of(rule, answer, estimate) or NOTHING)


def cause_of(error: BaseException | None, answer: Answer | None) -> str:
    """The name of what went wrong, for the ledger; "" for nothing: a caller may leave after the last word."""
    if answer is not None and not answer.is_success:
        return f"http_{answer.status}"
    told = None if answer is None else answer.error
    if told is not None:
        return told
    if isinstance(error, GeneratorExit):
        return "" if answer is not None and answer.charge() else LEFT_UNREAD
    return "" if error is None else type(error).__name__


def failure_of(error: BaseException | None, answer: Answer | None) -> str:
    """The same of a call that failed; "" where its caller left it, too."""
    has_failed = answer is not None and (not answer.is_success or answer.error is not None)
    return "" if isinstance(error, LEFT) and not has_failed else cause_of(error, answer)


def status_of(charge: Charge, error: BaseException | None, answer: Answer | None, cause: str) -> EndStatus:
    """The status of its ledger row."""
    if charge.source == "estimate":
        return "assumed"
    if charge.source == "reported" or not cause:
        return "settled"
    failed = answer is not None and answer.error
    return "cancelled" if isinstance(error, LEFT) and not failed else "error"
