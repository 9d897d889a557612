"""How a label's value is called where people read it."""

from __future__ import annotations

from budgetguard.core.model import NO_LABEL

OTHERS, TOTAL, UNALLOCATED = "(others)", "(total)", "(unallocated)"
_WORDS = frozenset((NO_LABEL, OTHERS, TOTAL, UNALLOCATED))


def name_shown(value: str, missing: str = NO_LABEL) -> str:
    """A label's value, or what stands for calls without it. One that would be taken for such a word, or whose spaces
    would not be seen, is in quotes.
    """
    if not value:
        return missing
    return f'"{value}"' if value in _WORDS or value != value.strip(" ") else value
