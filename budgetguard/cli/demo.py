"""`budgetguard demo`: the main job, against a local provider."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from budgetguard.cli.options import FormatOption
from budgetguard.cli.output import emit
from budgetguard.cli.sources import policy_of, store_url
from budgetguard.errors import ConfigError
from budgetguard.policy import Policy

KEYS = ("team", "agent", "calls", "input_tokens", "output_tokens", "cost_nanousd")
DemoConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", metavar="FILE", help="Hold the agents to these budgets as well.")
]
DemoStoreOption = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="URL", help="redis://..., or sqlite:///file.db to keep. [default: a temporary file]"
    ),
]


def demo(config: DemoConfigOption = None, store: DemoStoreOption = None, format: FormatOption = "table") -> None:
    """Let two teams of agents spend against budgets at a local provider, and compare its bill with the books.

    Exits with 1 if they do not agree.
    """
    from rich.console import Console

    try:
        from budgetguard.demo.run import demonstrate
    except ModuleNotFoundError as error:
        raise typer.BadParameter(f"the demonstration needs {error.name}: pip install 'llm-budgetguard[demo]'") from None
    policy: Policy | None = None if config is None else policy_of(config, None)
    url = store_url(store)
    if url is not None and url.endswith(":memory:"):
        raise ConfigError("--store", ["the demonstration reads the ledger with SQL: expected sqlite:///file.db"])
    console = Console(file=sys.stdout if format == "table" else sys.stderr)
    books = asyncio.run(demonstrate(console, url, policy))
    if format != "table":
        emit(format, [row._asdict() for row in books.by_agent], KEYS, ())
    if not books.agree:
        raise typer.Exit(1)
