"""Which module may import what: the checks that hold the table of `architecture.py`.

Imports are read from the source, those inside functions included. What stands under `if TYPE_CHECKING` is held to the
same table, but may also reach what the row's `types` name: it never runs, yet it ties two modules together.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Mapping
from fnmatch import fnmatchcase

from architecture import TABLE, Row
from imports_kit import CHECKOUT, ROOT, Import, imports, modules, target_of

# The rim may use all but the root and each other, save that the command line has its commands, and that some need the
# fake provider or a clock that is set.
REACH: Mapping[str, tuple[str, ...]] = {
    "core": ("core",),
    "contract": ("core",),
    "stores": ("core", "contract", "stores", "ledger"),
    "ledger": ("core", "contract", "stores", "ledger"),
    "middle": ("core", "contract", "middle"),
    "rim": ("core", "contract", "middle", "stores", "ledger"),
    "root": ("core", "contract", "middle"),
}
RIM_MAY_USE = {
    ("demo", "testing"), ("simulation", "testing"), ("cli", "demo"), ("cli", "simulation"), ("cli", "reports"),
    ("cli", "doctor"),
}  # fmt: skip
NOT_IN_CORE = {"asyncio", "time", "os", "random", "logging"}


def row_of(module: str) -> Row | None:
    """The row that governs a module: an exact one before a family's."""
    exact = [row for row in TABLE if row.module == module]
    return (exact or [row for row in TABLE if fnmatchcase(module, row.module)] or [None])[0]


def fault(module: str, found: Import, known: Mapping[str, str]) -> str | None:
    """What is wrong with an import of `module`, None if nothing is."""
    row = row_of(module)
    if row is None:
        return "the module is not in the table"
    top = found.module.split(".")[0]
    if top != ROOT:
        return _fault_outside(row, top)
    target = target_of(found, known)
    if not target:
        return "the package root is for users"
    if target in row.doors:
        closed = found.name not in row.doors[target] or not found.in_function
        return f"of {target} only {row.doors[target]}, inside a function" if closed else None
    if found.for_types and target in row.types:
        return None
    return _fault_inside(module, row, target)


def _fault_outside(row: Row, top: str) -> str | None:
    if top in ("", "?"):
        return "imports are absolute and constant"
    if top in sys.stdlib_module_names:
        return "core has no clock and does no I/O" if row.room == "core" and top in NOT_IN_CORE else None
    return None if top in row.owns else f"{top} belongs to another module"


def _fault_inside(module: str, row: Row, target: str) -> str | None:
    target_row = row_of(target)
    if target_row is None:
        return f"{target} is not in the table"
    if target_row.room == "rim" or target_row.room not in REACH[row.room]:
        same = module.split(".")[0] == target.split(".")[0]
        beside = row.room == "rim" and (same or (module.split(".")[0], target.split(".")[0]) in RIM_MAY_USE)
        return None if target_row.room == "rim" and beside else f"{row.room} does not reach {target_row.room}"
    if TABLE.index(target_row) > TABLE.index(row):
        return f"{target} stands below it in the table"
    return None


def test_every_import_is_one_that_the_table_allows() -> None:
    known = modules()
    faults = [
        f"{module or ROOT} imports {found.module} ({found.name}): {wrong}"
        for module, source in known.items()
        for found in imports(source)
        if (wrong := fault(module, found, known))
    ]
    assert faults == []


def test_the_table_has_a_row_for_every_module_and_no_other() -> None:
    known = modules()
    assert [module for module in known if row_of(module) is None] == []
    assert [row.module for row in TABLE if not any(row_of(module) is row for module in known)] == []


def test_families_of_modules_have_no_import_cycles() -> None:
    known = modules()
    graph = {
        module: {
            target_of(found, known)
            for found in imports(source)
            if found.module.split(".")[0] == ROOT and not found.for_types
        }
        for module, source in known.items()
    }
    while leaves := {module for module, targets in graph.items() if not targets & graph.keys() - {module}}:
        graph = {module: targets for module, targets in graph.items() if module not in leaves}
    assert graph == {}


def test_every_package_that_is_imported_is_declared_and_has_one_owner() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    declared = project["dependencies"] + [one for name, some in extras.items() if name != "dev" for one in some]
    names = {re.split(r"[^A-Za-z0-9_-]", requirement)[0].replace("-", "_") for requirement in declared}
    owned = {package for row in TABLE for package in row.owns}
    # Imported by pytest alone, and where the user asks for it; and a namespace of several packages.
    assert owned - {"pytest", "httpx", "litellm", "opentelemetry", "websockets"} <= names
