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
    typer.Option("--store", metavar="URL", help="The store, instead of the policy's: sqlite:///file.db, redis://..."),
]
FormatOption = Annotated[Format, typer.Option("--format", help="What to print.")]

TeamOption = Annotated[str | None, typer.Option("--team", metavar="GLOB", help="Only this team, or those like `a*`.")]
AgentOption = Annotated[str | None, typer.Option("--agent", metavar="GLOB", help="Only this agent.")]
SessionOption = Annotated[str | None, typer.Option("--session", metavar="GLOB", help="Only this session.")]
TaskOption = Annotated[str | None, typer.Option("--task", metavar="GLOB", help="Only this task.")]
UserOption = Annotated[str | None, typer.Option("--user", metavar="GLOB", help="Only this user.")]
LabelOption = Annotated[
    list[str], typer.Option("--label", metavar="NAME=GLOB", help="Only this value of any other label; repeatable.")
]
