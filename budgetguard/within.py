"""`guard.within("$2", name="run")`: a run's own budget over all that is awaited inside; and `bg.stop_at_refusal()`."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Sequence
from contextvars import ContextVar
from types import TracebackType

from budgetguard.core.amounts import shown
from budgetguard.core.grammar import limit_from
from budgetguard.core.model import Account, Claim
from budgetguard.errors import BudgetExceeded, InvalidLimit
from budgetguard.labels import check_label

OF_A_RUN = re.compile(r"#[0-9a-f]{12}$")
"""How the names of these budgets end: no policy states them."""
_scopes: ContextVar[tuple[Within, ...]] = ContextVar("budgetguard_within", default=())
_stops: ContextVar[tuple[stop_at_refusal, ...]] = ContextVar("budgetguard_stops", default=())


def claims_around(guard: object) -> tuple[Claim, ...]:
    """What the scopes of this guard around the caller claim, the outermost first."""
    return tuple([claim for scope in _scopes.get() if scope.guard is guard for claim in scope.claims])


def tell_scopes(refusal: BudgetExceeded) -> None:
    """Let the scopes around the caller remember a refusal that is theirs."""
    for scope in _scopes.get():
        scope.refused(refusal)
    for stop in _stops.get():
        stop.refused(refusal)


def raise_if_stopped() -> None:
    """Pass where no `stop_at_refusal` around the caller has seen a refusal.

    Raises:
        BudgetExceeded: the one that it has seen.
    """
    for scope in _stops.get():
        if scope.refusal is not None:
            raise copy.copy(scope.refusal)  # whoever has that one has its traceback


class stop_at_refusal:
    """Inside this block the first refusal is the last word: no later call is admitted, each is refused with it.

        with bg.stop_at_refusal():
            await agent.run(...)

    For agents, whose frameworks tell the model what a tool has raised, or try again, or fall back. If the code inside
    swallows the refusal, it is raised again when the block ends without another error. It reaches all that is awaited
    or started inside; each use is a new one.
    """

    def __init__(self) -> None:
        self.refusal: BudgetExceeded | None = None
        """The first that a call inside met."""

    def refused(self, refusal: BudgetExceeded) -> None:
        """A call inside was refused."""
        self.refusal = self.refusal or refusal

    def __enter__(self) -> stop_at_refusal:
        if self.refusal is not None or self in _stops.get():
            raise RuntimeError("this block was entered before: call bg.stop_at_refusal() for each block")
        _stops.set((*_stops.get(), self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _stops.set(tuple(scope for scope in _stops.get() if scope is not self))
        if error is None and self.refusal is not None:
            raise self.refusal


class Within:
    """A budget that lives as long as its block. Its limits count in every call that is awaited inside.

    A refusal by it that the code inside swallows is raised again when the block ends without another error.
    """

    def __init__(self, guard: object, limits: Sequence[str], name: str) -> None:
        """`limits` are amounts without a period ("$2", "200k tokens") or with `/total`.

        Raises:
            InvalidLimit: a limit cannot be read, or is not one for a run.
            InvalidLabel: the name is not text of 1 to 512 bytes.
        """
        check_label("name", name)
        self.guard = guard
        self.name = f"{name}#{os.urandom(6).hex()}"
        """The budget's name in refusals and in the ledger: unique to this run."""
        claims: dict[str, Claim] = {}
        for text in limits:
            limit = limit_from(text, default_period="total")
            if limit.period.kind not in ("total", "concurrent") or limit.unit in claims:
                raise InvalidLimit(
                    f"limit {shown(text)}: a run has one limit for each unit, over all of it; "
                    "write $2, 200k tokens or 5 concurrent"
                )
            claims[limit.unit] = Claim(Account(self.name, (), limit.unit, limit.period), limit.amount)
        if not claims:
            raise InvalidLimit('a run needs at least one limit, such as "$2"')
        self.claims = tuple(claims.values())
        self._refusal: BudgetExceeded | None = None

    def refused(self, refusal: BudgetExceeded) -> None:
        """A call inside was refused; remember it if this scope is among those that did."""
        if any(violation.account.budget == self.name for violation in refusal.violations):
            self._refusal = self._refusal or refusal

    def __enter__(self) -> Within:
        if self in _scopes.get():
            raise RuntimeError("this run is already entered here: call guard.within() for each block")
        _scopes.set((*_scopes.get(), self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _scopes.set(tuple(scope for scope in _scopes.get() if scope is not self))
        refusal, self._refusal = self._refusal, None
        if error is None and refusal is not None:
            raise refusal

    async def __aenter__(self) -> Within:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)
