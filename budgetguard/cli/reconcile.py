"""`budgetguard ledger reconcile`: the ledger compared with a provider's usage or cost export."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from budgetguard.cli.ledger_books import LedgerOption, NamespaceOption, asked_ledger
from budgetguard.cli.options import ConfigOption, Format, FormatOption, StoreOption
from budgetguard.cli.output import Column, Record, emit, note
from budgetguard.refusal import escaped

if TYPE_CHECKING:
    from budgetguard.ledger.reconciling import Compared, Reconciled
    from budgetguard.ledger.usage_files import UsageFile

TITLES = {"calls": "Calls", "input_tokens": "Input tokens", "output_tokens": "Output tokens", "cost_usd": "Cost"}
NO_MODEL = "(no model)"
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The export, as CSV.")]
ProviderOption = Annotated[
    str | None,
    typer.Option("--provider", metavar="NAME", help="Whose calls. [default: of the export; of a plain file all]"),
]
ToleranceOption = Annotated[
    str,
    typer.Option("--tolerance", metavar="AMOUNT", help="How much a line may differ: dollars (0.05) or a share (0.5%)."),
]


def reconcile(
    file: FileArgument,
    provider: ProviderOption = None,
    tolerance: ToleranceOption = "0",
    ledger: LedgerOption = None,
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
    store: StoreOption = None,
    format: FormatOption = "table",
) -> None:
    """Compare the ledger with what a provider says was called, by day (UTC) and model; list the differences.

    FILE is a usage or cost export of OpenAI or Anthropic as it was downloaded, or has the columns day, model and some
    of requests, input_tokens, output_tokens and cost (in dollars). Models are the same whose names differ only by a
    date or in how they are written. A tolerance in dollars is for costs: calls and tokens must be equal then. Exit
    code 1 if a line differs by more. Differences are ledger minus file; nothing is changed.
    """
    from budgetguard.ledger.books import open_book
    from budgetguard.ledger.reconciling import parse_tolerance
    from budgetguard.ledger.reconciling import reconcile as compare
    from budgetguard.ledger.usage_files import read_usage_file
    from budgetguard.reports.lines import counted

    most = parse_tolerance(tolerance)
    url, own, _ = asked_ledger(ledger, namespace, config, store)
    said = read_usage_file(file)
    of = provider or said.form.provider
    book = open_book(url)
    try:
        found = compare(book, own, said, of, most)
    finally:
        book.close()
    _show(found, said, format)
    count, lines = sum(bool(line.differing) for line in found.lines), len(found.lines)
    calls = f"calls to {escaped(of)}" if of else "all calls"
    note(f"{said.form.name}, {said.first_day} to {said.last_day}, with {calls} of {own}: {count} of {lines} differ")
    if found.unpriced_calls and "cost_usd" in said.measures:
        note(f"{counted(found.unpriced_calls, 'call')} of the ledger without a known price, counted as $0")
    if found.differs:
        raise typer.Exit(1)


def _show(found: Reconciled, said: UsageFile, format: Format) -> None:
    records = [_record(line, said, "line") for line in found.lines]
    total = _record(found.total, said, "total")
    if format == "json":
        typer.echo(json.dumps([*records, total], indent=2))
    elif format == "csv":
        typer.echo(_csv([*records, total]), nl=False)
    else:
        shown = [*(record for record in records if record["differing"]), total]
        emit(format, shown, (), _columns(said, shown))


def _record(line: Compared, said: UsageFile, kind: str) -> Record:
    from budgetguard.ledger.reconciling import usd_text

    record: dict[str, Any] = {"line": kind, "day": line.day or None, "model": line.model or None}
    for name in said.measures:
        ledger, file = getattr(line.ledger, name), getattr(line.file, name)
        for side, amount in (("ledger", ledger), ("file", file), ("difference", ledger - file)):
            record[f"{side}_{name}"] = usd_text(amount) if name == "cost_usd" else amount
    return record | {"differing": list(line.differing)}


def _csv(records: list[Record]) -> str:
    from budgetguard.ledger.exporting import text_cell

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(records[0])
    for record in records:
        model, differing = text_cell(escaped(record["model"] or "")), " ".join(record["differing"])
        writer.writerow({**record, "model": model, "differing": differing}.values())
    return text.getvalue()


def _columns(said: UsageFile, shown: list[Record]) -> list[Column]:
    """Of the measures those that differ somewhere, and the cost."""
    columns = [
        Column("Day", lambda record: record["day"] or "(total)"),
        Column("Model", lambda record: "" if record["line"] == "total" else escaped(record["model"] or NO_MODEL)),
    ]
    for name in said.measures:
        if name == "cost_usd" or any(name in record["differing"] for record in shown):
            columns += _pair(name)
    return columns


def _pair(name: str) -> list[Column]:
    def cell(side: str, record: Record) -> str:
        amount = record[f"{side}_{name}"]
        if name != "cost_usd":
            return f"{amount:+,}" if side == "difference" and amount else f"{amount:,}"
        sign, digits = ("-", amount[1:]) if amount.startswith("-") else ("", amount)
        plus = "+" if side == "difference" and not sign and digits.strip("0.") else sign
        return f"{plus}${digits}"

    return [
        Column(TITLES[name], lambda record: cell("ledger", record), right=True),
        Column("in file", lambda record: cell("file", record), right=True),
        Column("difference", lambda record: cell("difference", record), right=True),
    ]
