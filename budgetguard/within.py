"""`guard.within("$2", name="run")`: a run's own budget over all that is awaited inside."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextvars import ContextVar, Token
from types import TracebackType

from budgetguard.core.grammar import limit_from
from budgetguard.core.model import Account, Claim
from budgetguard.errors import BudgetExceeded
from budgetguard.labels import check_label

_scopes: ContextVar[tuple[Within, ...]] = ContextVar("budgetguard_within", default=())


def scopes_of(guard: object) -> tuple[Within, ...]:
    """The scopes of this guard around the caller, the outermost first."""
    return tuple(scope for scope in _scopes.get() if scope.guard is guard)


class Within:
    """A budget that lives as long as its block. Its limits count in every call that is awaited inside.

    A refusal by it that the code inside swallows is raised again when the block ends without another error.
    """

    def __init__(self, guard: object, limits: Sequence[str], name: str) -> None:
        """`limits` are amounts without a period ("$2", "200k tokens") or with `/total`.

        Raises:
            InvalidLimit: a limit cannot be read.
            InvalidLabel: the name is not text of 1 to 512 bytes.
        """
        check_label("name", name)
        self.guard = guard
        self.name = f"{name}#{secrets.token_hex(6)}"
        """The budget's name in refusals and in the ledger: unique to this run."""
        parsed = [limit_from(limit, default_period="total") for limit in limits]
        self.claims = tuple(Claim(Account(self.name, (), p.unit, p.period), p.amount) for p in parsed)
        self._refusal: BudgetExceeded | None = None
        self._token: Token[tuple[Within, ...]] | None = None

    def refused(self, refusal: BudgetExceeded) -> None:
        """A call inside was refused; remember it if this scope is among those that did."""
        if any(violation.account.budget == self.name for violation in refusal.violations):
            self._refusal = self._refusal or refusal

    async def __aenter__(self) -> Within:
        self._token = _scopes.set((*_scopes.get(), self))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _scopes.reset(self._token)
            self._token = None
        refusal, self._refusal = self._refusal, None
        if error is None and refusal is not None:
            raise refusal
