"""The rules that a store's answers keep, by name; and the error that says which of them was broken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from budgetguard.core.verbs import Verdict
from budgetguard.testing.oracle import Announce

RULES: Mapping[str, str] = {
    "now_ms": "every answer carries the store's time, which never runs backwards",
    "admitted_ms": "a call is admitted once, and keeps that instant",
    "violations": "a refusal names every limit that refused, in the plan's order, and for each what stands and why",
    "would_refuse": "shadow budgets are counted unchecked, and those without room are named",
    "alerts": "an account's alert is told once, to whoever takes its level over the threshold",
    "overage": "what is charged above the reservation is told as overage",
    "overdrawn": "accounts that stand above their limit are named",
}
"""By the field of an answer that differs."""


class StoreContractBroken(AssertionError):
    """A store did what its contract (`budgetguard.store`) forbids.

    Args:
        rule: which rule.
        case: what was asked.
        found: what the store answered or showed.
        wanted: what it was to answer or show.
    """

    def __init__(self, rule: str, case: object, found: object, wanted: object) -> None:
        super().__init__(f"{rule}\n  asked:  {case}\n  found:  {found}\n  wanted: {wanted}")
        self.rule = rule


def require(held: bool, rule: str, found: object, wanted: object = "", case: object = "") -> None:
    """Raise StoreContractBroken unless a rule was held."""
    if not held:
        raise StoreContractBroken(rule, case, found, wanted)


def difference(
    ops: Sequence[Any], states: Mapping[str, str], wanted: Sequence[Any], found: Sequence[Any], due: tuple[bool, bool]
) -> StoreContractBroken | None:
    """The first rule that the answers to a batch break; None if they are right.

    Args:
        states: of the reservations, before the batch, by id.
        due: whether leases of others had passed before and after the batch.
    """
    if len(found) != len(wanted):
        return StoreContractBroken("a batch has one answer for each operation", list(ops), found, wanted)
    for op, want, got in zip(ops, wanted, found, strict=True):
        rule = _broken(op, states, want, got, due)
        if rule is not None:
            return StoreContractBroken(rule, op, got, want)
    return None


def _broken(op: Any, states: Mapping[str, str], want: Any, got: Any, due: tuple[bool, bool]) -> str | None:
    if isinstance(op, Announce):
        return None if got is want else "a level of an account is announced to exactly one asker"
    verb = type(op).__name__.lower()
    if type(got) is not type(want):
        return f"{verb} answers with a {type(want).__name__}"
    if got.word != want.word:
        return f"{verb} of an id that is {states[op.id]} answers {want.word!r}"
    if isinstance(got, Verdict):
        # A hint, not a decision: it must be there if something was due all the while, and not if nothing was.
        if got.word == "refused" and ((all(due) and not got.sweep_due) or (got.sweep_due and not due[0])):
            return "a refusal says whether leases have passed, so that a sweep may make room"
        got = got._replace(sweep_due=want.sweep_due)
    return next((RULES[name] for name in want._fields if getattr(got, name) != getattr(want, name)), None)
