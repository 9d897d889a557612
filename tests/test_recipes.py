"""The Python blocks of docs/recipes are run as they stand, against the real packages and a provider on this machine."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from recipe_kit import MODEL, RECIPES, Recipe, assert_does_what_it_says, run_recipe

from budgetguard.testing import Reply, sse_event

pytestmark = [pytest.mark.early]  # the frameworks are imported anew
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


PAGES = {
    "asgi": Recipe(("fastapi", "httpx", "openai"), 1, r"429 .*'retry-after'.*violated-policies"),
    "google-genai": Recipe(("google.genai",), 2, replies=(
        Reply.json(GENERATED), Reply.stream([sse_event(GENERATED)]),
    )),
    "langchain": Recipe(("langchain_openai",), 2),
    "openai-agents": Recipe(("agents",), 1, replies=(Reply.json(RESPONSE),)),
    "opentelemetry": Recipe(("opentelemetry.sdk", "openai"), 2, '"name": "chat gpt-4o-mini"'),
    "pydantic-ai": Recipe(("pydantic_ai", "openai"), 2),
}  # fmt: skip


ELSEWHERE = {"litellm"}  # tests/test_litellm.py


def is_installed(name: str) -> bool:
    return importlib.util.find_spec(name.partition(".")[0]) is not None


def test_recipes_do_what_they_say(tmp_path: Path) -> None:
    """One test: all are forks of one process, which has imported the frameworks."""
    needed = {name for recipe in PAGES.values() for name in recipe.needs if is_installed(name)}
    run = [page for page, recipe in PAGES.items() if all(map(is_installed, recipe.needs))]
    for page in run:
        folder = tmp_path / page
        folder.mkdir()
        told = run_recipe(page, PAGES[page], folder, ("budgetguard.stores.sqlite", *sorted(needed)))
        assert_does_what_it_says(PAGES[page], *told)
    if missed := PAGES.keys() - set(run):
        pytest.skip(f"what these need is not installed: {', '.join(sorted(missed))}")


def test_every_page_is_run() -> None:
    assert {path.stem for path in RECIPES.glob("*.md")} == PAGES.keys() | ELSEWHERE
