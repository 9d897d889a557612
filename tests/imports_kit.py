"""What the modules of the package import, read from their source."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
ROOT = "budgetguard"


@dataclass(frozen=True)
class Import:
    """One import: `module` as written, the `name` taken from it, and where it stands."""

    module: str
    name: str | None
    in_function: bool
    for_types: bool


def modules() -> dict[str, str]:
    """The source of every module by its name inside the package; the package itself is the empty name."""
    found = {}
    for path in sorted((CHECKOUT / ROOT).rglob("*.py")):
        parts = path.relative_to(CHECKOUT / ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


def imports(source: str) -> Iterator[Import]:
    """Every import of a module, wherever it stands."""
    yield from _imports(ast.parse(source), in_function=False, for_types=False)


def _imports(node: ast.AST, *, in_function: bool, for_types: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, None, in_function, for_types)
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield Import("." * node.level + (node.module or ""), alias.name, in_function, for_types)
    elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
        target = node.args[0]
        yield Import(str(target.value) if isinstance(target, ast.Constant) else "?", None, in_function, for_types)
    inside = in_function or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
    if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        for child in node.body:
            yield from _imports(child, in_function=inside, for_types=True)
        rest: list[ast.AST] = list(node.orelse)
    else:
        rest = list(ast.iter_child_nodes(node))
    for child in rest:
        yield from _imports(child, in_function=inside, for_types=for_types)


def target_of(found: Import, known: Mapping[str, str]) -> str:
    """The module inside the package that an import reaches; empty for the package root itself."""
    inner = found.module[len(ROOT) + 1 :]
    submodule = f"{inner}.{found.name}".lstrip(".")
    return submodule if submodule in known else inner
