"""The options that every command takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Format = Literal["table", "json", "csv"]

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", help="The policy. [default: BUDGETGUARD_CONFIG, else ./budgetguard.toml]"
    ),
]
StoreOption = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="The store, instead of the policy's: sqlite:///file.db ..."),
]
FormatOption = Annotated[Format, typer.Option("--format", help="What to print.")]
