"""Writes every Lua script to a folder as Redis gets it: a verb's own file and its includes share their locals."""

from __future__ import annotations

import sys
from pathlib import Path

from budgetguard.stores import scripts

for name in scripts.NAMES:
    for clock, manual in (("", False), ("_manual", True)):
        (Path(sys.argv[1]) / f"{name}{clock}.lua").write_bytes(scripts.script(name, manual).body)
