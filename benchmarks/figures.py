"""What the benchmark says: figures with their bounds, as a table under the commit and versions they belong to."""

from __future__ import annotations

import itertools
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import apsw
import redis

import budgetguard

T = TypeVar("T")
ROOT = Path(budgetguard.__file__).resolve().parent.parent


@dataclass(frozen=True)
class Sizes:
    """How much is measured: medians are over `rounds`, each with the floor and the subject in turn."""

    rounds: int = 5
    seconds: float = 2.0
    """Of each measurement by the clock."""
    accounts: int = 1_000_000
    calls: int = 2_000
    """Of each measurement by CPU time."""
    folder: Path = Path(tempfile.gettempdir())
    """Where files are made: the floor and the subject beside each other."""
    installs: bool = True
    """Whether peers may be installed, in a folder of their own."""


@dataclass(frozen=True)
class Figure:
    """One line of the table. `met` is None where nothing is asked; `made_of` says from which numbers it comes."""

    what: str
    value: str
    asked: str = ""
    met: bool | None = None
    made_of: str = ""


def at_least(what: str, value: float, bound: float, made_of: str, form: str = "{:.2f}") -> Figure:
    """A figure that must not be below its bound."""
    return Figure(what, form.format(value), f">= {bound:g}", value >= bound, made_of)


def at_most(what: str, value: float, bound: float, made_of: str, form: str = "{:.2f}") -> Figure:
    """A figure that must not be above its bound."""
    return Figure(what, form.format(value), f"<= {bound:g}", value <= bound, made_of)


def batched(items: Iterable[T], most: int) -> Iterator[list[T]]:
    """Lists of so many items, the last of what is left."""
    rest = iter(items)
    while batch := list(itertools.islice(rest, most)):
        yield batch


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)


@contextmanager
def fresh_folder(sizes: Sizes) -> Iterator[Path]:
    """A folder for the files of one measurement, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="budgetguard-bench-", dir=sizes.folder) as name:
        yield Path(name)


def heading(sizes: Sizes) -> str:
    """The commit and versions that the figures belong to."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return "\n".join(
        [
            f"budgetguard at {_commit()}",
            f"{python}, apsw {apsw.apsw_version()}, SQLite {apsw.sqlite_lib_version()}, redis-py {redis.__version__}, "
            f"{_redis_server()}",
            f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, load {_load()}",
            f"medians of {sizes.rounds}, floor and subject in turn",
        ]
    )


def show(figures: Sequence[Figure]) -> None:
    """Print the table."""
    marks = {True: "met", False: "MISSED", None: ""}
    rows = [("", "figure", "value", "asked", "from")]
    rows += [(marks[figure.met], figure.what, figure.value, figure.asked, figure.made_of) for figure in figures]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def progress(text: str) -> None:
    """Say what is being measured, where somebody looks."""
    if sys.stderr.isatty():
        print(f"... {text}", file=sys.stderr)


def _commit() -> str:
    git = ["git", "-C", str(ROOT)]
    try:
        commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "a commit that is not known: it is not in a checkout"
    return commit.stdout.strip() + (" with changes" if changed.stdout.strip() else "")


def _redis_server() -> str:
    """Its name and version, as it says them."""
    program = shutil.which("redis-server")
    if program is None:
        return "no redis-server"
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return "redis-server " + next((word[2:] for word in said.split() if word.startswith("v=")), "of no known version")


def _load() -> str:
    return "{:.1f} {:.1f} {:.1f}".format(*os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"
