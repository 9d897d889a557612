"""The benchmark of estimates runs to its end and prints its table. What it measures is no test's business."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_the_benchmark_of_estimates_runs_to_its_end_and_prints_its_table(checkout: Path) -> None:
    command = [sys.executable, "benchmarks/bench_estimate.py", "--quick"]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    heading, table = done.stdout.split("\n\n")
    assert heading.startswith("budgetguard at ")
    for figure in ("a chat of 4 KB", "large: emoji", "large: 100,000 tiny messages"):
        assert figure in table
    assert done.returncode == (1 if "MISSED" in table else 0)
