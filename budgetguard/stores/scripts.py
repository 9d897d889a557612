"""The Lua scripts: finds `lua/`, puts includes in their places, and names each by its SHA-1 as Redis does.

They live in `lua/` at the top of a checkout and in `budgetguard/lua` of a wheel.
"""

from __future__ import annotations

import re
from functools import cache
from hashlib import sha1
from pathlib import Path
from typing import NamedTuple

from budgetguard.errors import StoreUnusable

INCLUDE = re.compile(r"^--- include (\S+)\n", re.MULTILINE)
NAMES = ("batch", "open", "due", "clock", "prune", "tell", "note", "learn", "claim", "rebuild", "look")
"""The scripts that are called; the verbs and `lib/` are parts of them."""
COMMAND = re.compile(r"redis\.p?call\('([A-Z]+)'")


class Script(NamedTuple):
    """What Redis is sent: the whole text, or its SHA-1 where it has that text already."""

    body: bytes
    sha: bytes


def lua_dir() -> Path:
    """The folder of the Lua scripts: the wheel's, or the checkout's where the package is used from one.

    Raises:
        StoreUnusable: neither is there.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "lua", package.parent / "lua"):
        if (folder / "README.md").is_file():
            return folder
    raise StoreUnusable(f"the Lua scripts are missing from {package}: install llm-budgetguard again")


@cache
def script(name: str, manual_clock: bool = False) -> Script:
    """A script of `NAMES`, its includes in their places; with `manual_clock` it takes the time as an argument.

    Raises:
        StoreUnusable: a file is missing.
    """
    text = _text(name)
    while found := INCLUDE.search(text):
        part = found[1] + "_manual" if manual_clock and found[1] == "lib/now" else found[1]
        text = text[: found.start()] + _text(part) + text[found.end() :]
    body = text.encode()
    return Script(body, sha1(body, usedforsecurity=False).hexdigest().encode())


@cache
def commands() -> tuple[str, ...]:
    """What Redis is asked to do by any of the scripts: who calls them must be permitted that, too."""
    return tuple(sorted({command for each in _all() for command in COMMAND.findall(each.body.decode())}))


def command_at(sha: str, line: int) -> str:
    """What a line of the script with this SHA-1 asks Redis to do; "" where that is not known."""
    body = next((each.body.decode() for each in _all() if each.sha == sha.encode()), "")
    found = COMMAND.search("".join(body.split("\n")[line - 1 : line]))
    return found[1] if found else ""


def _all() -> list[Script]:
    return [script(name, manual_clock) for name in NAMES for manual_clock in (False, True)]


def _text(part: str) -> str:
    path = lua_dir() / f"{part}.lua"
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise StoreUnusable(
            f"the Lua script {path.name} cannot be read ({error}): install llm-budgetguard again"
        ) from None
