"""The rows of a ledger as CSV, JSON or Parquet, one after the other: however many there are."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, BinaryIO, Literal, TextIO

from budgetguard.errors import ConfigError
from budgetguard.ledger.table import COLUMNS

Form = Literal["csv", "json", "parquet"]
_AFTER = COLUMNS.index("cost_nanousd") + 1
KEYS = (*COLUMNS[:_AFTER], "cost", *COLUMNS[_AFTER:])
"""What is exported of a row: its columns, and the exact dollars beside the nano-dollars."""
AT_ONCE = 10_000
"""Rows of a group of Parquet's."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet takes for the beginning of a formula (OWASP, CSV injection)."""
_CONTROLS = {number: f"\\x{number:02x}" for number in (*range(32), *range(127, 160))}
"""What a terminal may obey is shown by its number."""
_WHOLE = frozenset(name for name in KEYS if name.endswith(("_tokens", "_ms", "_nanousd"))) | {"revision", "attempt"}
_SCALE = Decimal(1).scaleb(-9)

Row = Mapping[str, Any]


def write_csv(rows: Iterable[Row], out: TextIO) -> int:
    """Write a header and a line for each row; how many. No cell is taken for a formula by a spreadsheet."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(KEYS)
    return _counted(rows, lambda row: writer.writerow([_cell(row[name]) for name in KEYS]))


def write_json(rows: Iterable[Row], out: TextIO) -> int:
    """Write one list, an object on each line; how many. What a terminal might obey is escaped."""
    begins = itertools.chain(["[\n"], itertools.repeat(",\n"))

    def write(row: Row) -> None:
        out.write(next(begins))
        out.write(json.dumps({name: _plain(row[name]) for name in KEYS}))

    count = _counted(rows, write)
    out.write("\n]\n" if count else "[]\n")
    return count


def write_parquet(rows: Iterable[Row], out: BinaryIO) -> int:
    """Write a Parquet file; how many rows. Tokens are int64, money decimal(20, 9), times UTC in microseconds.

    Raises:
        ConfigError: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigError(
            "--format parquet", [f'it needs pyarrow ({error}): pip install "llm-budgetguard[parquet]"']
        ) from None
    kinds = {
        **dict.fromkeys(_WHOLE, pyarrow.int64()), "cost": pyarrow.decimal128(20, 9), "streamed": pyarrow.bool_(),
        **dict.fromkeys(("timestamp", "settled_at"), pyarrow.timestamp("us", tz="UTC")),
    }  # fmt: skip
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in KEYS])
    count = 0
    with parquet.ParquetWriter(out, schema) as writer:
        for some in _groups(_with_cost(rows)):
            columns = [
                pyarrow.array([_of_column(name, row) for row in some], type=schema.field(name).type) for name in KEYS
            ]
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))
            count += len(some)
    return count


def _counted(rows: Iterable[Row], write: Callable[[Row], object]) -> int:
    count = 0
    for row in _with_cost(rows):
        write(row)
        count += 1
    return count


def _with_cost(rows: Iterable[Row]) -> Iterator[Row]:
    for row in rows:
        cost_nanousd = row["cost_nanousd"]
        yield {**row, "cost": None if cost_nanousd is None else cost_nanousd * _SCALE}


def _cell(value: Any) -> Any:
    plain = _plain(value)
    if isinstance(plain, (dict, list)):
        plain = json.dumps(plain)
    return text_cell(plain) if isinstance(plain, str) else plain


def text_cell(text: str) -> str:
    """A text as a cell of CSV: no formula to a spreadsheet, and nothing that a terminal obeys."""
    return f"'{text.translate(_CONTROLS)}" if text.startswith(_FORMULA) else text.translate(_CONTROLS)


def _plain(value: Any) -> Any:
    return f"{value:f}" if isinstance(value, Decimal) else value


def _of_column(name: str, row: Row) -> Any:
    value = row[name]
    if name in ("timestamp", "settled_at"):
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value


def _groups(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while some := list(itertools.islice(rows, AT_ONCE)):
        yield some
