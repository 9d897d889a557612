"""What DESIGN asks of every file: sizes, docstrings and words."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
FILE_LINES, FUNCTION_LINES = 300, 40
VERB_LINES, INCLUDE_LINES = 80, 30

# DESIGN 2, "never say", where the word has no other honest use in Python. Not here: plan (a call's accounts), counter
# and interval (of a benchmark), charge (the name of an expiry policy), expected (a test's), post, void and real.
NEVER_SAID = {
    "commit", "refund", "consume", "consumed", "topup", "increment", "renew", "cleanup", "reap", "reaper", "entity",
    "principal", "quota", "cap", "caps", "duration", "bucket", "buckets", "used", "pending", "remaining", "overrun",
    "overruns", "allowed", "ok",
}  # fmt: skip
NEVER_SAID_TOGETHER = {("top", "up"), ("dry", "run"), ("clean", "up")}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources(*folders: str) -> dict[str, str]:
    """The text of every Python file under these folders, by its path in the checkout."""
    paths = [path for folder in folders for path in sorted((CHECKOUT / folder).rglob("*.py"))]
    return {str(path.relative_to(CHECKOUT)): path.read_text(encoding="utf-8") for path in paths}


def long_functions(source: str) -> list[str]:
    """The functions of more than 40 lines, from `def` to the last line, decorators apart."""
    return [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, Function) and node.end_lineno and node.end_lineno - node.lineno >= FUNCTION_LINES
    ]


def defined_words(source: str) -> Iterator[tuple[str, list[str]]]:
    """The names that a module defines (not those it calls), each with its words in lower case."""
    for node in ast.walk(ast.parse(source)):
        name = None
        if isinstance(node, (Function, ast.ClassDef)):
            name = node.name
        elif isinstance(node, ast.arg):
            name = node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            name = node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            name = node.attr
        if name is not None:
            yield name, [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def never_said(source: str) -> list[str]:
    """The defined names that have a word of the list."""
    return [
        name
        for name, words in defined_words(source)
        if NEVER_SAID.intersection(words) or NEVER_SAID_TOGETHER.intersection(itertools.pairwise(words))
    ]


def undocumented(source: str, documented_elsewhere: frozenset[str]) -> list[str]:
    """The module, public classes, functions and methods without a docstring.

    Not asked of properties, whose names say it, nor of methods that another class documents under the same name: the
    protocol they carry out, or what they stand in for.
    """
    tree = ast.parse(source)
    missing = [] if ast.get_docstring(tree) else ["the module"]
    for node in tree.body:
        if isinstance(node, (Function, ast.ClassDef)) and not node.name.startswith("_"):
            missing += [] if ast.get_docstring(node) else [node.name]
            if isinstance(node, ast.ClassDef):
                missing += [
                    f"{node.name}.{method.name}"
                    for method in node.body
                    if isinstance(method, Function) and not method.name.startswith("_")
                    if not ast.get_docstring(method) and method.name not in documented_elsewhere
                    if not any("property" in ast.unparse(mark) for mark in method.decorator_list)
                ]
    return missing


def documented_methods() -> frozenset[str]:
    """The names of the methods that some class of the package documents."""
    return frozenset(
        method.name
        for source in sources("budgetguard").values()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef)
        for method in node.body
        if isinstance(method, Function) and ast.get_docstring(method)
    )


def test_no_file_is_longer_than_three_hundred_lines() -> None:
    lines = {path: source.count("\n") for path, source in sources("budgetguard", "tests", "benchmarks").items()}
    assert {path: count for path, count in lines.items() if count > FILE_LINES} == {}
    assert len(lines) > 10


def test_no_function_is_longer_than_forty_lines() -> None:
    found = {path: long_functions(source) for path, source in sources("budgetguard").items()}
    assert {path: names for path, names in found.items() if names} == {}


def test_no_lua_verb_is_longer_than_eighty_lines_and_no_include_than_thirty() -> None:
    counts = {path: path.read_text(encoding="utf-8").count("\n") for path in sorted((CHECKOUT / "lua").rglob("*.lua"))}
    bounds = {path: INCLUDE_LINES if "lib" in path.relative_to(CHECKOUT).parts else VERB_LINES for path in counts}
    assert {str(path): count for path, count in counts.items() if count > bounds[path]} == {}


def test_everything_public_has_a_docstring() -> None:
    elsewhere = documented_methods()
    found = {path: undocumented(source, elsewhere) for path, source in sources("budgetguard").items()}
    assert {path: names for path, names in found.items() if names} == {}


def test_no_name_says_a_word_that_the_design_never_says() -> None:
    found = {path: never_said(source) for path, source in sources("budgetguard").items()}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "name", ["used_tokens", "TeamQuota", "top_up", "is_ok", "spendCap", "dry_run", "remaining", "HTTPRefund"]
)
def test_the_word_check_sees_them_in_every_kind_of_definition(name: str) -> None:
    kinds = ["def {}(): ...", "class {}: ...", "def f({}): ...", "{} = 1", "x.{} = 1", "for {} in y: ..."]
    assert [never_said(kind.format(name)) for kind in kinds] == [[name]] * len(kinds)
    assert never_said(f"x.{name}()") == []


@pytest.mark.parametrize("name", ["capture", "unused", "topic", "look_up", "token", "available", "committee"])
def test_the_word_check_passes_words_that_only_look_alike(name: str) -> None:
    assert never_said(f"{name} = 1") == []


def test_the_size_and_docstring_checks_count_what_they_say() -> None:
    body = "    x = 1\n"
    assert long_functions("@mark\ndef f():\n" + body * 39) == []
    assert long_functions("@mark\ndef f():\n" + body * 40) == ["f: 41 lines"]
    assert undocumented("class A:\n    def b(self): ...\n    def c(self): ...\ndef d(): ...", frozenset({"c"})) == [
        "the module",
        "A",
        "A.b",
        "d",
    ]
