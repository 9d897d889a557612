"""The command line: `budgetguard init | check | status | holds | ledger | simulate | demo`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command that `sys.argv` asks for, and exit: 0 done, 1 checked and found wrong, 2 not done."""
    try:
        from budgetguard.cli.app import run
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(run(sys.argv[1:]))
