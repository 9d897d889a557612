"""The fake provider replays recorded exchanges: every one that lies beside the checkout, and requests like them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from wire_kit import body_of, exchanges
from wire_truth import stream_of, usage_of

from budgetguard.testing import FakeProvider, Recorded, Reply, exchange_reply, recorded_exchange


@contextlib.asynccontextmanager
async def provided(**options: Any) -> AsyncIterator[tuple[FakeProvider, httpx2.AsyncClient]]:
    async with FakeProvider(**options) as provider, httpx2.AsyncClient(base_url=provider.url, timeout=30) as client:
        yield provider, client


def test_every_recorded_reply_is_played_as_it_was_recorded_and_bills_what_was_billed() -> None:
    rows = exchanges()

    async def scenario() -> None:
        async with provided() as (provider, client):
            for row in rows:
                path = row["request"]["path"].rpartition(">")[2] if row["request"] else "/v1/chat/completions"
                provider.reply_next(exchange_reply(row))
                response = await client.post(path, json={}, headers={"x-request-id": row["id"]})
                whole = stream_of(row) if row.get("stream_format") else body_of(row)
                assert (response.status_code, response.content) == (row["response"]["status"], whole), row["id"]
            billed = {call.id: call for call in provider.bill}
            assert [call.request_id for call in provider.bill] == [call.id for call in provider.bill]
            for row in rows:
                if row["truth_kind"] == "error":
                    assert row["id"] not in billed
                elif row["truth_kind"] == "reported":
                    call, truth = billed[row["id"]], usage_of(row)
                    assert (call.input_tokens, call.output_tokens) == (truth.input_tokens, truth.output_tokens)
                    assert (call.cache_read_tokens, call.reasoning_tokens) == (
                        truth.cache_read_tokens, truth.reasoning_tokens,
                    )  # fmt: skip
                    assert call.cost_nanousd == truth.cost_nanousd

    asyncio.run(scenario())
    assert Counter(row["truth_kind"] for row in rows)["reported"] > 1_000


def test_every_recorded_request_finds_its_recorded_reply_also_with_what_a_guard_adds_to_it() -> None:
    known = [recorded_exchange(row) for row in exchanges() if row["request"]]
    replies: dict[str, list[bytes]] = {}
    for exchange in known:
        replies.setdefault(told(exchange), []).append(exchange.reply.content)

    async def scenario() -> None:
        async with provided() as (provider, client):
            provider.replay(known)
            for number, exchange in enumerate(known):
                telling = {"stream_options": {**(exchange.body.get("stream_options") or {}), "include_usage": True}}
                for added in ({}, telling, {"max_new": 7})[: 1 if number % 4 else 3]:
                    asked = exchange._replace(body={**exchange.body, **added})
                    response = await client.request(asked.method, asked.path, json=asked.body)
                    # What a guard adds may make it another of the recorded requests.
                    assert response.content in replies.get(told(asked), replies[told(exchange)]), exchange.reply.id

    asyncio.run(scenario())


def told(exchange: Recorded) -> str:
    """A request, which others may have asked in the same words."""
    return json.dumps(exchange[:3], sort_keys=True)


def test_recordings_of_the_same_request_take_turns_and_what_was_not_recorded_is_told() -> None:
    async def scenario() -> None:
        async with provided() as (provider, client):
            first, second = Reply.json({"n": 1}), Reply.json({"n": 2})
            path = "/v1/messages?beta=true"
            provider.replay([Recorded("POST", path, {"model": "x"}, first), Recorded("POST", path, None, second)])
            provider.replay([Recorded("POST", path, {"model": "x"}, Reply.json({"n": 3}))])
            asked = [{"model": "x"}, {"model": "x"}, {"model": "y"}, {"model": "x", "n": 1}, {}]
            answers = [(await client.post(path, json=body)).json()["n"] for body in asked]
            assert answers == [1, 3, 2, 1, 2], "who asked for most answers; equal ones take turns"
            missed = await client.post("/v1/messages", json={"model": "x"})
            assert missed.status_code == 404
            assert "is none of the 3 recorded requests" in missed.json()["error"]["message"]
            assert provider.bill == []

    asyncio.run(scenario())


def test_a_row_without_its_request_gives_a_reply_only() -> None:
    row = {"id": "r", "request": None, "response": {"status": 200, "headers": {}, "json": {"a": 1}}}
    assert exchange_reply(row).content == b'{"a": 1}'
    with pytest.raises(ValueError, match="the request of r was not recorded"):
        recorded_exchange(row)
