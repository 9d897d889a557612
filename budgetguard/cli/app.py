"""The typer app: which commands there are, and what becomes of their errors.

A command is a plain function, with typer annotations (the common ones are in `options`), in a module of its name. All
of them are imported for `budgetguard --help`, so they import what is slow (rich, asyncio, stores) inside functions.
A command that has checked something and found it wrong raises `typer.Exit(1)`; whatever it raises besides is told in
one line, and the exit code is 2.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.main import get_command

from budgetguard.cli import alerts, holds, ledger, report
from budgetguard.cli.chargeback import chargeback
from budgetguard.cli.check import check
from budgetguard.cli.demo import demo
from budgetguard.cli.doctor import doctor
from budgetguard.cli.estimates import estimates
from budgetguard.cli.init import init
from budgetguard.cli.ledger_books import export, prune
from budgetguard.cli.metrics import metrics
from budgetguard.cli.output import note
from budgetguard.cli.reconcile import reconcile
from budgetguard.cli.refusals import refusals
from budgetguard.cli.report_duplicates import duplicates
from budgetguard.cli.simulate import simulate
from budgetguard.cli.status import status
from budgetguard.cli.usage import usage
from budgetguard.cli.why import why
from budgetguard.errors import BudgetGuardError, ConfigError
from budgetguard.version import VERSION

FAILED = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
PIPE_CLOSED = 141  # 128 + SIGPIPE

app = typer.Typer(
    help="Budgets that hold for the LLM calls of many agents and teams.",
    add_completion=False,
    rich_markup_mode=None,
)


def _tell_version(asked: bool) -> None:
    if not asked:
        return
    typer.echo(f"budgetguard {VERSION}")
    raise typer.Exit


@app.callback()
def budgetguard(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Tell the version, and exit.")
    ] = False,
) -> None:
    """The options of no command: `--version` is done where it is read."""


app.command()(init)
app.command()(check)
app.command()(status)
app.add_typer(holds.commands, name="holds")
ledger.commands.command()(export)
ledger.commands.command()(prune)
ledger.commands.command()(reconcile)
app.add_typer(ledger.commands, name="ledger")
report.commands.command()(chargeback)
report.commands.command()(duplicates)
app.add_typer(report.commands, name="report")
app.command()(usage)
app.command()(estimates)
app.command()(refusals)
app.command()(why)
app.command()(metrics)
app.add_typer(alerts.commands, name="alerts")
app.command()(doctor)
app.command()(simulate)
app.command()(demo)


def run(args: Sequence[str]) -> int:
    """Run one command; returns its exit code. No error leaves this function."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a label may have what the terminal's encoding has not
    code = _run(args)
    try:
        sys.stdout.flush()
    except OSError as error:
        # It cannot be written; Python must not try again at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code or _told(error)
    return code


def _run(args: Sequence[str]) -> int:
    try:
        command = get_command(app)
        with command.make_context("budgetguard", list(args) or ["--help"]) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except typer.TyperException as error:
        return _failed(error.format_message())
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - a user is never shown a traceback
        return _told(error)
    return 0


def _told(error: Exception) -> int:
    """Say what went wrong, in one line (a policy's faults in one each); returns the exit code."""
    if isinstance(error, BrokenPipeError):
        return PIPE_CLOSED  # who read has gone, and need not be told
    if isinstance(error, ConfigError) and len(error.faults) == 1:
        return _failed(f"{error.source}: {error.faults[0]}")
    if isinstance(error, BudgetGuardError):
        return _failed(str(error))
    if isinstance(error, OSError):
        # Files are opened by their names; without one it is what was to be printed.
        return _failed(f"{error.filename or 'output'}: {error.strerror or error}")
    return _failed(f"a defect of budgetguard, please report it: {type(error).__name__}: {error}")


def _failed(text: str) -> int:
    note(text)
    return FAILED
