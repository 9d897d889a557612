"""A provider's usage or cost export, read: what it says was called on each day (UTC), by model.

Forms are told by their columns:

- OpenAI's usage export (`completions_usage_....csv`): start_time or start_time_iso, model, input_tokens, output_tokens,
  num_model_requests. Its cost export (`cost_....csv`): start_time or start_time_iso, amount_value, amount_currency, and
  where it is grouped by it, line_item ("gpt-4o-mini, input").
- Anthropic's usage export: usage_date_utc, model_version, usage_input_tokens_no_cache, ..._cache_write_5m,
  ..._cache_write_1h, ..._cache_read, usage_output_tokens. Its cost export: usage_date_utc, model, cost_usd.
- A plain one: day, model, and what there is of requests, input_tokens, output_tokens and cost (in dollars).

Other columns do not matter. Lines of the same day and model are added up. The exports are those of the two consoles,
as of 2026.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, TextIO

from budgetguard.core.amounts import shown
from budgetguard.errors import ConfigError

MEASURES = ("calls", "input_tokens", "output_tokens", "cost_usd")
_WHOLE = re.compile(r"([0-9]{1,18})(?:\.0*)?")
_DOLLARS = re.compile(r"\$?(-?[0-9]{1,15}(?:\.[0-9]{0,60})?(?:[eE][+-]?[0-9]{1,2})?)")
_SECONDS = re.compile(r"[0-9]{9,11}(?:\.0*)?")


class Form(NamedTuple):
    """Which columns say what: of several the first that is there, of `input_tokens` the sum of all that are.

    `needs` are columns without which a file is not of this form; one of `day` is needed too.
    """

    name: str
    provider: str | None
    needs: tuple[str, ...]
    day: tuple[str, ...]
    model: tuple[str, ...] = ("model",)
    calls: tuple[str, ...] = ()
    input_tokens: tuple[str, ...] = ()
    output_tokens: tuple[str, ...] = ()
    cost_usd: tuple[str, ...] = ()


_STARTS = ("start_time_iso", "start_time")
FORMS = (
    Form(
        "Anthropic's usage export", "anthropic", ("model_version", "usage_input_tokens_no_cache"), ("usage_date_utc",),
        ("model_version",), (),
        (
            "usage_input_tokens_no_cache", "usage_input_tokens_cache_write", "usage_input_tokens_cache_write_5m",
            "usage_input_tokens_cache_write_1h", "usage_input_tokens_cache_read",
        ),
        ("usage_output_tokens",),
    ),
    Form("Anthropic's cost export", "anthropic", ("model", "cost_usd"), ("usage_date_utc",), cost_usd=("cost_usd",)),
    Form("OpenAI's cost export", "openai", ("amount_value",), _STARTS, ("line_item",), cost_usd=("amount_value",)),
    Form(
        "OpenAI's usage export", "openai", ("input_tokens", "output_tokens"), _STARTS, ("model",),
        ("num_model_requests",), ("input_tokens",), ("output_tokens",),
    ),
    Form(
        "a plain file", None, ("model",), ("day", "date"), ("model",), ("requests", "calls"), ("input_tokens",),
        ("output_tokens",), ("cost", "cost_usd"),
    ),
)  # fmt: skip
"""The first that fits is the one."""


@dataclass
class Said:
    """What one side says of a day and a model. Dollars are exact."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Fraction = field(default_factory=Fraction)

    def add(self, other: Said) -> None:
        """Count this too."""
        for measure in MEASURES:
            setattr(self, measure, getattr(self, measure) + getattr(other, measure))


@dataclass(frozen=True)
class UsageFile:
    """An export: by day ("2026-11-22") and model ("" where it tells none), in the `measures` that its form has.

    It tells of the days from the first to the last: on those between of which it says nothing, nothing was called.
    """

    form: Form
    measures: tuple[str, ...]
    first_day: str
    last_day: str
    said: Mapping[tuple[str, str], Said]


