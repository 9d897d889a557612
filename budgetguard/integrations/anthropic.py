"""`guard.wrap` for clients of the Anthropic SDK."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from budgetguard.integrations.stainless import guarded_copy

if TYPE_CHECKING:
    from budgetguard.clients import Clients


def wrap(guard: Clients, client: Any, labels: Mapping[str, str]) -> Any:
    """A guarded copy. Errors: those of `Guard.wrap`."""
    return guarded_copy(guard, client, labels)
