"""`budgetguard ledger export` and `prune`: the rows of a SQL ledger, taken out as a file, or forgotten."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import typer

from budgetguard.cli.ledger import named_ledger
from budgetguard.cli.options import ConfigOption, FormatOption, StoreOption
from budgetguard.cli.output import emit, note
from budgetguard.cli.sources import policy_or_store
from budgetguard.core.amounts import shown
from budgetguard.errors import ConfigError
from budgetguard.policy_checks import a_namespace

AT_ONCE = 5_000
"""Rows that are forgotten in one transaction: a store that shares the file waits no longer than for these."""
LedgerOption = Annotated[
    str | None,
    typer.Option("--ledger", metavar="URL", help="The SQL ledger, instead of the policy's or a SQLite store's own."),
]
NamespaceOption = Annotated[
    str | None, typer.Option("--namespace", metavar="NAME", help="Whose rows, instead of the policy's namespace.")
]


def export(
    format: Annotated[Literal["csv", "json", "parquet"], typer.Option("--format", help="What to write.")] = "csv",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to, instead of the standard output.")
    ] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="WHEN", help="Calls admitted from then on.")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="WHEN", help="Calls admitted before.")] = None,
    ledger: LedgerOption = None,
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
    store: StoreOption = None,
) -> None:
    """Write the ledger's rows, the oldest first: every column, and the exact dollars.

    WHEN is a date or a time, such as 2026-11-01 or 2026-11-01T08:30, in the policy's time zone unless it says its
    offset. Parquet needs a file and the extra `parquet`. A cell of CSV that a spreadsheet would take for a formula
    begins with an apostrophe.
    """
    from budgetguard.ledger.books import open_book
    from budgetguard.ledger.reading import FIRST_MS, LAST_MS, Stretch

    url, own, zone = asked_ledger(ledger, namespace, config, store)
    since_ms = FIRST_MS if since is None else instant_ms("--since", since, zone)
    until_ms = LAST_MS if until is None else instant_ms("--until", until, zone)
    if format == "parquet" and output is None:
        raise ConfigError("--format parquet", ["it is no text for a terminal: say where to with -o FILE"])
    book = open_book(url)
    try:
        count = _exported(book.rows(Stretch(own, since_ms, until_ms)), format, output)
    finally:
        book.close()
    if output is not None:
        note(f"{count:,} {'row' if count == 1 else 'rows'} written to {output}")


def prune(
    before: Annotated[str, typer.Option("--before", metavar="WHEN", help="Forget calls admitted before: a date.")],
    ledger: LedgerOption = None,
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
    store: StoreOption = None,
    format: FormatOption = "table",
) -> None:
    """Forget the ledger's rows before a date, those of refusals too, and their sums. Accounts stay as they are.

    WHEN as for `export`. It may be interrupted and run again; a store on the same file goes on meanwhile. Leave some
    days: a call whose truth comes after its row was forgotten is counted anew.
    """
    from budgetguard.ledger import open_ledger, shown_ledger
    from budgetguard.ledger.books import open_book

    url, own, zone = asked_ledger(ledger, namespace, config, store)
    before_ms = instant_ms("--before", before, zone)
    if before_ms > datetime.now(zone).timestamp() * 1000:
        raise ConfigError("--before", [f"{before} is not past: what is still to come cannot be forgotten"])
    open_book(url).close()  # one that is not there is not made
    target, pruned = open_ledger(url), 0
    try:
        while some := target.prune(own, before_ms, AT_ONCE):
            pruned += some
    finally:
        target.close()
    done = {"ledger": shown_ledger(url), "namespace": own, "before": _text(before_ms, zone), "rows": pruned}
    if format == "table":
        rows = f"{pruned:,} {'row' if pruned == 1 else 'rows'}"
        typer.echo(f"{rows} of {own} before {done['before']} forgotten in {done['ledger']}")
    else:
        emit(format, [done], list(done), ())


def _exported(rows: Iterator[dict[str, Any]], format: str, output: Path | None) -> int:
    from budgetguard.ledger import exporting

    if output is None:
        write = exporting.write_csv if format == "csv" else exporting.write_json
        return write(rows, sys.stdout)
    if format == "parquet":
        with output.open("wb") as file:
            return exporting.write_parquet(rows, file)
    write = exporting.write_csv if format == "csv" else exporting.write_json
    with output.open("w", encoding="utf-8", newline="") as text:
        return write(rows, text)


def asked_ledger(
    ledger: str | None, namespace: str | None, config: Path | None, store: str | None
) -> tuple[str, str, ZoneInfo]:
    """The ledger's URL, the namespace, and the time zone in which dates are meant.

    Raises:
        ConfigError: nobody says which ledger, or a name is none.
    """
    # With a ledger that was named no store is needed, and no policy.
    policy, settings = policy_or_store(config, store or ("sqlite:///:memory:" if ledger is not None else None))
    faults = [] if namespace is None else list(a_namespace("--namespace", namespace))
    if faults:
        raise ConfigError("command line", faults)
    return (
        named_ledger(ledger, policy, settings),
        namespace or settings.namespace,
        ZoneInfo(policy.timezone if policy else "UTC"),
    )


def instant_ms(option: str, text: str, zone: ZoneInfo) -> int:
    """A date or a time of an option, in this zone unless it says its offset.

    Raises:
        ConfigError: it is neither.
    """
    try:
        at = datetime.fromisoformat(text)
        return round((at if at.tzinfo else at.replace(tzinfo=zone)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise ConfigError(
            option, [f"expected a date or time such as 2026-11-01 or 2026-11-01T08:30, not {shown(text)}"]
        ) from None


def _text(instant_ms: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(instant_ms / 1000, zone).isoformat(timespec="seconds")
