"""What a page of accounts or of open reservations is asked for: the same of every store."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from budgetguard.core.model import NO_LABEL
from budgetguard.store import HoldRow


class Query(NamedTuple):
    """Globs (as fnmatchcase) of a budget's name and of labels; a label that is missing matches "(none)"."""

    namespace: str
    budget: str
    labels: Mapping[str, str]
    cursor: str | None
    most: int

    @property
    def keys(self) -> tuple[str, str]:
        """Between which keys the accounts stand: a key begins with its budget's name, as JSON."""
        literal = re.sub(r"\[([*?[])\]", r"\1", self.budget)
        if glob.escape(literal) != self.budget:
            return "", "\x7f"
        head = json.dumps([literal])[:-1]
        return f"{head},", f"{head}-"

    def finds_account(self, budget: str, per: Mapping[str, str]) -> bool:
        """Whether an account is asked for. A label that is not among its `per` does not tell accounts apart."""
        asked = {name: glob for name, glob in self.labels.items() if name in per}
        return self._replace(labels=asked).matches({budget}, per)

    def finds_hold(self, row: HoldRow) -> bool:
        """Whether an open reservation is asked for; one that no budget covers, only where any budget will do."""
        return self.matches({account.budget for account in row.accounts} or {"*"}, row.labels)

    def matches(self, budgets: set[str], labels: Mapping[str, str]) -> bool:
        """Whether one of the budgets, and all labels that are asked for, match."""
        return any(fnmatchcase(budget, self.budget) for budget in budgets) and all(
            fnmatchcase(labels.get(name, NO_LABEL), glob) for name, glob in self.labels.items()
        )