class _Line:
    """One line, by column."""

    def __init__(self, source: str, number: int, cells: Mapping[str, str]) -> None:
        self.source, self.number, self.cells = source, number, cells

    def text(self, columns: Sequence[str]) -> str:
        return next((self.cells[name].strip() for name in columns if name in self.cells), "")

    def says(self, columns: Sequence[str]) -> bool:
        return any(self.cells.get(name, "").strip() for name in columns)

    def whole(self, columns: Sequence[str]) -> int:
        return self._whole(self._named(columns)) if self.says(columns) else 0

    def sum_of(self, columns: Sequence[str]) -> int:
        return sum(self._whole(name) for name in columns if name in self.cells)

    def dollars(self, columns: Sequence[str]) -> Fraction:
        text = self.text(columns)
        found = _DOLLARS.fullmatch(text.replace("-$", "$-", 1))
        if text and found is None:
            raise self.fault(f"{self._named(columns)}: expected dollars such as 1.25, not {shown(text)}")
        return Fraction(found[1].rstrip(".")) if found else Fraction()

    def day(self, columns: Sequence[str]) -> str:
        text = self.text(columns)
        try:
            if _SECONDS.fullmatch(text):
                return datetime.fromtimestamp(float(text), UTC).date().isoformat()
            at = datetime.fromisoformat(text)
            return (at.astimezone(UTC) if at.tzinfo else at).date().isoformat()
        except (ValueError, OverflowError, OSError):
            named = self._named(columns)
            raise self.fault(f"{named}: expected a day such as 2026-11-22, not {shown(text)}") from None

    def fault(self, text: str) -> ConfigError:
        return ConfigError(self.source, [f"line {self.number}: {text}"])

    def _whole(self, name: str) -> int:
        found = _WHOLE.fullmatch(self.cells[name].strip() or "0")
        if found is None:
            raise self.fault(f"{name}: expected a whole number such as 1200, not {shown(self.cells[name])}")
        return int(found[1])

    def _named(self, columns: Sequence[str]) -> str:
        return next(name for name in columns if name in self.cells)


def read_usage_file(path: Path) -> UsageFile:
    """Read an export.

    Raises:
        ConfigError: it cannot be read, is of no known form (names the columns that were found), or says something that
            is no day or number; names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _read(file, str(path))
    except UnicodeDecodeError:
        raise ConfigError(str(path), ["it is not UTF-8: save it as CSV in UTF-8"]) from None
    except OSError as error:
        raise ConfigError(str(path), [f"it cannot be read: {error.strerror or error}"]) from None


def _read(file: TextIO, source: str) -> UsageFile:
    lines = _lines(file, source)
    form, columns = _form_of(next(lines).cells, source)
    measures = tuple(name for name in MEASURES if any(one in columns for one in getattr(form, name)))
    days: set[str] = set()
    said: dict[tuple[str, str], Said] = {}
    for line in lines:
        day = line.day(form.day)
        days.add(day)
        if not any(line.says(getattr(form, name)) for name in (*measures, "model")):
            continue  # a stretch in which nothing was called
        tokens = line.sum_of(form.input_tokens), line.whole(form.output_tokens)
        one = Said(line.whole(form.calls), *tokens, line.dollars(form.cost_usd))
        currency = line.text(("amount_currency", "currency"))
        if form.cost_usd and currency.lower() not in ("", "usd"):
            raise line.fault(f"its cost is in {shown(currency)}: only dollars can be compared")
        model = line.text(form.model)
        key = day, model.partition(", ")[0] if form.model == ("line_item",) else model
        said.setdefault(key, Said()).add(one)
    if not days:
        raise ConfigError(source, ["it has a header and no lines: nothing can be compared"])
    return UsageFile(form, measures, min(days), max(days), said)


def _lines(file: TextIO, source: str) -> Iterator[_Line]:
    """The header as a line of its own names, then the lines. Blank ones are passed over."""
    reader, names, number = csv.reader(file, delimiter=_delimiter(file), strict=True), list[str](), 1
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                pass
            elif not names:
                names = [re.sub(r"[\s_-]+", "_", cell.strip().lower()) for cell in cells]
                twice = next((name for name in names if names.count(name) > 1), None)
                if twice is not None:
                    raise ConfigError(source, [f"line {number}: it has two columns {shown(twice)}"])
                yield _Line(source, number, {name: name for name in names})
            elif len(cells) != len(names):
                fault = f"line {number}: it has {len(cells)} cells and the header {len(names)}"
                raise ConfigError(source, [fault])
            else:
                yield _Line(source, number, dict(zip(names, cells, strict=True)))
            number = reader.line_num + 1
    except csv.Error as error:
        raise ConfigError(source, [f"line {max(number, reader.line_num)}: it is no CSV: {error}"]) from None
    if not names:
        raise ConfigError(source, ["it is empty: name a provider's export, as CSV"])


def _delimiter(file: TextIO) -> str:
    """A comma; a semicolon or a tab where a spreadsheet has written the header with these."""
    header = next((line for line in file if line.strip()), "")
    file.seek(0)
    return max(",;\t", key=header.count)


def _form_of(header: Mapping[str, str], source: str) -> tuple[Form, frozenset[str]]:
    columns = frozenset(header)
    for form in FORMS:
        some = any(name in columns for measure in MEASURES for name in getattr(form, measure))
        if some and columns.issuperset(form.needs) and columns.intersection(form.day):
            return form, columns
    found = ", ".join(shown(name) for name in header)
    raise ConfigError(
        source,
        [
            f"its columns are {found[:500]}: needed are day, model and some of requests, input_tokens, output_tokens "
            "and cost; or a usage or cost export of OpenAI or Anthropic as it was downloaded"
        ],
    )
