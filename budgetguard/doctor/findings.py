"""What the doctor finds: one line for each thing that was looked at, and what to do where it is not well."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

State = Literal["ok", "warning", "failed"]
Facts = dict[str, Any]
"""Plain values by name, as JSON has them."""


class Check(NamedTuple):
    """One thing that was looked at, what was found, and what to do about it."""

    name: str
    state: State
    found: str
    do: str = ""


def failed(checks: Iterable[Check]) -> bool:
    """Whether anything must be mended."""
    return any(check.state == "failed" for check in checks)


def well(name: str, found: str) -> Check:
    """One that is as it should be."""
    return Check(name, "ok", found)


def without_secrets(text: str) -> str:
    """A URL, or a word of a command line, without its login and passwords, however badly those are written."""
    without_login = re.sub(r"(?s)(?<!sqlite)://.*@", "://***@", text)
    return re.sub(r"(?i)(password=)[^&]*", r"\1***", without_login)


def some(count: int, what: str) -> str:
    """`1 row`, `1,200 rows`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
