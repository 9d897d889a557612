"""`budgetguard demo`: the main job, against a local provider."""

from __future__ import annotations

import asyncio

import typer


def demo() -> None:
    """Let two teams of agents spend against budgets at a local provider, and compare its bill with the books."""
    from rich.console import Console

    try:
        from budgetguard.demo.run import demonstrate
    except ModuleNotFoundError as error:
        raise typer.BadParameter(f"the demonstration needs {error.name}: pip install 'llm-budgetguard[demo]'") from None
    if not asyncio.run(demonstrate(Console())):
        raise typer.Exit(1)
