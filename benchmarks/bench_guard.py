"""The guard's speed, as ratios against a floor of the same run: `python benchmarks/bench_guard.py`.

Prints a table with commit and versions; exits with 1 if a figure misses its bound.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import guard_cpu
import import_time
import learned_cpu
import many_accounts
import redis_accounts
import redis_memory
import redis_peers
import redis_rate
import sqlite_rate
from figures import Sizes, heading, show

SECTIONS = {
    "sqlite": {
        "sqlite": sqlite_rate.figures,
        "cpu": guard_cpu.figures,
        "learned": learned_cpu.figures,
        "accounts": many_accounts.figures,
        "import": import_time.figures,
    },
    "redis": {
        "rate": redis_rate.figures,
        "memory": redis_memory.figures,
        "accounts": redis_accounts.figures,
        "peers": redis_peers.figures,
    },
}
"""By store."""


def main() -> int:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=SECTIONS, default="sqlite", help="which one (default: sqlite)")
    parser.add_argument("--rounds", type=int, help="how often the floor and the subject take turns (default: 5)")
    parser.add_argument("--quick", action="store_true", help="once, and small: shows that it runs, measures nothing")
    parser.add_argument(
        "--folder", type=Path, help="where files are made: on the disk that matters (default: the working directory)"
    )
    of_each = "; ".join(f"{store}: {', '.join(sections)}" for store, sections in SECTIONS.items())
    parser.add_argument("sections", nargs="*", metavar="section", help=f"of {of_each} (default: all of the store)")
    asked = parser.parse_args()
    sections = SECTIONS[asked.store]
    unknown = set(asked.sections) - set(sections)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}: there are {of_each}")
    folder = (asked.folder or Path.cwd()).resolve()
    sizes = Sizes(rounds=1, seconds=0.1, accounts=1_000, calls=50, installs=False) if asked.quick else Sizes()
    sizes = replace(sizes, rounds=asked.rounds or sizes.rounds, folder=folder)
    print(heading(sizes), end="\n\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="budgetguard-bench-", dir=folder) as state:
        os.environ["XDG_STATE_HOME"] = state  # nothing of the user's is touched
        found = [figure for name in asked.sections or sections for figure in sections[name](sizes)]
    show(found)
    return int(any(figure.met is False for figure in found))


if __name__ == "__main__":
    sys.exit(main())
