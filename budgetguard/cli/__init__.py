"""The command line: `budgetguard init | check | status | holds | simulate | demo`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command that `sys.argv` asks for, and exit: 0 done, 1 checked and found wrong, 2 not done."""
    from budgetguard.cli.app import run

    sys.exit(run(sys.argv[1:]))
