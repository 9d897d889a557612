"""The Lua scripts as text: their headers, what they include, and what their bodies say.

Everything here takes the files as a dict (`lib/meta` -> text), so that a test can show it files with a fault in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from budgetguard.stores import scripts

VERBS = ("reserve", "settle", "release", "grow", "extend", "expire", "announce")
MARK = "-- Past this line it must succeed."
SECTIONS = {"keys": "KEYS[", "argv": "ARGV[", "operation": "operation {", "returns": "returns ", "never": "never "}
FUNCTION = re.compile(r"^(?:local )?function (\w+)\(.*?\n(.*?)^end$", re.MULTILINE | re.DOTALL)
DEFINED = re.compile(r"^(?:local )?(?:function )?(\w+(?:, \w+)*)(?:\(| = )", re.MULTILINE)
SHARED = "bg."
"""Before the names that the parts of a script share."""
MAY_FAIL = re.compile(r"\b(?:error|redis\.call|cmsgpack\.unpack)\(")

Files = Mapping[str, str]


def lua_files() -> dict[str, str]:
    """The text of every file of `lua/`, by its path without the suffix."""
    folder = scripts.lua_dir()
    paths = sorted(folder.rglob("*.lua"))
    return {path.relative_to(folder).with_suffix("").as_posix(): path.read_text(encoding="utf-8") for path in paths}


def included(files: Files, name: str, manual: bool = False) -> list[str]:
    """The parts of a script, itself first, in the order in which they are included."""
    parts = [name]
    for part in parts:
        for other in scripts.INCLUDE.findall(files.get(part, "")):
            parts.append(other + "_manual" if manual and other == "lib/now" else other)
    return parts


def composed(files: Files, name: str, manual: bool = False) -> str:
    """A script as Redis gets it."""
    text = files[name]
    while found := scripts.INCLUDE.search(text):
        part = found[1] + "_manual" if manual and found[1] == "lib/now" else found[1]
        text = text[: found.start()] + files[part] + text[found.end() :]
    return text


def header(text: str) -> dict[str, str]:
    """The comment at the top of a file by section, each as one line; what comes before the others is its `purpose`."""
    found, section = {"purpose": ""}, "purpose"
    for line in text.splitlines():
        if not line.startswith("-- "):
            break
        said = line[3:].strip()
        section = next((name for name, begins in SECTIONS.items() if said.startswith(begins)), section)
        found[section] = f"{found.get(section, '')} {said}".strip()
    return found


def uncommented(text: str) -> str:
    """A text without its comments."""
    return re.sub(r"--[^\n]*", "", text)


def code(text: str) -> str:
    """The same, with the names that parts share as if they were its own."""
    return uncommented(text).replace(SHARED, "")


def listed(braces: str) -> list[str]:
    """The words of a `{a, b (which is so), c}` of a header."""
    inside = re.sub(r"\([^)]*\)", "", braces).strip("{} ")
    return [word.strip() for word in inside.split(",")]


def operation_of(text: str) -> list[str]:
    """What a verb's header says that it is sent, the verb itself first."""
    found = re.search(r"\{[^}]*\}", header(text).get("operation", ""))
    return listed(found[0]) if found else []


def words_of(text: str) -> set[str]:
    """The words that a verb's header says it answers."""
    found = re.search(r"\bword is ([^;]*)", header(text).get("returns", ""))
    said = re.sub(r" for exactly one asker| else", "", found[1]) if found else ""
    return {word for word in re.split(r",? or |,? and |, ", said) if word}


def lengths_said(text: str) -> set[int]:
    """How many fields the answers have of which a verb's header tells."""
    shapes = re.findall(r"\{[^}]*\}", header(text).get("returns", "").partition("; ")[0])
    return {len(listed(shape)) for shape in shapes}


def tables_returned(body: str) -> Iterator[list[str]]:
    """The fields of every `return { ... }` of a body."""
    for found in re.finditer(r"\breturn \{", body):
        depth, fields, at = 1, [""], found.end()
        while depth:
            sign = body[at]
            depth += (sign in "{(") - (sign in "})")
            if depth == 1 and sign == ",":
                fields.append("")
            elif depth:
                fields[-1] += sign
            at += 1
        yield [field.strip() for field in fields if field.strip()]


def words_in(body: str) -> set[str]:
    """The texts of a body that may become an answer's word: those that it neither compares nor keeps as a state."""
    body = re.sub(r"(?:==|~=) '\w*'", "", body)
    body = re.sub(r"\bstate = '\w*'", "", body)
    body = re.sub(r"\b(hold\.state\b[^\n=]*) = '\w*'", r"\1", body)
    return set(re.findall(r"'(\w+)'", body))


def functions(text: str) -> dict[str, str]:
    """The functions of a file, by name, with their bodies; comments are left in."""
    return {found[1]: found[2] for found in FUNCTION.finditer(text.replace(SHARED, ""))}


def parted(body: str) -> tuple[str, str]:
    """The lines of a body above each line that says that it must succeed, and those below, to the end of its block."""
    above, below, depth = "", "", None
    for line in body.splitlines(keepends=True):
        indent = len(line) - len(line.lstrip())
        if depth is not None and line.strip() and indent < depth:
            depth = None
        if line.strip() == MARK:
            depth = indent
        above, below = (above + line, below) if depth is None else (above, below + line)
    return above, below


def names_of(text: str) -> set[str]:
    """What a file defines for those that include it."""
    return {name for found in DEFINED.finditer(code(text)) for name in found[1].split(", ")}


def calls_in(body: str) -> set[str]:
    """The functions that a body calls."""
    return set(re.findall(r"(?<![\w.:'])(\w+)\(", code(body)))


def may_refuse(files: Files) -> set[str]:
    """The functions that may end an operation: they refuse, read Redis or unpack, or call one that does."""
    bodies = {name: body for part in files for name, body in functions(files[part]).items()}
    found = {name for name, body in bodies.items() if MAY_FAIL.search(code(body))}
    while more := {name for name, body in bodies.items() if calls_in(body) & found} - found:
        found |= more
    return found
