"""Writes every Lua script to a folder as Redis gets it: a verb's own file and its includes share their locals."""

from __future__ import annotations

import sys
from pathlib import Path

from budgetguard.stores import scripts

for name in scripts.names():
    (Path(sys.argv[1]) / f"{name}.lua").write_text(scripts.script(name).body, encoding="utf-8")
