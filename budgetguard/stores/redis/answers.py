"""What Lua answers, as verdicts and settlements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from budgetguard.core.amounts import Amounts
from budgetguard.core.model import Account, Alert, Violation
from budgetguard.core.verbs import Extend, Grow, Reserve, Settlement, SettlementWord, Verdict, VerdictWord
from budgetguard.errors import OutboxFull, StoreError, StoreUnusable
from budgetguard.stores.redis.errors import ReplyError, lacking, unreadable
from budgetguard.stores.redis.operations import Announce
from budgetguard.stores.redis.plans import accounts_from

Accounts = Mapping[bytes, Account]
_VERDICTS: dict[bytes, VerdictWord] = {word.encode(): word for word in get_args(VerdictWord)}
_SETTLEMENTS: dict[bytes, SettlementWord] = {word.encode(): word for word in get_args(SettlementWord)}
_ASK_VERDICT = (Reserve, Grow, Extend)
OUTBOX_FULL = (
    "the outbox is full of ledger rows that nobody has drained, and calls are refused until there is room: "
    "run `budgetguard ledger drain`"
)
NO_MEMORY, UNDECLARED, UNTOLD = b"no_memory", b"undeclared", b"untold"
"""Answers after which an operation is asked again: keys or details were left out that it needs."""


def answer_of(op: Any, said: list[Any], now_ms: int, accounts: Accounts) -> Any:
    """The answer to an operation; `accounts` are those of the plan that it carried, by digest.

    Raises:
        StoreError: it could not be done, and changed nothing.
    """
    word = said[0]
    if type(op) in _ASK_VERDICT and word in _VERDICTS:
        return _verdict(said, now_ms, accounts)
    if type(op) is Announce and word in (b"yes", b"no"):
        return word == b"yes"
    if word in _SETTLEMENTS:
        return _settlement(said, now_ms, accounts)
    raise _error(op, word, said[1] if len(said) > 1 else b"")


def _verdict(said: list[Any], now_ms: int, accounts: Accounts) -> Verdict:
    word = _VERDICTS[said[0]]
    if len(said) < 3:
        return Verdict(word, now_ms, said[1] if len(said) == 2 else 0)
    _, admitted_ms, violations, shadows, alerts, sweep_due, words = said
    accounts = {**accounts, **accounts_from(words)} if words else accounts
    return Verdict(
        word, now_ms, admitted_ms, tuple(_violation(found, accounts) for found in violations),
        tuple(name.decode() for name in shadows), _alerts(alerts, accounts), bool(sweep_due),
    )  # fmt: skip


def _settlement(said: list[Any], now_ms: int, accounts: Accounts) -> Settlement:
    word = _SETTLEMENTS[said[0]]
    if len(said) == 1:
        return Settlement(word, now_ms)
    _, alerts, overdrawn, overage, words = said
    accounts = {**accounts, **accounts_from(words)} if words else accounts
    above = tuple(accounts[digest].key for digest in overdrawn)
    return Settlement(word, now_ms, _alerts(alerts, accounts), Amounts(*overage) if overage else Amounts(), above)


def _alerts(alerts: list[Any], accounts: Accounts) -> tuple[Alert, ...]:
    return tuple(Alert(accounts[digest], threshold, limit, level) for digest, threshold, limit, level in alerts)


def _violation(found: list[Any], accounts: Accounts) -> Violation:
    digest, reason, limit, spent, reserved, requested, resets_at_ms, retry_ms = found
    return Violation(
        accounts[digest], reason.decode(), limit, spent, reserved, requested,
        None if resets_at_ms < 0 else resets_at_ms, None if retry_ms < 0 else retry_ms,
    )  # fmt: skip


def _error(op: Any, word: bytes, what: Any) -> StoreError:
    text = what.decode(errors="replace") if isinstance(what, bytes) else str(what)
    if word == b"outbox_full":
        return OutboxFull(OUTBOX_FULL)
    if word == NO_MEMORY:
        return StoreUnusable("the server's memory is full: raise its maxmemory, or drain the outbox")
    if word == b"broken":
        return StoreUnusable(unreadable(text))
    if ReplyError(text).code == "NOPERM":
        return StoreUnusable(f"the store cannot be used: {lacking(text)}")
    return StoreUnusable(f"the scripts could not do {type(op).__name__.lower()}: {word.decode()} {text}")
