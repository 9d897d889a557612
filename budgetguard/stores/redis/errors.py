"""A server's error replies, and what each calls for (FAILURES 2.1)."""

from __future__ import annotations

import re
from typing import Literal

Remedy = Literal["return", "retry", "give up at the deadline", "give up"]

# Not applied, and healed by waiting or by finding the primary.
_PASSING = {
    "READONLY", "LOADING", "NOREPLICAS", "MISCONF", "BUSY", "CLUSTERDOWN", "MOVED", "ASK", "TRYAGAIN", "MASTERDOWN",
}  # fmt: skip
# Not applied, and healed by an operator only: perhaps before the deadline.
_LASTING = {"NOAUTH", "WRONGPASS", "NOPERM", "OOM", "DENIED"}
# After these the next try needs another connection: to the primary, to one that is served, or logged in again.
_ELSEWHERE = {
    "READONLY", "LOADING", "CLUSTERDOWN", "MOVED", "ASK", "MASTERDOWN", "NOAUTH", "WRONGPASS", "DENIED", "MAXCLIENTS",
}  # fmt: skip
# Redis before 7.0 tells what stopped a script inside an ERR line: "ERR Error running script (call to f_<sha>):
# @user_script:1: @user_script: 1: -READONLY You can't write...".
_IN_SCRIPT = re.compile(r"@user_script:\s*\d+:\s*-?([A-Z]+)\s")
_ERR_CODES = (("max number of clients", "MAXCLIENTS"), ("AUTH", "WRONGPASS"), ("invalid password", "WRONGPASS"))


class ReplyError(Exception):
    """An error reply: `text` is its line, `code` the word that says what it is (of a script's: what stopped it)."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.code = _code(text)

    @property
    def remedy(self) -> Remedy:
        """What the client does about it."""
        if self.code == "CROSSSLOT":
            return "give up"
        if self.code in _LASTING:
            return "give up at the deadline"
        return "retry" if self.code in _PASSING or self.code == "MAXCLIENTS" else "return"

    @property
    def elsewhere(self) -> bool:
        """Whether the next try needs another connection."""
        return self.code in _ELSEWHERE


def _code(text: str) -> str:
    code, _, rest = text.partition(" ")
    if code != "ERR":
        return code
    found = _IN_SCRIPT.findall(rest)
    return found[-1] if found else code
