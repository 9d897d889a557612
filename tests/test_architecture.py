"""Which module may import what: one table, which is the architecture's diagram, and the checks that hold it.

Imports are read from the source, those inside functions included. What stands under `if TYPE_CHECKING` is held to the
same table, but may also reach what the row's `types` name: it never runs, yet it ties two modules together.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from imports_kit import CHECKOUT, ROOT, Import, imports, modules, target_of


@dataclass(frozen=True)
class Row:
    """One module (or a family of them): its room, the packages it owns, and what it may reach beside its room's rule.

    `doors` are names that may be imported from a module of another room, and only inside a function.
    """

    module: str
    room: str
    owns: tuple[str, ...] = ()
    doors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    types: tuple[str, ...] = ()


# A module imports only rows above its own, and of them only the rooms that its room reaches.
TABLE = (
    Row("errors", "core", types=("core.model",)),
    Row("core", "core"),
    Row("core.amounts", "core"),
    Row("core.periods", "core"),
    Row("core.model", "core"),
    Row("core.grammar", "core"),
    Row("core.verbs", "core"),
    Row("core.balances", "core"),
    Row("core.effects", "core"),
    Row("core.machine", "core"),
    Row("store", "contract"),
    Row("ledger.rollups", "ledger"),
    Row("ledger.table", "ledger"),
    Row("ledger.charges", "ledger"),
    Row("ledger.tally", "ledger"),
    Row("ledger.refusals", "ledger"),
    Row("ledger.totals", "ledger"),
    Row("ledger.sums", "ledger"),
    Row("ledger.closing_schema", "ledger"),
    Row("ledger.closing", "ledger"),
    Row("ledger.migrations", "ledger"),
    Row("ledger.outbox", "ledger"),
    Row("stores.worker", "stores"),
    Row("stores.batching", "stores"),
    Row("stores.queries", "stores"),
    Row("stores.scripts", "stores"),
    Row("stores.sqlite.*", "stores", owns=("apsw",)),
    Row("stores.sqlite", "stores"),
    Row("stores.spool", "stores", owns=("apsw",)),
    Row("stores.redis.*", "stores", owns=("redis", "hiredis", "msgpack")),
    Row("stores.redis", "stores"),
    Row("stores", "stores"),
    Row("ledger.drain", "ledger"),
    Row("ledger.sqlite", "ledger", owns=("apsw",)),
    Row("ledger.postgres_schema", "ledger"),
    Row("ledger.postgres", "ledger", owns=("psycopg",)),
    Row("ledger", "ledger"),
    Row("ledger.background", "ledger"),
    Row("ledger.reading", "ledger"),
    Row("ledger.sqlite_reading", "ledger", owns=("apsw",)),
    Row("ledger.postgres_reading", "ledger", owns=("psycopg",)),
    Row("ledger.books", "ledger"),
    Row("ledger.exporting", "ledger", owns=("pyarrow",)),
    Row("wire", "middle"),
    Row("wire.counts", "middle"),
    Row("wire.costs", "middle"),
    Row("wire.openai_usage", "middle"),
    Row("wire.anthropic_usage", "middle"),
    Row("wire.google_usage", "middle"),
    Row("wire.cohere_usage", "middle"),
    Row("wire.ollama_usage", "middle"),
    Row("wire.bedrock_usage", "middle"),
    Row("usage", "middle"),
    Row("version", "middle"),
    Row("labels", "middle"),
    Row("policy_checks", "middle"),
    Row("wire.providers", "middle"),
    Row("wire.hosts", "middle"),
    Row("wire.paths", "middle"),
    Row("wire.apis", "middle"),
    Row("wire.unknown", "middle"),
    Row("wire.answered", "middle"),
    Row("wire.asked", "middle"),
    Row("wire.bodies", "middle"),
    Row("wire.framing", "middle"),
    Row("wire.lines", "middle"),
    Row("wire.json_array", "middle"),
    Row("wire.aws_events", "middle"),
    Row("wire.frames", "middle"),
    Row("wire.readers", "middle"),
    Row("wire.statements", "middle"),
    Row("wire.streamed_text", "middle"),
    Row("wire.density", "middle"),
    Row("wire.reports", "middle"),
    Row("wire.stream", "middle"),
    Row("estimates.texts", "middle"),
    Row("estimates.tokenizers", "middle", owns=("rs_bpe", "tiktoken")),
    Row("estimates.families", "middle"),
    Row("estimates.pixels", "middle"),
    Row("estimates.images", "middle"),
    Row("estimates.media", "middle"),
    Row("estimates.reading", "middle"),
    Row("estimates.outputs", "middle"),
    Row("estimates.sketch", "middle"),
    Row("estimates.learned", "middle"),
    Row("estimates.settings", "middle"),
    Row("estimates.forecast", "middle"),
    Row("estimates", "middle"),
    Row("estimate", "middle"),
    Row("rates", "middle"),
    Row("price", "middle"),
    Row("data_price", "middle", owns=("genai_prices",)),
    Row("price_data", "middle", owns=("genai_prices",)),
    Row("pricing", "middle"),
    Row("policy_settings", "middle"),
    Row("owners", "middle"),
    Row("budget", "middle"),
    Row("matching", "middle"),
    Row("policy", "middle"),
    Row("policy_file", "middle"),
    Row("forecasting", "middle"),
    Row("status", "middle"),
    Row("event_fields", "middle"),
    Row("events", "middle"),
    Row("call_events", "middle"),
    Row("refusal", "middle"),
    Row("repeats", "middle", owns=("limits",)),
    Row("logs", "middle", owns=("structlog",)),
    Row("outcome", "middle"),
    Row("waiting", "middle"),
    Row("settling", "middle", owns=("tenacity",)),
    Row("call", "middle"),
    Row("telling", "middle"),
    Row("draining", "middle"),
    Row("duties", "middle"),
    Row("engine", "middle", types=("hold",)),
    Row("parts", "middle"),
    Row("sharing", "middle"),
    Row("within", "middle"),
    Row("hold", "middle"),
    Row("admission", "middle", owns=("tenacity",)),
    Row("reserving", "middle"),
    Row("decorating", "middle"),
    Row("off", "middle"),
    Row("subjects", "middle"),
    Row("setup", "middle", doors={"stores": ("open_store", "open_spool"), "ledger.background": ("Background",)}),
    Row("engines", "middle"),
    Row("sync", "middle", owns=("anyio",), types=("guard",)),
    Row("encodings", "middle"),
    Row("answer", "middle"),
    Row("endings", "middle"),
    Row("attempts", "middle"),
    Row("prompts", "middle"),
    Row("exchange", "middle", types=("clients",)),
    Row(
        "clients",
        "middle",
        doors={"integrations": ("wrap",), "integrations.http_clients": ("new_client",)},
        types=("sync",),
    ),
    Row("guard", "middle"),
    Row("metrics", "middle", owns=("prometheus_client",)),
    Row("metrics_accounts", "middle", owns=("prometheus_client",)),
    Row("integrations.refusals", "rim"),
    Row("integrations.httpx", "rim"),
    Row("integrations.http_clients", "rim", owns=("httpx2", "httpx")),
    Row("integrations.websockets", "rim"),
    Row("integrations.*", "rim"),
    Row("integrations", "rim"),
    Row("testing.provider", "rim", owns=("anyio",)),
    Row("testing.pytest_plugin", "rim", owns=("pytest",)),
    Row("testing.*", "rim"),
    Row("testing", "rim"),
    Row("simulation.*", "rim"),
    Row("simulation", "rim"),
    Row("demo.*", "rim", owns=("openai", "rich")),
    Row("demo", "rim"),
    Row("cli.metrics", "rim", owns=("typer", "prometheus_client")),
    Row("cli.*", "rim", owns=("typer", "rich")),
    Row("cli", "rim"),
    Row("cli.__main__", "rim"),
    Row("", "root"),
)

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
RIM_MAY_USE = {("demo", "testing"), ("simulation", "testing"), ("cli", "demo"), ("cli", "simulation")}
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
    assert owned - {"pytest", "httpx"} <= names  # imported by pytest alone, and where the user asks for it
