"""Finds the Lua scripts, which live in `lua/` at the top of a checkout and in `budgetguard/lua` of a wheel."""

from __future__ import annotations

from pathlib import Path

from budgetguard.errors import StoreUnusable


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
