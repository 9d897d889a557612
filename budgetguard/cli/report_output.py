"""Where a report goes, the table that a terminal or a file gets, and how its proof ended."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from budgetguard.cli.output import Column, Record, in_terminal, note, plain_table, table, terminal
from budgetguard.refusal import escaped

if TYPE_CHECKING:
    from budgetguard.reports.verifying import Verified

FAILED = 1


def tell(shown: str, output: Path | None) -> None:
    """Print a report as it is, or write it into a file."""
    if output is None:
        typer.echo(shown, nl=False)
    else:
        output.write_text(shown, encoding="utf-8", newline="")
        note(f"written to {output}")


def tell_verified(verified: Verified) -> None:
    """How a proof ended. Exit code 1 if what it proves is not so."""
    from budgetguard.reports.verifying import MOST_SHOWN

    note(verified.text)
    for text in verified.differences[:MOST_SHOWN]:
        note(f"  {text}")
    if len(verified.differences) > MOST_SHOWN:
        note(f"  and {len(verified.differences) - MOST_SHOWN} more")
    if verified.differences:
        raise typer.Exit(FAILED)


def table_told(
    heading: str, notes: Sequence[str], records: Sequence[Record], columns: Sequence[Column], in_file: bool
) -> str:
    """A heading, a table whose last record is a total, and notes: as wide as the terminal, elsewhere plain."""
    texts = [escaped(text) for text in (heading, *notes)]
    if in_file or not in_terminal():
        drawn = plain_table(records, columns)
    else:
        console = terminal()
        texts = [textwrap.fill(text, console.width) for text in texts]
        with console.capture() as capture:
            console.print(table(console.width, records, columns, last_apart=True))
        drawn = capture.get().rstrip("\n")
    return "\n".join([texts[0], "", drawn, *(["", *texts[1:]] if notes else []), ""])
