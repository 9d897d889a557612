"""`budgetguard report`: what calls cost and took, by whom and when; and which prompts were asked again."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from budgetguard.cli.ledger_books import LedgerOption, NamespaceOption, asked_ledger
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
from budgetguard.cli.sources import label_globs
from budgetguard.cli.stretches import (
    LastOption,
    SinceOption,
    TimezoneOption,
    UntilOption,
    asked_stretch,
    zone_of_option,
)
from budgetguard.errors import ConfigError

if TYPE_CHECKING:
    from budgetguard.ledger.reading import Book
    from budgetguard.reports.asking import Question, Report
    from budgetguard.reports.verifying import Verified

FAILED = 1
Form = Literal["table", "csv", "json", "markdown"]
WhereOption = Annotated[
    list[str],
    typer.Option(
        "--where", "--label", metavar="NAME=GLOB", help="Only this value of a label, model or provider; repeatable."
    ),
]
TopOption = Annotated[
    int | None, typer.Option("--top", metavar="N", help="Only the N that cost most, and the others together.")
]
OutputOption = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to, instead of the standard output.")
]
commands = typer.Typer(rich_markup_mode=None, invoke_without_command=True, help="What calls cost and took.")


@commands.callback()
def report(
    context: typer.Context,
    by: Annotated[
        str,
        typer.Option("--by", metavar="NAMES", help="Labels, model, provider, hour, day, week, month: team,agent."),
    ] = "team",
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
    format: Annotated[Form, typer.Option("--format", help="What to write.")] = "table",
    output: OutputOption = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Add it up again from the single rows; exit code 1 if it differs.")
    ] = False,
    ledger: LedgerOption = None,
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
    store: StoreOption = None,
) -> None:
    """Tell what the ledger's calls cost and took: this month by team, or as you ask.

    WHEN is a date or a time, such as 2026-11-01 or 2026-11-01T08:30. Without a label a call counts under "(none)".
    CSV and JSON have exact dollars; tables rounded ones.
    """
    if context.invoked_subcommand is not None:
        _nothing_before(context)
        return
    from budgetguard.ledger.books import open_book
    from budgetguard.reports.asking import Question

    usual = {"team": team, "agent": agent, "session": session, "task": task, "user": user}
    url, own, policy_zone = asked_ledger(ledger, namespace, config, store)
    zone = zone_of_option(timezone, policy_zone)
    stretch = asked_stretch(own, since, until, last, zone)
    names = tuple(name.strip() for name in by.split(","))
    question = Question(stretch, names, label_globs(usual, where), zone.key, top)
    book = open_book(url)
    try:
        found, verified = _told(book, question, format, output, verify)
    finally:
        book.close()
    _tell_unknown(found)
    if output is not None:
        note(f"written to {output}")
    if verified is not None:
        _tell_verified(verified)


def _told(
    book: Book, question: Question, format: Form, output: Path | None, verify: bool
) -> tuple[Report, Verified | None]:
    """Ask, show what was found, and verify it if asked to: all of the ledger as it stands at one instant."""
    from budgetguard.reports import asking, verifying

    with book.standing():
        found = asking.answer(book, question)
        shown = _shown(found, format, output)
        verified = verifying.verify(book, found) if verify else None
    if output is None:
        typer.echo(shown, nl=False)
    else:
        output.write_text(shown, encoding="utf-8", newline="")
    return found, verified


def _shown(found: Report, format: Form, output: Path | None) -> str:
    if format == "csv":
        from budgetguard.reports.as_csv import csv_text

        return csv_text(found)
    if format == "json":
        from budgetguard.reports.as_json import json_text

        return json_text(found)
    if format == "markdown":
        from budgetguard.reports.as_markdown import markdown_text

        return markdown_text(found)
    from budgetguard.cli.report_table import table_text

    return table_text(found, in_file=output is not None)


def _nothing_before(context: typer.Context) -> None:
    """Options of a group that come before a command would go unheard."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if given:
        raise ConfigError("command line", [f"write --{given[0]} after `{context.invoked_subcommand}`, not before"])


def _tell_unknown(found: Report) -> None:
    """A label that no call has may be a typing error."""
    from budgetguard.ledger.table import LABEL_COLUMNS
    from budgetguard.reports.folding import TIMES

    known = [*LABEL_COLUMNS, "model", "provider", *TIMES]
    for place, name in enumerate(found.by):
        if found.groups and name not in known and not any(one.group[place] for one in found.groups):
            near = get_close_matches(name, known, n=1)
            note(f"no call here has a label {name}" + (f"; did you mean {near[0]}?" if near else ""))


def _tell_verified(verified: Verified) -> None:
    from budgetguard.reports.lines import counted, usd_exact
    from budgetguard.reports.verifying import MOST_SHOWN

    rows = f"{counted(verified.rows, 'row')}, ${usd_exact(verified.cost_nanousd)}"
    if not verified.differences:
        note(f"verified: {rows}")
        return
    note(f"NOT verified: by {rows} the report differs, please report it:")
    for text in verified.differences[:MOST_SHOWN]:
        note(f"  {text}")
    if len(verified.differences) > MOST_SHOWN:
        note(f"  and {len(verified.differences) - MOST_SHOWN} more")
    raise typer.Exit(FAILED)
