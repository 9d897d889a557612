"""Planted bugs (FAILURES 4.2): each is put into a copy of the package, one at a time, and the tests must fail there.

`mutants/*.toml` is the table: the file, the text that stands in it, the text of the bug, and the tests that must catch
it. A bug is caught when one of its tests fails by an assertion or an error of its own; not by a module that no longer
imports, nor by hanging. The same tests pass in an unchanged copy.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
TESTS = CHECKOUT / "tests"
COPIED = ("budgetguard", "tests", "lua", "pyproject.toml", "README.md")
DEADLINE_S, UNCHANGED_DEADLINE_S = 120, 600
NOT_A_BUG = re.compile(
    r"^E +(NameError|UnboundLocalError|ImportError|ModuleNotFoundError|SyntaxError)\b"
    r"|^E .*(Error compiling script|nonexistent global variable)",
    re.MULTILINE,
)
"""A copy that fails like this was broken, not given a bug."""


@dataclass(frozen=True)
class Mutant:
    """One planted bug: `old` stands exactly once in `file`; one of the tests in `killers` must fail with `new`.

    `file` is in the package, or a script in `lua/`.
    """

    name: str
    file: str
    old: str
    new: str
    killers: tuple[str, ...]

    def path(self, checkout: Path) -> Path:
        """Its file in a checkout, or a copy."""
        return checkout / self.file if self.file.startswith("lua/") else checkout / "budgetguard" / self.file

    def faults(self) -> list[str]:
        """Why it cannot be planted, or not be killed: see `mutants/README.md`."""
        source = self.path(CHECKOUT).read_text(encoding="utf-8")
        found = source.count(self.old)
        if found != 1 or self.new == self.old:
            return [f"{self.name} is stale: its old text stands {found} times in {self.file}"]
        if not self.file.startswith("lua/"):
            compile(source.replace(self.old, self.new), self.file, "exec")
        missing = []
        for killer in self.killers:
            file, _, function = killer.partition("[")[0].partition("::")
            if not (TESTS / file).exists() or f"def {function}" not in (TESTS / file).read_text(encoding="utf-8"):
                missing.append(f"{self.name}: there is no {killer}")
        return missing


def mutants() -> list[Mutant]:
    found: list[Mutant] = []
    for path in sorted((TESTS / "mutants").glob("*.toml")):
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        found += [Mutant(name, **(row | {"killers": tuple(row["killers"])})) for name, row in table.items()]
    return found


MUTANTS = {mutant.name: mutant for mutant in mutants()}


@dataclass(frozen=True)
class Outcome:
    """How a run of tests ended: pytest's exit code (None: not in time) and what it printed."""

    code: int | None
    printed: str


def copied(folder: Path) -> Path:
    """A copy of the package and its tests."""
    for name in COPIED:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


def python(copy: Path, *arguments: str, deadline_s: float) -> Outcome:
    """Run Python in a copy, whose package goes before the checkout's in every process."""
    env = os.environ | {"PYTHONPATH": str(copy)}
    with subprocess.Popen(
        [sys.executable, *arguments], cwd=copy, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as run:  # fmt: skip
        try:
            printed, _ = run.communicate(timeout=deadline_s)
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)  # and all that its tests have started
            return Outcome(None, run.communicate()[0])
    return Outcome(run.returncode, printed)


def ran_tests(copy: Path, killers: Sequence[str], deadline_s: float) -> Outcome:
    """Run tests in a copy; failing histories are not made smaller, and the same ones are tried every time."""
    options = ("-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", "--hypothesis-profile=unshrunk")
    return python(copy, "-m", "pytest", *options, *(f"tests/{killer}" for killer in killers), deadline_s=deadline_s)


def hunted(mutant: Mutant, folder: Path) -> Outcome:
    """Plant the bug in a new copy and run its tests there."""
    copy = copied(folder)
    path = mutant.path(copy)
    path.write_text(path.read_text(encoding="utf-8").replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        return ran_tests(copy, mutant.killers, DEADLINE_S)
    finally:
        shutil.rmtree(copy)


@pytest.fixture(scope="module")
def unchanged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The tests of all mutants that are asked for pass in an unchanged copy: tried once, by one of the workers."""
    base = tmp_path_factory.getbasetemp()
    done = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "unchanged.done"
    with done.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if done.exists():
            return
        items = [item for item in request.session.items if isinstance(item, pytest.Function)]
        asked = [MUTANTS[item.callspec.params["name"]] for item in items if item.originalname == "test_is_killed"]
        copy = copied(tmp_path_factory.mktemp("unchanged"))
        where = python(copy, "-c", "import budgetguard; print(budgetguard.__file__)", deadline_s=60)
        assert Path(where.printed.strip()).is_relative_to(copy), "the copy is not what is tested"
        killers = list(dict.fromkeys(killer for mutant in asked for killer in mutant.killers))
        tried = ran_tests(copy, killers, UNCHANGED_DEADLINE_S)
        assert tried.code == 0, f"the tests do not pass without a bug:\n{tried.printed}"
        done.touch()


@pytest.mark.long
@pytest.mark.parametrize("name", MUTANTS)
@pytest.mark.usefixtures("unchanged")
def test_is_killed(name: str, tmp_path: Path) -> None:
    assert MUTANTS[name].faults() == []
    outcome = hunted(MUTANTS[name], tmp_path)
    assert outcome.code is not None, f"{name}: its tests hang, they have no deadline of their own:\n{outcome.printed}"
    assert outcome.code == 1, f"{name} lives, or its tests did not run (exit code {outcome.code}):\n{outcome.printed}"
    assert not NOT_A_BUG.search(outcome.printed), f"{name} is no bug, the copy is broken:\n{outcome.printed}"


def test_every_mutant_can_be_planted() -> None:
    """Each bug's old text stands exactly once in its file, the result is Python (Lua a server will read), and its tests
    exist.
    """
    assert [fault for mutant in MUTANTS.values() for fault in mutant.faults()] == []


def test_there_are_bugs_of_every_part_of_the_kernel() -> None:
    assert len(mutants()) == len(MUTANTS) >= 120, "no two of one name"
    assert len({mutant.file for mutant in MUTANTS.values()}) >= 20
