"""`budgetguard report`: what calls cost and took, by whom and when."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

import typer

from budgetguard.cli.ledger_books import LedgerOption, NamespaceOption
from budgetguard.cli.options import (
    AgentOption,
    ConfigOption,
    SessionOption,
    StoreOption,
    TaskOption,
    TeamOption,
    UserOption,
)
from budgetguard.cli.output import note
from budgetguard.cli.report_options import (
    Asked,
    ByOption,
    Form,
    FormOption,
    OutputOption,
    TopOption,
    VerifyOption,
    WhereOption,
)
from budgetguard.cli.report_output import tell, tell_verified
from budgetguard.cli.sources import label_globs
from budgetguard.cli.stretches import LastOption, SinceOption, TimezoneOption, UntilOption
from budgetguard.errors import ConfigError

if TYPE_CHECKING:
    from budgetguard.ledger.reading import Book
    from budgetguard.reports.asking import Question, Report
    from budgetguard.reports.verifying import Verified

commands = typer.Typer(rich_markup_mode=None, invoke_without_command=True)


@commands.callback()
def report(
    context: typer.Context,
    by: ByOption = "team",
    since: SinceOption = None,
    until: UntilOption = None,
    last: LastOption = None,
    timezone: TimezoneOption = None,
    where: WhereOption = [],  # noqa: B006 - typer copies it
    team: TeamOption = None,
    agent: AgentOption = None,
    session: SessionOption = None,
    task: TaskOption = None,
    user: UserOption = None,
    top: TopOption = None,
    format: FormOption = "table",
    output: OutputOption = None,
    verify: VerifyOption = False,
    ledger: LedgerOption = None,
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
    store: StoreOption = None,
) -> None:
    """Tell what the ledger's calls cost and took: this month by team, or as you ask.

    WHEN is a date or a time, such as 2026-11-01 or 2026-11-01T08:30. Without a label a call counts under "(none)",
    which --where chooses, too: team="(none)".
    CSV and JSON have exact dollars; tables rounded ones. HTML is one page with charts that loads nothing.
    """
    if context.invoked_subcommand is not None:
        return _nothing_before(context)
    from budgetguard.reports.asking import Question

    usual = {"team": team, "agent": agent, "session": session, "task": task, "user": user}
    asked = Asked(since, until, last, timezone, label_globs(usual, where), ledger, namespace, config, store)
    names = tuple(name.strip() for name in by.split(","))
    with asked.opened() as (book, stretch, zone):
        return _tell(book, Question(stretch, names, asked.globs, zone, top), format, output, verify)


def _nothing_before(context: typer.Context) -> None:
    """Options of a group that come before a command would go unheard."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if given:
        options = ", ".join(f"--{name}" for name in given)
        raise ConfigError("command line", [f"write {options} after `{context.invoked_subcommand}`, not before"])


def _tell(book: Book, question: Question, format: Form, output: Path | None, verify: bool) -> None:
    """Ask, verify what was found if asked to, and show it: all of the ledger as it stands at one instant."""
    from budgetguard.reports import asking, verifying

    with book.standing():
        found = asking.answer(book, question)
        verified = verifying.verify(book, found) if verify else None
        shown = _shown(book, found, format, output, verified)
    tell(shown, output)
    _tell_unknown(found)
    if verified is not None:
        tell_verified(verified)


def _shown(book: Book, found: Report, format: Form, output: Path | None, verified: Verified | None) -> str:
    if format == "csv":
        from budgetguard.reports.as_csv import csv_text

        return csv_text(found)
    if format == "json":
        from budgetguard.reports.as_json import json_text

        return json_text(found)
    if format == "markdown":
        from budgetguard.reports.as_markdown import markdown_text

        return markdown_text(found)
    if format == "html":
        from budgetguard.reports.as_html import page
        from budgetguard.reports.over_time import timeline

        return page(found, timeline(book, found), int(time() * 1000), "" if verified is None else verified.text)
    from budgetguard.cli.report_table import table_text

    return table_text(found, in_file=output is not None)


def _tell_unknown(found: Report) -> None:
    """A label that no call has may be a typing error."""
    from budgetguard.ledger.table import LABEL_COLUMNS
    from budgetguard.reports.folding import TIMES

    known = [*LABEL_COLUMNS, "model", "provider", *TIMES]
    for place, name in enumerate(found.by):
        if found.groups and name not in known and not any(one.group[place] for one in found.groups):
            near = get_close_matches(name.lower(), known, n=1)
            note(f"no call here has a label {name}" + (f"; did you mean {near[0]}?" if near else ""))
