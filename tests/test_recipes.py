"""The Python blocks of docs/recipes are run as they stand, against the real packages and a provider on this machine."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from test_litellm import MISSING, PYTHON

from budgetguard.testing import FakeProvider, ProviderPrice, Reply, sse_event

pytestmark = [pytest.mark.early]  # each imports a framework anew
RECIPES = Path(__file__).parents[1] / "docs" / "recipes"
MODEL = "gpt-4o-mini"
REFUSED = r"refused this call: [12] requests/day is spent"
GENERATED = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "Hello!"}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 50, "candidatesTokenCount": 10, "totalTokenCount": 60},
}
MESSAGE = {
    "id": "m-1", "type": "message", "role": "assistant", "status": "completed",
    "content": [{"type": "output_text", "text": "Hello!", "annotations": []}],
}  # fmt: skip
RESPONSE = {
    "id": "r-1", "object": "response", "created_at": 1, "status": "completed", "model": MODEL, "output": [MESSAGE],
    "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    "usage": {"input_tokens": 50, "output_tokens": 10, "total_tokens": 60,
              "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}},
}  # fmt: skip


class Recipe(NamedTuple):
    """What a page needs, how many calls its block makes, and what it prints."""

    needs: tuple[str, ...]
    calls: int
    says: str = REFUSED
    replies: tuple[Any, ...] = ()


PAGES = {
    "asgi": Recipe(("fastapi", "httpx", "openai"), 1, r"429 .*'retry-after'.*violated-policies"),
    "google-genai": Recipe(("google.genai",), 2, replies=(
        Reply.json(GENERATED), Reply.stream([sse_event(GENERATED)]),
    )),
    "langchain": Recipe(("langchain_openai",), 2),
    "litellm": Recipe((), 2),
    "openai-agents": Recipe(("agents",), 1, replies=(Reply.json(RESPONSE),)),
    "opentelemetry": Recipe(("opentelemetry.sdk", "openai"), 2, '"name": "chat gpt-4o-mini"'),
    "pydantic-ai": Recipe(("pydantic_ai", "openai"), 2),
}  # fmt: skip


def block_of(page: str) -> str:
    """The only Python block of a page."""
    (block,) = re.findall(r"```python\n(.*?)```", (RECIPES / f"{page}.md").read_text(encoding="utf-8"), re.DOTALL)
    return str(block)


async def run(block: str, recipe: Recipe, folder: Path) -> tuple[str, int]:
    """What it prints, and how many calls the provider has billed."""
    async with FakeProvider({MODEL: ProviderPrice(150_000_000, 600_000_000)}) as provider:
        provider.reply_next(*recipe.replies)
        python = str(PYTHON) if "litellm" in block else sys.executable
        environment = {
            **os.environ, "XDG_STATE_HOME": str(folder), "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "any", "GOOGLE_GEMINI_BASE_URL": provider.url,
        }  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            python, "-c", block, cwd=folder, env=environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(120):
            said, wrong = await process.communicate()
        assert process.returncode == 0, wrong.decode()
        return said.decode(), len(provider.bill)


@pytest.mark.parametrize("page", PAGES)
def test_a_recipe_does_what_it_says(page: str, tmp_path: Path) -> None:
    recipe = PAGES[page]
    if page == "litellm" and not PYTHON.exists():
        pytest.skip(MISSING)
    for name in recipe.needs:
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            pytest.skip(f"{name} is not installed")
    said, calls = asyncio.run(run(block_of(page), recipe, tmp_path))
    assert re.search(recipe.says, said), said
    assert calls == recipe.calls


def test_every_page_is_run() -> None:
    assert {path.stem for path in RECIPES.glob("*.md")} == PAGES.keys()
