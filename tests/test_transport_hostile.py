"""Whatever an answer holds: bounded memory, a recorded outcome, the bytes passed on untouched, and nothing raised."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import zlib
from typing import Any

import pytest
from guard_kit import World
from transport_kit import (
    ASKED,
    CHAT,
    HIDDEN,
    JSON,
    SSE,
    STREAMED,
    URLS,
    Endless,
    Heard,
    Play,
    Player,
    event,
    guard_of,
    heard,
    heard_sync,
    ledger_rows,
    only_row,
    peak,
    request,
    word,
)  # fmt: skip

import budgetguard as bg
from budgetguard.integrations.httpx import BudgetTransport

MIB = 2**20
USAGES: dict[str, Any] = {
    "missing": None, "text": "many", "a list": [1], "negative": {"prompt_tokens": -5, "completion_tokens": 1},
    "huge": {"prompt_tokens": 2**60, "completion_tokens": 2**60},
    "floats": {"prompt_tokens": 1.5, "completion_tokens": 2},
    "texts": {"prompt_tokens": "5", "completion_tokens": "6"},
    "true": {"prompt_tokens": True, "completion_tokens": True},
    "nested": {"prompt_tokens": {"prompt_tokens": 5}, "completion_tokens": [7]}, "empty": {},
    "zeros": {"prompt_tokens": 0, "completion_tokens": 0}, "no output": {"prompt_tokens": 5, "completion_tokens": 0},
    "no input": {"prompt_tokens": 0, "completion_tokens": 2},
    "deep": json.loads("[" * 200 + "]" * 200), "no number": {"prompt_tokens": float("nan"), "completion_tokens": 1},
}  # fmt: skip
NOISE = random.Random(7)
BODIES: dict[str, bytes] = {
    "nothing": b"", "white space": b" \n ", "no JSON": b"<html>oops</html>", "half of JSON": b'{"usage": {"prompt_',
    "a list": b"[1, 2]", "a number": b"7", "null": b"null", "invalid UTF-8": b'{"a": "\xff\xfe"}',
    "UTF-16": '{"usage": {}}'.encode("utf-16"), "noise": NOISE.randbytes(5_000), "nulls": bytes(3_000),
    "too deep": b'{"a":' * 100_000, "a number too long": b'{"a": ' + b"9" * 10_000 + b"}",
    "an error that is no object": b'{"error": [1, {"code": ["x"]}]}',
}  # fmt: skip
STREAMS: dict[str, bytes] = {
    **{name: b"data: " + body + b"\n\n" for name, body in BODIES.items()},
    "only comments": b": hello\n\n" * 50,
    "no events": b"hello" * 100,
    "one line for ever": b"data: " + b"x" * 10_000,
    "choices that are none": event({"choices": 7}) + event({"choices": [7, None, {"delta": 7}]}),
    "text that is none": event({"choices": [{"delta": {"content": {"a": 1}, "tool_calls": [None, {"function": 3}]}}]}),
    "lone surrogates": word("\ud83d") * 3,
    "usage, then nonsense": CHAT[-2] + b"data: {\n\n\xff\xff",
}


def once(world: World, play: Play, asked: Any, url: str = URLS["chat"]) -> Heard:
    async def main() -> Heard:
        async with guard_of(world) as guard:
            return await heard(BudgetTransport(guard, Player(play)), request(asked, url))

    return asyncio.run(main())


@pytest.mark.parametrize("name", USAGES)
def test_usage_that_makes_no_sense_is_unknown_and_never_zero(world: World, name: str) -> None:
    body = {"choices": [{"message": {"content": "Hello"}}], "usage": USAGES[name]}
    raw = json.dumps(body).encode()
    assert once(world, Play([raw], JSON), ASKED).passed == raw
    stream = [*CHAT[:4], event({"choices": [], "usage": USAGES[name]})]
    assert once(world, Play(stream), STREAMED).passed == b"".join(stream)
    plain, streamed = ledger_rows(world)
    assert (plain["usage_source"], streamed["usage_source"]) == ("estimate", "counted")
    assert all(row["prompt_tokens"] > 0 and row["completion_tokens"] > 0 for row in (plain, streamed))


@pytest.mark.parametrize("kind", URLS)
def test_no_body_whatever_it_is_breaks_the_call_at_any_api(world: World, kind: str) -> None:
    async def main() -> list[Heard]:
        async with guard_of(world) as guard:
            plays = [
                Play([body[:7], body[7:]], headers, status)
                for body in [*BODIES.values(), *STREAMS.values()]
                for headers in (JSON, SSE, {}, {"content-type": "application/x-ndjson"})
                for status in (200, 500)
            ]
            sent = request({"model": "acme-1", "max_tokens": 5}, URLS[kind])
            return await asyncio.gather(*(heard(BudgetTransport(guard, Player(play)), sent) for play in plays))

    outcomes = asyncio.run(main())
    assert {repr(outcome.error) for outcome in outcomes} == {"None"}
    bodies = [body for body in [*BODIES.values(), *STREAMS.values()] for _ in range(8)]
    assert [outcome.passed for outcome in outcomes] == bodies
    assert len(ledger_rows(world)) == len(bodies)
    assert (world.held(), world.reserved()) == (0, 0)


@pytest.mark.parametrize("first", [2**53 - 1, 2**53 - 2, 2**53 - 300, 10**15])
def test_a_stream_that_claims_a_monstrous_count_at_its_start_is_stopped_by_the_budget_or_recorded(
    world: World, first: int
) -> None:
    claims = {"type": "message_start", "message": {"usage": {"input_tokens": 0, "output_tokens": first}}}
    text = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hello " * 100}}
    play = Play([event(claims), event(text), event(text)])
    stopped = once(world, play, STREAMED, URLS["messages"])
    assert isinstance(stopped.error, bg.BudgetExceeded)

    async def unbounded() -> Heard:
        async with world.guard("5000 requests/day") as guard:
            return await heard(BudgetTransport(guard, Player(play)), request(STREAMED, URLS["messages"]))

    assert asyncio.run(unbounded()).error is None
    assert [row["usage_source"] for row in ledger_rows(world)] == ["counted", "counted"]


def bomb(end: bytes = b"") -> bytes:
    """100 MiB in 100 kB."""
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    packed = [packer.compress(bytes(MIB)) for _ in range(100)]
    return b"".join([*packed, packer.compress(end), packer.flush()])


VECTORS = b'[0.123456789, -0.987654321, "' + b"v" * 65_000 + b'"],'
ENDING = b'[]], "usage": {"prompt_tokens": 4321, "total_tokens": 4321}}'


def test_a_body_of_50_mb_without_usage_is_charged_its_estimate(world: World) -> None:
    chunks: Any = Endless(b"[[[[[[[[" * 8_000, 50 * MIB // 64_000)
    assert peak(world, Play(chunks, JSON), ASKED) < 40 * MIB
    assert ledger_rows(world)[1]["usage_source"] == "estimate"


@pytest.mark.parametrize("asked", [STREAMED, HIDDEN])
def test_an_event_without_end_is_passed_on_in_bounded_memory(world: World, asked: Any) -> None:
    chunks: Any = Endless(b"data: " + b"x" * 64_000, 50 * MIB // 64_000)
    assert peak(world, Play(chunks), asked) < 60 * MIB
    row = ledger_rows(world)[1]
    assert row["usage_source"] == "counted" and row["prompt_tokens"] > 0


def test_a_stream_without_end_is_counted_in_bounded_memory(world: World) -> None:
    chunks: Any = Endless(word("hello " * 100) * 20, 500)
    assert peak(world, Play(chunks), STREAMED) < 3 * MIB
    assert ledger_rows(world)[1]["completion_tokens"] > 500_000


@pytest.mark.parametrize("asked", [ASKED, STREAMED, HIDDEN])
def test_a_bomb_of_gzip_takes_bounded_memory(world: World, asked: Any) -> None:
    headers = {**(JSON if asked is ASKED else SSE), "content-encoding": "gzip"}
    packed = bomb()
    # What is kept from the caller is unpacked for it, so that it gets what a chunk holds: a thousand times as much.
    chunks = [packed[at : at + 16_384] for at in range(0, len(packed), 16_384)] if asked is HIDDEN else [packed]
    assert peak(world, Play(chunks, headers), asked) < 60 * MIB
    assert ledger_rows(world)[1]["prompt_tokens"] > 0


def test_the_usage_at_the_end_of_a_bomb_is_found(world: World) -> None:
    assert peak(world, Play([bomb(ENDING)], {**JSON, "content-encoding": "gzip"}), ASKED) < 60 * MIB
    assert ledger_rows(world)[1]["prompt_tokens"] == 4321


@pytest.mark.parametrize("way", ["async", "sync"])
@pytest.mark.parametrize("headers", [
    {"content-length": "7"}, {"content-length": "x"}, {"content-encoding": "gzip"}, {"content-encoding": "deflate"},
    {"content-encoding": "gzip, gzip"}, {"content-encoding": "zstd"}, {"content-type": "audio/mpeg"},
    {"content-type": "text/event-stream"}, {"content-type": ""}, {"content-type": b"\x80;;;"},
])  # fmt: skip
def test_headers_that_lie_change_nothing_of_what_is_passed_on(world: World, headers: Any, way: str) -> None:
    raw = json.dumps({"usage": {"prompt_tokens": 5, "completion_tokens": 2}}).encode()
    play, guard = Play([raw[:9], raw[9:]], {**JSON, **headers}), guard_of(world)
    if way == "async":
        outcome = once(world, play, ASKED)
    else:
        outcome = heard_sync(BudgetTransport(guard, Player(play)), request(ASKED))
        guard.sync.close()
    assert (outcome.passed, outcome.error) == (raw, None)
    assert only_row(world)["prompt_tokens"] > 0


def test_packed_bodies_are_read_and_passed_on_packed(world: World) -> None:
    raw = gzip.compress(json.dumps({"usage": {"prompt_tokens": 5, "completion_tokens": 2}}).encode())
    outcome = once(world, Play([raw[:5], raw[5:]], {**JSON, "content-encoding": "gzip"}), ASKED)
    assert outcome.passed == raw
    assert only_row(world)["total_tokens"] == 7


@pytest.mark.parametrize("content", [b"", b"no JSON", b"[1]", b'{"model": 7, "stream": "yes"}', b"\xff" * 100,
                                     b'{"model": "' + b"m" * 5_000 + b'"}', b'{"a":' * 50_000])  # fmt: skip
def test_a_request_that_makes_no_sense_is_sent_as_it_is_for_the_provider_to_refuse(
    world: World, content: bytes
) -> None:
    player = Player(Play([b"{}"], JSON, 400))

    async def main() -> Heard:
        async with guard_of(world) as guard:
            return await heard(BudgetTransport(guard, player), request(content))

    assert asyncio.run(main()).error is None
    assert player.requests[0].content == content
    assert world.states() == ["released"]
