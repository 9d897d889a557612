"""The typer app: which commands there are, and what becomes of their errors.

A command is a plain function, with typer annotations (the common ones are in `options`), in a module of its name. All
of them are imported for `budgetguard --help`, so they import what is slow (rich, asyncio, stores) inside functions.
A command that has checked something and found it wrong raises `typer.Exit(1)`; whatever it raises besides is told in
one line, and the exit code is 2.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

import typer
from typer.main import get_command

from budgetguard.cli.output import note
from budgetguard.errors import BudgetGuardError

FAILED = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
PIPE_CLOSED = 141  # 128 + SIGPIPE

app = typer.Typer(
    help="Budgets that hold for the LLM calls of many agents and teams.",
    add_completion=False,
    rich_markup_mode=None,
)


@app.callback()
def _commands() -> None:
    """Budgets that hold for the LLM calls of many agents and teams."""


for _name in ("simulate", "demo"):
    if find_spec(f"budgetguard.cli.{_name}"):
        app.command(_name)(getattr(import_module(f"budgetguard.cli.{_name}"), _name))


def run(args: Sequence[str]) -> int:
    """Run one command; returns its exit code. No error leaves this function."""
    try:
        command = get_command(app)
        with command.make_context("budgetguard", list(args) or ["--help"]) as context:
            command.invoke(context)
        sys.stdout.flush()
    except typer.Exit as end:
        return end.exit_code
    except typer.TyperException as error:
        return _failed(error.format_message())
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read has gone; what is still buffered must not be tried again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except BudgetGuardError as error:
        return _failed(str(error))
    except OSError as error:
        return _failed(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except Exception as error:  # noqa: BLE001 - a user is never shown a traceback
        return _failed(f"a defect of budgetguard, please report it: {type(error).__name__}: {error}")
    return 0


def _failed(text: str) -> int:
    note(text)
    return FAILED
