"""SQLite's errors, as ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import apsw

from budgetguard.errors import BudgetGuardError, StoreAway, StoreUnusable

T = TypeVar("T")


def translated(job: Callable[[], T], what: str, passing: tuple[type[apsw.Error], ...] = ()) -> T:
    """Run the job; SQLite's errors come out as ours, but for those that pass. A busy file was not changed.

    Args:
        what: the file, as the user is told of it: "the store /var/lib/budgets.db".
    """
    try:
        return job()
    except BudgetGuardError:
        raise
    except passing:
        raise
    except (apsw.BusyError, apsw.LockedError) as error:
        raise StoreAway(f"{what} is held by another process's transaction: {error}") from error
    except (apsw.Error, OSError) as error:
        raise StoreUnusable(f"{what} cannot be used: {error}; check the file, its folder and the disk") from error
