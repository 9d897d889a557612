"""What commands print: the same records as a table for people, as JSON, or as CSV with a header.

A record maps keys to plain values: amounts are integers of their unit, dollars nano-dollars and, under a key that ends
in `_usd`, their exact decimal text. Tables have colours, boxes and bars in a terminal, and are plain lines elsewhere.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from budgetguard.cli.options import Format
from budgetguard.core.amounts import NANOUSD_PER_USD, Unit
from budgetguard.refusal import escaped

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

Record = Mapping[str, Any]
NARROWEST = 8


class Column(NamedTuple):
    """One column of a table: its title, and what to show of a record. `styled` is for terminals only."""

    title: str
    cell: Callable[[Record], str]
    right: bool = False
    styled: Callable[[Record], Text] | None = None


def emit(
    format: Format, records: Sequence[Record], keys: Sequence[str], columns: Sequence[Column], empty: str = ""
) -> None:
    """Print records, each of which has these keys; `empty` is what a table says where there are none."""
    if format == "json":
        typer.echo(json.dumps(records, indent=2))
    elif format == "csv":
        typer.echo(csv_text(records, keys), nl=False)
    elif not records:
        typer.echo(empty)
    elif sys.stdout.isatty():
        console = terminal()
        console.print(table(console.width, records, columns))
    else:
        typer.echo(plain_table(records, columns))


def note(text: str) -> None:
    """A line beside the output, on stderr."""
    for line in text.splitlines():
        typer.echo(escaped(line), err=True)


def amount_fields(key: str, unit: Unit, amount: int) -> dict[str, Any]:
    """An amount under its key, and under `<key>_usd` the exact dollars as text; None where it is not in dollars."""
    return {key: amount, f"{key}_usd": usd_text(amount) if unit == "usd" else None}


def usd_text(amount_nanousd: int) -> str:
    """Exact dollars as a plain decimal, at least two digits: "4.9931", "-0.10"."""
    whole, part = divmod(abs(amount_nanousd), NANOUSD_PER_USD)
    return f"{'-' if amount_nanousd < 0 else ''}{whole}.{f'{part:09d}'.rstrip('0').ljust(2, '0')}"


def labels_text(labels: Mapping[str, str]) -> str:
    """Labels on one line, safe for a terminal."""
    return " ".join(f"{escaped(name)}={escaped(value)}" for name, value in labels.items())


def csv_text(records: Sequence[Record], keys: Sequence[str]) -> str:
    """A header and a line for each record; lists and labels are JSON in their cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(keys)
    writer.writerows([[_csv_cell(record[key]) for key in keys] for record in records])
    return text.getvalue()


def plain_table(records: Sequence[Record], columns: Sequence[Column]) -> str:
    """One line for each record below the titles, in columns, however wide."""
    lines = [[column.title for column in columns], *([column.cell(record) for column in columns] for record in records)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ).rstrip()
        for line in lines
    )


def terminal() -> Console:
    """The terminal that stdout is."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def table(width: int, records: Sequence[Record], columns: Sequence[Column]) -> RenderableType:
    """A table for a terminal of this width; where the columns do not fit beside each other, one below the other."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    def cell(column: Column, record: Record) -> Text:
        return Text(column.cell(record)) if column.styled is None else column.styled(record)

    cells = [[cell(column, record) for column in columns] for record in records]
    needed = sum(2 + _least_width(column, place, cells) for place, column in enumerate(columns))
    if needed > width:
        return Text("\n\n").join(_stacked(columns, line) for line in cells)
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        fixed = column.right or column.styled is not None
        shown.add_column(
            column.title, justify="right" if column.right else "left", no_wrap=fixed, overflow="fold",
            min_width=min(NARROWEST, len(column.title)),
        )  # fmt: skip
    for line in cells:
        shown.add_row(*line)
    return shown


def _least_width(column: Column, place: int, cells: Sequence[Sequence[Text]]) -> int:
    widest = max([len(column.title), *(line[place].cell_len for line in cells)])
    return widest if column.right or column.styled is not None else min(widest, max(NARROWEST, len(column.title)))


def _stacked(columns: Sequence[Column], line: Sequence[Text]) -> Text:
    from rich.text import Text

    rows = [Text.assemble((f"{column.title}: ", "bold"), cell) for column, cell in zip(columns, line, strict=True)]
    return Text("\n").join(rows)


def _csv_cell(value: Any) -> Any:
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value)
    return escaped(value) if isinstance(value, str) else value
