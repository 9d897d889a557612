"""The options of reports, and the ledger that they are read from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from budgetguard.cli.ledger_books import asked_ledger
from budgetguard.cli.stretches import asked_stretch, zone_of_option

if TYPE_CHECKING:
    from budgetguard.ledger.reading import Book, Stretch

Form = Literal["table", "csv", "json", "markdown", "html"]
FormOption = Annotated[Form, typer.Option("--format", help="What to write.")]
ByOption = Annotated[
    str, typer.Option("--by", metavar="NAMES", help="Labels, model, provider, hour, day, week, month: team,agent.")
]
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
VerifyOption = Annotated[
    bool, typer.Option("--verify", help="Add it up again from the single rows; exit code 1 if it differs.")
]


class Asked(NamedTuple):
    """What the options of a report say: which calls, of which ledger."""

    since: str | None
    until: str | None
    last: str | None
    timezone: str | None
    globs: Mapping[str, str]
    ledger: str | None
    namespace: str | None
    config: Path | None
    store: str | None

    @contextmanager
    def opened(self) -> Iterator[tuple[Book, Stretch, str]]:
        """The ledger, which calls of it, and the time zone.

        Raises:
            ConfigError: an option says what cannot be.
            StoreAway, StoreUnusable: the ledger cannot be read.
        """
        from budgetguard.ledger.books import open_book

        url, own, policy_zone = asked_ledger(self.ledger, self.namespace, self.config, self.store)
        zone = zone_of_option(self.timezone, policy_zone)
        stretch = asked_stretch(own, self.since, self.until, self.last, zone)
        book = open_book(url)
        try:
            yield book, stretch, zone.key
        finally:
            book.close()
