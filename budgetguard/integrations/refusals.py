"""Errors that the SDKs let through: they retry what they do not know, and report it as a lost connection.

OpenAI's and Anthropic's raise their own errors as they are, at the first attempt. So what the guard raises inside an
SDK is of both kinds; that callers who catch their SDK's errors catch it holds for all. (Groq's and Together's retry
their own as well: see `http_clients.py`.)
"""

from __future__ import annotations

import sys
from typing import Any

from budgetguard.errors import BudgetExceeded, BudgetGuardError

TOO_MANY_REQUESTS = 429
_made: dict[tuple[type[Exception], ...], type[BudgetGuardError]] = {}
_BASES = {"anthropic": "AnthropicError", "groq": "GroqError", "openai": "OpenAIError", "together": "TogetherError"}


def for_sdks(error: BudgetGuardError) -> BudgetGuardError:
    """The same error, which is also one of each SDK that is imported; of a budget, with `status_code` 429."""
    bases = tuple(
        base for name, base_name in _BASES.items() if (base := getattr(sys.modules.get(name), base_name, None))
    )
    if not bases or isinstance(error, bases):
        return error
    kind = _kind(type(error), bases)
    made: BudgetGuardError = kind.__new__(kind, *error.args)
    made.__dict__.update(error.__dict__)
    return made.with_traceback(error.__traceback__)


def _kind(own: type[BudgetGuardError], bases: tuple[type[Exception], ...]) -> type[BudgetGuardError]:
    made = _made.get((own, *bases))
    if made is None:
        made = _made[(own, *bases)] = _new_kind(own, bases)
    return made


def _new_kind(own: type[BudgetGuardError], bases: tuple[type[Exception], ...]) -> type[BudgetGuardError]:
    def reduce(self: BudgetGuardError) -> tuple[Any, ...]:  # an SDK need not be there where it is unpickled
        return own, self.args

    members: dict[str, Any] = {"__module__": own.__module__, "__doc__": own.__doc__, "__reduce__": reduce}
    members["unsafe_to_replay"] = True  # OpenAI's Agents SDK asks before it tries again, whatever the status
    if issubclass(own, BudgetExceeded):
        members["status_code"] = TOO_MANY_REQUESTS
    return type(own.__name__, (own, *bases), members)
