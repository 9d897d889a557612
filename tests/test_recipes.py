"""The Python blocks of docs/recipes are run as they stand, against the real packages and a provider on this machine."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from recipe_kit import MODEL, RECIPES, Recipe, assert_does_what_it_says, blocks_of, run_recipe

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
ANSWER = {
    "id": "m-1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "Hello!"}], "usage": {"input_tokens": 50, "output_tokens": 10},
}  # fmt: skip
RESPONSE = {
    "id": "r-1", "object": "response", "created_at": 1, "status": "completed", "model": MODEL, "output": [MESSAGE],
    "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    "usage": {"input_tokens": 50, "output_tokens": 10, "total_tokens": 60,
              "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}},
}  # fmt: skip


BLOCKS = {
    "asgi": Recipe(("fastapi", "httpx", "openai"), 1, r"429 .*'retry-after'.*violated-policies"),
    "google-genai": Recipe(("google.genai",), 2, replies=(
        Reply.json(GENERATED), Reply.stream([sse_event(GENERATED)]),
    )),
    "langchain": Recipe(("langchain_openai",), 2),
    "langchain: Anthropic": Recipe(("langchain_anthropic",), 1, replies=(Reply.json(ANSWER),), number=1),
    "openai-agents": Recipe(("agents",), 1, replies=(Reply.json(RESPONSE),)),
    "opentelemetry": Recipe(("opentelemetry.sdk", "openai"), 2, '"name": "chat gpt-4o-mini"'),
    "pydantic-ai": Recipe(("pydantic_ai", "openai"), 2),
}  # fmt: skip


ELSEWHERE = {"litellm"}  # tests/test_litellm.py


def page_of(name: str) -> str:
    return name.partition(":")[0]


def is_installed(name: str) -> bool:
    return importlib.util.find_spec(name.partition(".")[0]) is not None


def test_recipes_do_what_they_say(tmp_path: Path) -> None:
    """One test: all are forks of one process, which has imported the frameworks."""
    needed = {name for recipe in BLOCKS.values() for name in recipe.needs if is_installed(name)}
    run = [name for name, recipe in BLOCKS.items() if all(map(is_installed, recipe.needs))]
    for name in run:
        folder = tmp_path / name
        folder.mkdir()
        told = run_recipe(page_of(name), BLOCKS[name], folder, ("budgetguard.stores.sqlite", *sorted(needed)))
        assert_does_what_it_says(BLOCKS[name], *told)
    if missed := BLOCKS.keys() - set(run):
        pytest.skip(f"what these need is not installed: {', '.join(sorted(missed))}")


def test_every_block_is_run() -> None:
    there = {(path.stem, number) for path in RECIPES.glob("*.md") for number in range(len(blocks_of(path.stem)))}
    assert there == {(page_of(name), recipe.number) for name, recipe in BLOCKS.items()} | {
        (page, 0) for page in ELSEWHERE
    }
