"""`budgetguard doctor`: what is installed, set and stored, and the proof that ledger and accounts agree."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from budgetguard.cli.ledger_books import LedgerOption, NamespaceOption
from budgetguard.cli.options import ConfigOption, Format, FormatOption, StoreOption
from budgetguard.cli.output import Column, Record, emit, note
from budgetguard.cli.sources import policy_or_store, policy_path, store_url
from budgetguard.errors import ConfigError
from budgetguard.policy import StoreSettings
from budgetguard.policy_checks import a_ledger_url, a_namespace
from budgetguard.refusal import escaped

if TYPE_CHECKING:
    from rich.text import Text

    from budgetguard.doctor.asked import Patient
    from budgetguard.doctor.comparing import Change
    from budgetguard.doctor.examining import Report

KEYS = ("check", "state", "found", "do")
COLUMNS = (
    Column("check", lambda record: record["check"]),
    Column("state", lambda record: record["state"], styled=lambda record: _coloured(record["state"])),
    Column("found", lambda record: escaped(record["found"])),
)
CHANGE_KEYS = ("what", "before", "now")
CHANGE_COLUMNS = tuple(Column(key, lambda record, key=key: escaped(record[key])) for key in CHANGE_KEYS)  # type: ignore[misc]


def doctor(
    config: ConfigOption = None,
    store: StoreOption = None,
    ledger: LedgerOption = None,
    namespace: NamespaceOption = None,
    format: FormatOption = "table",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Keep all that was found, as JSON.")
    ] = None,
    compare: Annotated[
        Path | None, typer.Option("--compare", metavar="FILE", help="Show what has changed since FILE was kept.")
    ] = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Set the accounts of open windows to what the ledger tells, then look.")
    ] = False,
) -> None:
    """Look at what is installed, set and stored, and prove that ledger and accounts agree.

    Spent is what the ledger's rows charge, reserved is what open reservations hold, and nothing waits anywhere. It
    changes nothing without --fix, and may be run while calls are. Exit code 1 if anything failed.
    """
    from budgetguard.doctor.comparing import changes, read_evidence
    from budgetguard.doctor.examining import examine

    before = None if compare is None else read_evidence(compare)
    patient = _patient(config, store, ledger, namespace)
    if fix:
        _fix(patient)
    report = asyncio.run(examine(patient, ["budgetguard", *sys.argv[1:]]))
    evidence = report.evidence()
    found = None if before is None else changes(before, evidence)
    if output is not None:
        output.write_text(json.dumps(evidence, indent=2) + "\n", encoding="utf-8")
        note(f"all that was found is kept in {output}")
    _show(format, report, found, kept=output is not None)
    if report.failed:
        raise typer.Exit(1)


def _coloured(state: str) -> Text:
    from rich.text import Text

    return Text(state, {"ok": "green", "warning": "yellow"}.get(state, "bold red"))


def _patient(config: Path | None, store: str | None, ledger: str | None, namespace: str | None) -> Patient:
    """Whom to look at. A policy that is wrong is something to tell, not an error.

    Raises:
        ConfigError: the command line is wrong.
    """
    from budgetguard.doctor.asked import Patient

    store_url(store)
    faults = [] if namespace is None else list(a_namespace("--namespace", namespace))
    faults += [] if ledger is None else a_ledger_url("--ledger", ledger)
    if faults:
        raise ConfigError("command line", faults)
    path = policy_path(config)
    try:
        policy, settings = policy_or_store(config, store)
    except ConfigError as error:
        return Patient(path, None, StoreSettings(), None, error.faults)
    if namespace is not None:
        settings = replace(settings, namespace=namespace)
    own = settings.url if settings.url is None or settings.url.startswith("sqlite") else None
    patient = Patient(path, policy, settings, ledger)
    if patient.sqlite_path is not None:
        return patient._replace(ledger=own or patient.url)  # it is the ledger itself
    return patient._replace(ledger=ledger or (policy.ledger.url if policy is not None else None))


def _fix(patient: Patient) -> None:
    from budgetguard.doctor.fixing import fix

    if patient.faults:
        raise ConfigError(str(patient.path), patient.faults)
    for line in asyncio.run(fix(patient, note)):
        note(line)


def _show(format: Format, report: Report, found: Sequence[Change] | None, *, kept: bool) -> None:
    records: list[Record] = [{**check._asdict(), "check": check.name} for check in report.checks]
    changed: list[Record] = [change._asdict() for change in found or ()]
    if format == "json":
        if not kept or found is not None:
            more = {} if found is None else {"changes": changed}
            typer.echo(json.dumps(report.evidence() | more, indent=2))
        return
    emit(format, records, KEYS, COLUMNS)
    advice = [f"{check.name}: {escaped(check.do)}" for check in report.checks if check.do]
    if format == "table" and advice:
        typer.echo("\nWhat to do:\n" + "\n".join(advice))
    if found is not None:
        typer.echo("")
        emit(format, changed, CHANGE_KEYS, CHANGE_COLUMNS, "nothing has changed since")
