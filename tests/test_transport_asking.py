"""Streams are asked for their usage only where the server can be asked; what it was not asked for is counted."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest
from guard_kit import World
from transport_kit import DONE, HIDDEN, SSE, STOP, Heard, heard, only_row, request, word

import budgetguard as bg
from budgetguard.integrations.httpx import BudgetTransport

AZURE = "https://r.openai.azure.com/openai/deployments/gpt-4o/chat/completions?api-version="
STRICT = bg.Host("strict.example", "strict", "openai", refuses_stream_options=True)
OWN_DATA = {**HIDDEN, "data_sources": [{"type": "azure_search"}]}
STREAM = b"".join((word("Hello"), word(" world"), STOP, DONE))
REFUSAL = {"error": {"message": "Unknown parameter: 'stream_options'.", "code": "unknown_parameter"}}


def strict(asked: Any) -> Any:
    """A server that does not know `stream_options`."""
    if b"stream_options" in asked.content:
        return httpx2.Response(400, json=REFUSAL)
    return httpx2.Response(200, headers=SSE, content=STREAM)


def once(world: World, url: str, asked: Any) -> Heard:
    async def main() -> Heard:
        async with world.guard("100M tokens/day", hosts=[STRICT]) as guard:
            sent = request(json.dumps(asked, indent=3).encode(), url)
            return await heard(BudgetTransport(guard, httpx2.MockTransport(strict)), sent)

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("https://api.mistral.ai/v1/chat/completions", HIDDEN),
        ("https://strict.example/v1/chat/completions", HIDDEN),
        (f"{AZURE}2024-02-01", HIDDEN),
        (f"{AZURE}2024-08-01-preview", HIDDEN),
        (f"{AZURE}2024-10-21", OWN_DATA),
    ],
)
def test_a_server_that_refuses_to_be_asked_is_not_and_its_stream_is_counted(world: World, url: str, asked: Any) -> None:
    assert once(world, url, asked).passed == STREAM
    row = only_row(world)
    assert row["usage_source"] == "counted" and row["completion_tokens"] > 0


@pytest.mark.parametrize("url", [f"{AZURE}2024-10-21", "https://other.example/v1/chat/completions"])
def test_any_other_is_asked(world: World, url: str) -> None:
    assert once(world, url, HIDDEN).response.status_code == 400
    assert world.states() == ["released"]


def test_a_caller_who_asks_where_nobody_should_is_answered_by_the_server(world: World) -> None:
    asked = {**HIDDEN, "stream_options": {"include_usage": True}}
    assert json.loads(once(world, "https://strict.example/v1/chat/completions", asked).passed) == REFUSAL
