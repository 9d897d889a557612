"""What commands print: the same records as a table for people, as JSON, or as CSV with a header.

A record maps keys to plain values: amounts are integers of their unit, dollars nano-dollars and, under a key that ends
in `_usd`, their exact decimal text. Tables have colours, boxes and bars in a terminal or where
COLUMNS says how wide it is, and are plain lines elsewhere.
"""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import typer

from budgetguard.cli.options import Format
from budgetguard.core.amounts import NANOUSD_PER_USD, Unit, format_usd
from budgetguard.refusal import escaped

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

Record = Mapping[str, Any]
NARROWEST = 14
GAP = 2
RULED = "    \n    \n ── \n    \n ── \n    \n    \n    \n"
"""Rich's SIMPLE_HEAD, with such a line also between sections."""


class Column(NamedTuple):
    """One column of a table: its title, and what to show of a record.

    `styled` is for terminals only. An `extra` column is left out of a terminal that is too narrow, the last one first.
    """

    title: str
    cell: Callable[[Record], str]
    right: bool = False
    extra: bool = False
    styled: Callable[[Record], Text] | None = None


def emit(
    format: Format, records: Sequence[Record], keys: Sequence[str], columns: Sequence[Column], empty: str = ""
) -> None:
    """Print these keys of the records, or these columns; `empty` is what a table says where there are no records."""
    if format == "json":
        typer.echo(json.dumps([{key: record[key] for key in keys} for record in records], indent=2))
    elif format == "csv":
        typer.echo(csv_text(records, keys), nl=False)
    elif not records:
        typer.echo(empty)
    elif in_terminal():
        console = terminal()
        console.print(table(console.width, records, columns))
    else:
        typer.echo(plain_table(records, columns))


def note(text: str) -> None:
    """A line beside the output, on stderr."""
    for line in text.splitlines():
        typer.echo(escaped(line), err=True)


def amount_fields(key: str, unit: Unit, amount: int | None) -> dict[str, Any]:
    """An amount under its key, and under `<key>_usd` the exact dollars as text; None where it is not in dollars."""
    return {key: amount, f"{key}_usd": usd_text(amount) if unit == "usd" and amount is not None else None}


def usd_text(amount_nanousd: int) -> str:
    """Exact dollars as a plain decimal, at least two digits: "4.9931", "-0.10"."""
    whole, part = divmod(abs(amount_nanousd), NANOUSD_PER_USD)
    return f"{'-' if amount_nanousd < 0 else ''}{whole}.{f'{part:09d}'.rstrip('0').ljust(2, '0')}"


def short_amount(unit: Unit, amount: int, down: bool = False) -> str:
    """An amount for a table: dollars to four places, rounded up (or down); others whole."""
    if unit != "usd":
        return f"{amount:,}"
    step = NANOUSD_PER_USD // 10**4
    return format_usd((amount // step if down else -(-amount // step)) * step)


def labels_text(labels: Mapping[str, str]) -> str:
    """Labels on one line, safe for a terminal."""
    return " ".join(f"{escaped(name)}={escaped(value)}" for name, value in labels.items())


def csv_text(records: Sequence[Record], keys: Sequence[str]) -> str:
    """A header and a line for each record; lists and labels are JSON in their cell. None is a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_csv_cell, keys))
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


def in_terminal() -> bool:
    """Whether tables have a width to keep to."""
    return sys.stdout.isatty() or os.environ.get("COLUMNS", "").lstrip("0").isdigit()  # some set it to 0


def terminal() -> Console:
    """The terminal that stdout is."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def table(width: int, records: Sequence[Record], columns: Sequence[Column], last_apart: bool = False) -> RenderableType:
    """A table for a terminal of this width; where not even the narrowest fits, one value below the other.

    With `last_apart` a line stands before the last record, which is bold: a total.
    """
    from rich.box import SIMPLE_HEAD, Box
    from rich.table import Table
    from rich.text import Text

    def cell(column: Column, record: Record) -> Text:
        return Text(column.cell(record)) if column.styled is None else column.styled(record)

    lines = [[cell(column, record) for column in columns] for record in records]
    places = _fitting(width, columns, lines)
    if not places:
        return Text("\n\n").join(_stacked(columns, line) for line in lines)
    shown = Table(
        box=Box(RULED) if last_apart else SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), header_style="bold"
    )
    least = [_least_width(column, place, lines) for place, column in enumerate(columns)]
    spare = width - sum(least[place] + GAP for place in places)
    for place in places:
        column = columns[place]
        fixed = column.right or column.styled is not None
        justify: Literal["right", "left"] = "right" if column.right else "left"
        shown.add_column(column.title, justify=justify, no_wrap=fixed, overflow="fold", min_width=least[place])
        if not fixed:  # rich folds in the middle of a name; this does so after its hyphens
            widest = max([len(column.title), *(line[place].cell_len for line in lines)])
            room = min(widest, least[place] + spare)
            spare -= room - least[place]
            for line in lines:
                line[place] = Text(textwrap.fill(line[place].plain, room))
    for number, line in enumerate(lines, 1):
        apart = {"style": "bold"} if last_apart and number == len(lines) else {}
        shown.add_row(*[line[place] for place in places], end_section=last_apart and number == len(lines) - 1, **apart)
    return shown


def _fitting(width: int, columns: Sequence[Column], lines: Sequence[Sequence[Text]]) -> list[int]:
    """The places of the columns that fit beside each other; none if even those that must be there do not."""
    least = [_least_width(column, place, lines) + GAP for place, column in enumerate(columns)]
    places = list(range(len(columns)))
    while sum(least[place] for place in places) > width:
        extra = [place for place in places if columns[place].extra]
        if not extra:
            return []
        places.remove(extra[-1])
    return places


def _least_width(column: Column, place: int, lines: Sequence[Sequence[Text]]) -> int:
    """What a column needs: numbers and bars stay whole, other text may be folded."""
    widest = max([len(column.title), *(line[place].cell_len for line in lines)])
    return widest if column.right or column.styled is not None else min(widest, max(NARROWEST, len(column.title)))


def _stacked(columns: Sequence[Column], line: Sequence[Text]) -> Text:
    from rich.text import Text

    titled = [(column.title, cell) for column, cell in zip(columns, line, strict=True) if column.title]
    rows = [Text.assemble((f"{title}: ", "bold"), cell) for title, cell in titled]
    return Text("\n").join(rows)


def _csv_cell(value: Any) -> Any:
    from budgetguard.ledger.exporting import text_cell

    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value)
    return text_cell(escaped(value)) if isinstance(value, str) else value
