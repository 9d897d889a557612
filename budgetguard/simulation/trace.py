"""A trace: one call for each line of a CSV file, plain or gzipped, in the order in which they began."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, NoReturn

from budgetguard.core.amounts import shown
from budgetguard.errors import InvalidInput, InvalidLabel
from budgetguard.labels import check_label
from budgetguard.simulation.exported import Exported, is_export

REQUIRED = ("timestamp_s", "model", "prompt_tokens", "completion_tokens")
LABELS = {
    "agent": "agent", "task": "task", "run": "session", "team": "team", "user": "user", "provider": "provider",
}  # fmt: skip
"""Columns that a trace may have, and the labels that they become. Others are passed over."""
FIRST_BYTE_MS, TOKEN_MS = 300, 20
MOST_TOKENS = 10**9
MOST_S = 366 * 86_400
"""A trace is at most a leap year long: it counts from its own start, not from 1970."""
_GZIP = b"\x1f\x8b"


class TracedCall(NamedTuple):
    """One call: when it began (from the start of the trace), what it took, and the labels of its columns."""

    at_ms: int
    model: str
    prompt_tokens: int
    completion_tokens: int
    labels: Mapping[str, str]

    @property
    def takes_ms(self) -> int:
        return FIRST_BYTE_MS + TOKEN_MS * self.completion_tokens


def read_trace(path: Path) -> list[TracedCall]:
    """The calls of a trace, the earliest first; those of one instant in the order of the file.

    Columns: `timestamp_s` (seconds from the start), `model`, `prompt_tokens`, `completion_tokens`, and where they are
    there `team`, `agent`, `task`, `run` (the session), `user` and `provider`. An empty cell of these says that the call
    has no such label. The CSV of `budgetguard ledger export` is read as well.

    Raises:
        InvalidInput: the file is no such trace; names the file, the line and the column.
        OSError: it cannot be read.
    """
    data = path.read_bytes()
    try:
        text = (gzip.decompress(data) if data.startswith(_GZIP) else data).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput(f"{path}: it is not UTF-8 text; a trace is a CSV file, plain or gzipped") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InvalidInput(f"{path}: it cannot be unpacked: {error}") from None
    calls = list(_calls(io.StringIO(text, newline=""), str(path)))
    if not calls:
        raise InvalidInput(f"{path}: there are no calls in it")
    calls.sort(key=itemgetter(0))
    return [call for _, call in calls]


def _calls(text: io.StringIO, source: str) -> Iterator[tuple[float, TracedCall]]:
    reader = csv.reader(text, strict=True)
    try:
        header = [cell.strip() for cell in next(reader, [])]
        exported = Exported(header) if is_export(header) else None
        rows = _Rows(_places(header if exported is None else exported.header, source), source)
        for row in reader:
            cells = row if exported is None or not row else exported.row(row)
            if cells:
                yield rows.read(cells, reader.line_num)
    except csv.Error as error:
        raise InvalidInput(f"{source}, line {reader.line_num}: {error}") from None


def _places(header: Sequence[str], source: str) -> Mapping[str, int]:
    """Where each column stands."""
    places: dict[str, int] = {}
    for place, name in enumerate(header):
        if name in places and name in (*REQUIRED, *LABELS):
            raise InvalidInput(f"{source}, line 1: there are two columns {name}; keep one of them")
        places[name] = place
    missing = [name for name in REQUIRED if name not in places]
    if missing:
        raise InvalidInput(
            f"{source}, line 1: the column {missing[0]} is missing; a trace begins with {','.join(REQUIRED)}, or is "
            "what `budgetguard ledger export` writes"
        )
    return places


class _Rows:
    """Reads the rows of one file. Calls with the same labels share them."""

    def __init__(self, places: Mapping[str, int], source: str) -> None:
        self._source = source
        self._at, self._model, self._prompt, self._completion = (places[name] for name in REQUIRED)
        self._labels = [(label, places[name]) for name, label in LABELS.items() if name in places]
        self._width = 1 + max([places[name] for name in REQUIRED] + [place for _, place in self._labels])
        self._known: dict[tuple[str, ...], Mapping[str, str]] = {}

    def read(self, cells: Sequence[str], line: int) -> tuple[float, TracedCall]:
        if len(cells) < self._width:
            self._refuse(line, f"there are {len(cells)} cells where at least {self._width} belong")
        at_s = self._seconds(cells[self._at], line)
        call = TracedCall(
            round(at_s * 1000),
            cells[self._model],
            self._tokens(cells[self._prompt], "prompt_tokens", line),
            self._tokens(cells[self._completion], "completion_tokens", line),
            self._labels_of(cells, line),
        )
        return at_s, call

    def _seconds(self, cell: str, line: int) -> float:
        try:
            at_s = float(cell)
        except ValueError:
            self._refuse(line, f"timestamp_s must be a number of seconds, not {shown(cell)}")
        if not (isfinite(at_s) and 0 <= at_s <= MOST_S):
            limits = f"from 0 to {MOST_S} (366 days)"
            self._refuse(line, f"timestamp_s counts from the start of the trace, {limits}, and is {shown(cell)}")
        return at_s

    def _tokens(self, cell: str, column: str, line: int) -> int:
        text = cell.strip()
        if not (text.isascii() and text.isdecimal() and len(text) <= 20 and int(text) <= MOST_TOKENS):
            self._refuse(line, f"{column} must be a whole number from 0 to {MOST_TOKENS:,}, not {shown(cell)}")
        return int(text)

    def _labels_of(self, cells: Sequence[str], line: int) -> Mapping[str, str]:
        texts = (cells[self._model], *(cells[place] for _, place in self._labels))
        labels = self._known.get(texts)
        if labels is None:
            labels = {name: cells[place] for name, place in self._labels if cells[place]}
            try:
                for name, value in {"model": cells[self._model], **labels}.items():
                    check_label(name, value)
            except InvalidLabel as error:
                self._refuse(line, str(error))
            self._known[texts] = labels
        return labels

    def _refuse(self, line: int, problem: str) -> NoReturn:
        raise InvalidInput(f"{self._source}, line {line}: {problem}")
