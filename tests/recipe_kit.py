"""The Python block of a page of docs/recipes, run as it stands against a provider on this machine."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

from warm_python import ran_warm

from budgetguard.testing import FakeProvider, ProviderPrice

RECIPES = Path(__file__).parents[1] / "docs" / "recipes"
MODEL = "gpt-4o-mini"
REFUSED = r"refused this call: [12] requests/day is spent"


class Recipe(NamedTuple):
    """What a block of a page imports, how many calls it makes, what it prints, and which of the page's blocks it is."""

    needs: tuple[str, ...]
    calls: int
    says: str = REFUSED
    replies: tuple[Any, ...] = ()
    number: int = 0


def blocks_of(page: str) -> list[str]:
    """The Python blocks of a page: each is a program."""
    return re.findall(r"```python\n(.*?)```", (RECIPES / f"{page}.md").read_text(encoding="utf-8"), re.DOTALL)


def run_recipe(
    page: str, recipe: Recipe, folder: Path, modules: tuple[str, ...] = (), python: str = sys.executable
) -> tuple[str, int]:
    """What it prints, and how many calls the provider has billed."""
    with FakeProvider.in_thread({MODEL: ProviderPrice(150_000_000, 600_000_000)}) as provider:
        provider.reply_next(*recipe.replies)
        environment = {
            **os.environ, "XDG_STATE_HOME": str(folder), "OPENAI_API_KEY": "any", "OPENAI_BASE_URL": provider.base_url,
            "ANTHROPIC_BASE_URL": provider.url, "ANTHROPIC_API_KEY": "any", "GOOGLE_GEMINI_BASE_URL": provider.url,
        }  # fmt: skip
        said = ran_warm(blocks_of(page)[recipe.number], folder, environment, modules or recipe.needs, python=python)
        return said, len(provider.bill)


def assert_does_what_it_says(recipe: Recipe, said: str, calls: int) -> None:
    """As its page has it."""
    assert re.search(recipe.says, said), said
    assert calls == recipe.calls
