"""Hooks of mkdocs: pages that are made when the documentation is built, and what no page may do.

A page of the command line is what `--help` prints; that of the events lists all there are. No page may load anything
from elsewhere.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File
from typer.main import get_command

from budgetguard import call_events, events
from budgetguard.alerts import raised
from budgetguard.cli.app import app, run
from budgetguard.events import Event

SECTION = "Command line"
COMMANDS: dict[str, Any] = vars(get_command(app))["commands"]
EVENTS = [
    kind
    for module in (events, call_events, raised)
    for kind in vars(module).values()
    if isinstance(kind, type) and kind.__module__ == module.__name__ and issubclass(kind, Event) and kind is not Event
]
EVENTS_HEAD = """\
# Events

An observer is told of each. `event.name` is stable, `event.level` is how loud a log should be, and `event.fields()`
gives flat keys and plain values.

::: budgetguard.Observer

::: budgetguard.Event
    options:
      members: [fields]
      merge_init_into_class: false

"""
LOADS = re.compile(
    r"""<(?:script|img|iframe|source|link(?![^>]*rel=["']?(?:canonical|next|prev)\b))\b[^>]*?\b(?:src|href)=["']?"""
    r"""((?:https?:)?//[^"'\s>]+)|(?:@import\s*(?:url\()?|url\()\s*["']?((?:https?:)?//[^"')]+)""",
    re.IGNORECASE,
)
"""What a page or a style sheet loads from another host. The address of a link to follow is none of that."""


def on_config(config: Any) -> None:
    """Put the commands behind the first page of their section."""
    (section,) = [part[SECTION] for part in config.nav if SECTION in part]
    section += [{name: f"commands/{name}.md"} for name in COMMANDS]


def on_files(files: Any, config: Any) -> None:
    """Add a page for each command, and that of the events."""
    files.append(File.generated(config, "reference/events.md", content=EVENTS_HEAD + "".join(map(event_part, EVENTS))))
    for name, command in COMMANDS.items():
        files.append(File.generated(config, f"commands/{name}.md", content="".join(help_page(command, name))))


def on_post_build(config: Any) -> None:
    """Refuse what the reader's browser would have to fetch from elsewhere."""
    written = [path for end in ("html", "css") for path in sorted(Path(config.site_dir).rglob(f"*.{end}"))]
    found = {path.name: loads for path in written if (loads := elsewhere(path.read_text(encoding="utf-8")))}
    if found:
        raise PluginError(f"the documentation must load nothing from elsewhere: {found}")


def elsewhere(text: str) -> list[str]:
    """The addresses on other hosts that a page or a style sheet loads something from."""
    return [page or style for page, style in LOADS.findall(text)]


def event_part(kind: type[Event]) -> str:
    """What is told of an event: its docstring, then its name, its level and its fields."""
    name = f"{kind.__module__}.{kind.__name__}"
    told = f"`{kind.name}`, {kind.level}: {', '.join(f'`{key}`' for key in kind.keys)}"
    options = "    options:\n      members: false\n      show_root_full_path: false\n      show_signature: false\n"
    return f"::: {name}\n{options}\n{told}\n\n"


def help_page(command: Any, *words: str) -> Iterator[str]:
    """What is printed for a command, and for those below it."""
    yield f"{'#' * len(words)} budgetguard {' '.join(words)}\n\n```text\n{_help(*words)}```\n\n"
    for name, below in vars(command).get("commands", {}).items():
        yield from help_page(below, *words, name)


def _help(*words: str) -> str:
    os.environ["COLUMNS"] = "82"  # a page is as wide on every terminal
    printed = io.StringIO()
    with redirect_stdout(printed):
        code = run([*words, "--help"])
    if code:
        raise PluginError(f"budgetguard {' '.join(words)} --help ended with {code}")
    return printed.getvalue()
