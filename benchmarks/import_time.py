"""What `import budgetguard` costs beside `import asyncio`, and what it brings along."""

from __future__ import annotations

import os
import subprocess
import sys

from figures import ROOT, Figure, Sizes, at_most, median, progress

BOUND_MS = 60
PER_ROUND = 3
OPTIONAL = (
    "anthropic",
    "anyio",
    "apsw",
    "genai_prices",
    "httpx",
    "httpx2",
    "limits",
    "openai",
    "pydantic",
    "redis",
    "rich",
    "structlog",
    "tenacity",
    "typer",
)
TIMED = "import time; started = time.process_time(); import {}; print((time.process_time() - started) * 1e3)"
"""An import computes: by CPU time, so that whatever else runs on the machine does not count."""
BROUGHT = "import sys, budgetguard; print(*sorted({{name.split('.')[0] for name in sys.modules}} & {optional!r}))"


def figures(sizes: Sizes) -> list[Figure]:
    """Each import in a process of its own."""
    progress("import budgetguard")
    _python(TIMED.format("budgetguard"))  # compiles what is not compiled yet
    floors, subjects = [], []
    for _ in range(sizes.rounds * PER_ROUND):
        floors.append(float(_python(TIMED.format("asyncio"))))
        subjects.append(float(_python(TIMED.format("budgetguard"))))
    more = median([subject - floor for floor, subject in zip(floors, subjects, strict=True)])
    brought = _python(BROUGHT.format(optional=set(OPTIONAL))).strip()
    made_of = f"{median(subjects):.0f} ms by {median(floors):.0f} ms, CPU time"
    return [
        at_most("import budgetguard beyond import asyncio, ms", more, BOUND_MS, made_of, "{:.0f}"),
        Figure("   optional packages that it imports", brought or "none", "none", not brought),
    ]


def _python(program: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
