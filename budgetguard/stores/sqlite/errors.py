"""SQLite's errors, as ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import apsw

from budgetguard.errors import BudgetGuardError, StoreAway, StoreUnusable

T = TypeVar("T")


def translated(job: Callable[[], T], path: str) -> T:
    """Run the job; SQLite's errors come out as ours. A busy file was not changed."""
    try:
        return job()
    except BudgetGuardError:
        raise
    except (apsw.BusyError, apsw.LockedError) as error:
        raise StoreAway(f"the store {path} is held by another process's transaction: {error}") from error
    except (apsw.Error, OSError) as error:
        raise StoreUnusable(
            f"the store {path} cannot be used: {error}; check the file, its folder and the disk"
        ) from error
