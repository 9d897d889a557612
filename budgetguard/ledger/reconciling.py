"""A ledger compared with what a provider says was called: by day (UTC) and model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from fractions import Fraction
from typing import NamedTuple

from budgetguard.core.amounts import NANOUSD_PER_USD, shown
from budgetguard.errors import ConfigError
from budgetguard.ledger.reading import LAST_MS, Book, Stretch
from budgetguard.ledger.sums import SLOT, SLOT_MS
from budgetguard.ledger.usage_files import MEASURES, Said, UsageFile

DAY_MS = 86_400_000
_DATED = re.compile(r"[-@:_ ]?(?:20[0-9]{2}-?(?:0[1-9]|1[0-2])-?(?:[0-2][0-9]|3[01]))$")
_TOLERANCE = re.compile(r"\$?([0-9]{1,12}(?:\.[0-9]{1,12})?)|([0-9]{1,3}(?:\.[0-9]{1,12})?) ?%")
_EXACT = Context(prec=200)


class Tolerance(NamedTuple):
    """How much two sides may differ: by dollars, or by a share of what the file says, of every measure."""

    usd: Fraction = Fraction()
    share: Fraction = Fraction()

    def passes(self, measure: str, ledger: int | Fraction, file: int | Fraction) -> bool:
        """Whether the two are alike enough."""
        most = self.share * abs(Fraction(file)) + (self.usd if measure == "cost_usd" else 0)
        return abs(Fraction(ledger) - file) <= most


class Compared(NamedTuple):
    """What both sides say of a day and a model; both are "" for the total. `differing` measures are not alike."""

    day: str
    model: str
    ledger: Said
    file: Said
    differing: tuple[str, ...]


@dataclass(frozen=True)
class Reconciled:
    """Every day and model of either side, in order; and their total, in which nothing is judged.

    Of the ledger's calls `unpriced_calls` have no known price, which counts 0.
    """

    lines: tuple[Compared, ...]
    total: Compared
    unpriced_calls: int

    @property
    def differs(self) -> bool:
        return any(line.differing for line in self.lines)


def parse_tolerance(text: str) -> Tolerance:
    """Dollars ("0.05", "$0.05") or a share of what the file says ("0.5%").

    Raises:
        ConfigError: it is neither.
    """
    found = _TOLERANCE.fullmatch(text)
    if found is None:
        raise ConfigError("--tolerance", [f"expected dollars such as 0.05, or a share such as 0.5%, not {shown(text)}"])
    if found[2] is not None:
        return Tolerance(share=Fraction(found[2]) / 100)
    return Tolerance(usd=Fraction(found[1]))


def reconcile(book: Book, namespace: str, file: UsageFile, provider: str | None, tolerance: Tolerance) -> Reconciled:
    """Compare the days that the file tells of.

    Args:
        provider: only calls to this one, and those without a provider whose model the file names; None: all calls.

    Raises: as `Book.sums`.
    """
    by_model = any(model for _, model in file.said)
    models = {model for _, model in file.said}
    ledger: dict[tuple[str, str], Said] = {}
    unpriced_calls = 0
    for one in book.sums(_stretch(namespace, file), (SLOT, "model", "provider")):
        slot, model, of = one.group
        known = name_in(model, models) if by_model else ""
        if provider is None or of == provider or (not of and known in models):
            day = datetime.fromtimestamp(int(slot) * SLOT_MS / 1000, UTC).date().isoformat()
            cost = Fraction(one.cost_nanousd, NANOUSD_PER_USD)
            said = Said(one.calls, one.prompt_tokens, one.completion_tokens, cost)
            ledger.setdefault((day, known), Said()).add(said)
            unpriced_calls += one.unpriced_calls
    keys = sorted({*ledger, *file.said})
    lines = [_compared(key, ledger.get(key, Said()), file.said.get(key, Said()), file, tolerance) for key in keys]
    total = Compared("", "", Said(), Said(), ())
    for line in lines:
        total.ledger.add(line.ledger)
        total.file.add(line.file)
    return Reconciled(tuple(lines), total, unpriced_calls)


def name_in(model: str, models: Iterable[str]) -> str:
    """Which of a file's models a model of the ledger is: the same name, or the only one that is the same but for a date
    ("gpt-4o-2024-08-06", "claude-haiku-4-5@20251001") or the way it is written ("Claude Haiku 4.5"); else its own.
    """
    models = set(models)
    if model in models:
        return model
    alike = [other for other in models if other and stem(other) == stem(model)]
    return alike[0] if len(alike) == 1 else model


def stem(model: str) -> tuple[str, ...]:
    """What of a model's name does not depend on who writes it: its words without a date, in alphabetical order."""
    without = _DATED.sub("", model.strip().lower())
    return tuple(sorted(word for word in re.split(r"[\s._@:/-]+", without) if word))


def usd_text(exact: Fraction) -> str:
    """Dollars as an exact decimal with at least two digits."""
    number = _EXACT.divide(Decimal(exact.numerator), Decimal(exact.denominator))
    whole, _, part = f"{number:f}".partition(".")
    return f"{whole}.{part.rstrip('0').ljust(2, '0')}"


def _stretch(namespace: str, file: UsageFile) -> Stretch:
    """The days that a file tells of."""
    return Stretch(namespace, _day_ms(file.first_day), min(_day_ms(file.last_day) + DAY_MS, LAST_MS))


def _compared(key: tuple[str, str], ledger: Said, file: Said, of: UsageFile, tolerance: Tolerance) -> Compared:
    differing = [
        name
        for name in MEASURES
        if name in of.measures and not tolerance.passes(name, getattr(ledger, name), getattr(file, name))
    ]
    return Compared(*key, ledger, file, tuple(differing))


def _day_ms(day: str) -> int:
    return (date.fromisoformat(day) - date(1970, 1, 1)).days * DAY_MS
