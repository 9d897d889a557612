"""A stream that breaks off at any byte is settled once: at what it said for good, else at its input and what came."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx2
import pytest
from guard_kit import World
from store_kit import rows
from transport_kit import HANG, URLS, Heard, Play, Player, heard, ledger_rows, request
from wire_kit import Exchange, exchanges
from wire_truth import KINDS, STREAMS, api_of, frames_of, report_of, stream_of

import budgetguard as bg
from budgetguard.answer import DOUBT
from budgetguard.estimate import estimate
from budgetguard.integrations.httpx import BudgetTransport
from budgetguard.wire.apis import recognise
from budgetguard.wire.asked import Asked, asked
from budgetguard.wire.frames import frames_for
from budgetguard.wire.reports import StreamReport

SHORT, EVERY_BYTE = 1_200, 4_096
"""Bytes. The second is the longest stream that is cut at each byte."""
PLACES = 50
AT_ONCE = 256
ENDINGS = ("broken", None, HANG)
RAISED = (httpx2.ReadError, type(None), asyncio.CancelledError)
"""The connection breaks, the body just ends, or nothing comes any more until the caller cancels."""
Row = tuple[Any, ...]


def streams() -> list[Exchange]:
    """The recorded streams, the shortest first."""
    found = [row for row in exchanges(*KINDS) if row["stream"] and row["stream_format"]]
    return sorted((row for row in found if "status" in row["response"]), key=lambda row: len(stream_of(row)))


def shortest() -> list[Exchange]:
    """The shortest of each kind, and of chats that were not asked for their usage, to be cut at each byte."""
    found: dict[Any, Exchange] = {}
    for row in streams():
        chosen = (row["api"], row["stream_format"], row["truth_kind"], recording(row["id"]).asked.hides_usage)
        if len(stream_of(row)) <= EVERY_BYTE:
            found.setdefault(chosen, row)
    return list(found.values())


@dataclass(frozen=True)
class Recording:
    """A recorded stream, and its request as it is sent here."""

    row: Exchange
    body: bytes
    url: str
    content: bytes
    asked: Asked

    @property
    def headers(self) -> dict[str, str]:
        return {"content-type": STREAMS[self.row["stream_format"]]}


@cache
def recording(id: str) -> Recording:
    (row,) = (row for row in streams() if row["id"] == id)
    known = row["request"]["json"] if row["request"] else None
    content = json.dumps(known or {"model": row["model"], "stream": True, "messages": []}).encode()
    url = URLS[api_of(row).kind]
    if row["stream_format"] == "json_array_stream":
        url = url.partition("?")[0]
    _, _, host, path = url.split("/", 3)
    api = recognise("POST", host, f"/{path}")
    assert api is not None and not isinstance(api, str) and api.kind == api_of(row).kind
    return Recording(row, stream_of(row), url, content, asked(api, content))


def places(found: Recording, every_byte: bool) -> list[int]:
    """Where to cut: at each byte, or around each event and at seeded places."""
    size = len(found.body)
    if every_byte:
        return list(range(size + 1))
    chosen, end = set(random.Random(found.row["id"]).choices(range(size + 1), k=PLACES)), 0
    for frame in frames_of(found.row):
        end += len(frame.raw)
        chosen |= {end - 1, end, end + 1}
    return sorted(place for place in chosen if 0 <= place <= size)


def expected(found: Recording, came: bytes, is_end: bool) -> tuple[Row, bytes]:
    """Prompt, completion and source as the rules have them, and what is passed on, told from the bytes at once."""
    request = found.asked
    frames = frames_for(found.headers["content-type"], request.api.kind, streams=True)
    assert frames is not None
    report, passed = StreamReport(request.api), b""
    for frame in [*frames.feed(came), *(frames.end() if is_end else ())]:
        report.feed(frame)
        passed += b"" if report.is_usage_chunk(frame) else frame.raw
    if not request.hides_usage:
        passed = came
    if report.reported is not None:
        usages = [report.reported.usage, *(usage for _, usage in report.reported.others)]
        return (sum(u.input_tokens for u in usages), sum(u.output_tokens for u in usages), "reported"), passed
    own, is_bounded, _ = estimate(request.api, request.body, len(found.content))
    said = report.so_far.usage if report.so_far else None
    input_tokens = (said.input_tokens if said else 0) or own.input_tokens
    counted = report.streamed_tokens()
    if is_bounded and counted < DOUBT * own.output_tokens:  # no call takes more than its request allows
        counted = min(counted, own.output_tokens)
    output_tokens = max(counted, said.output_tokens if said else 0)
    return (input_tokens, output_tokens, "counted"), passed


async def cut(guard: bg.Guard, found: Recording, place: int) -> Heard:
    """Send the request; its answer is cut there, in one of three manners, and comes in chunks of any size."""
    spread = random.Random(place)
    came, chunks = found.body[:place], []
    while came:
        size = spread.choice([1, 7, 200, 5_000])
        chunks.append(came[:size])
        came = came[size:]
    ending: Any = ENDINGS[place % 3]
    if ending == "broken":
        ending = httpx2.ReadError("reset by peer")  # a new one: an error keeps all the frames that it was raised in
    player = Player(Play(chunks, found.headers, ending=ending))
    transport = BudgetTransport(guard, player, session=f"{found.row['id']}/{place}")
    call = asyncio.create_task(heard(transport, request(found.content, found.url)))
    if ending == HANG:
        await player.waits(call)
        call.cancel()
    return await call


async def check(world: World, guard: bg.Guard, found: Recording, cuts: list[int]) -> None:
    """Cut a stream at these places, and compare what is passed on, and what is settled, with the rules."""
    outcomes = await asyncio.gather(*(cut(guard, found, place) for place in cuts))
    id, errs = found.row["id"], report_of(found.row).error is not None
    settled = {row["session_id"]: row for row in ledger_rows(world)}
    assert len(settled) == len(cuts)
    for place, outcome in zip(cuts, outcomes, strict=True):
        ending = ENDINGS[place % 3]
        right, passed = expected(found, found.body[:place], is_end=ending is None)
        known = right[-1] == "reported"
        status = "settled" if known or ending is None else "cancelled" if ending == HANG else "error"
        where = f"{found.row['provider']} {found.row['api']} {id} cut at {place} by {ending!r}"
        row = settled[f"{id}/{place}"]
        assert (row["prompt_tokens"], row["completion_tokens"], row["usage_source"]) == right, where
        assert row["status"] == status or (errs and row["status"] == "error"), where
        assert row["revision"] == 1 and (known or row["prompt_tokens"] > 0), where
        assert outcome.passed == passed, where
        assert type(outcome.error) is RAISED[place % 3], where


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is kept of what is logged: these are 200,000 calls."""
    caplog.set_level(logging.ERROR, "budgetguard")


async def all_cuts(world: World, found: list[Exchange], every_byte: bool) -> int:
    """Cut each stream everywhere; how many times."""
    guard, count = world.guard("9000B tokens/total", observers=[]), 0
    async with guard:
        for row in found:
            cuts = places(recording(row["id"]), every_byte)
            for start in range(0, len(cuts), AT_ONCE):
                await check(world, guard, recording(row["id"]), cuts[start : start + AT_ONCE])
                rows(world.path, "DELETE FROM token_usage")  # else each look into it takes longer
            count += len(cuts)
    assert (world.held(), world.reserved()) == (0, 0)
    return count


def test_short_streams_of_each_kind_cut_at_every_byte_are_settled_once_and_rightly(world: World) -> None:
    found = [row for row in shortest() if len(stream_of(row)) <= SHORT]
    assert {api_of(row).kind for row in found} >= {"chat", "messages", "generateContent", "converse"}
    assert asyncio.run(all_cuts(world, found, every_byte=True)) > 5_000


def test_others_of_each_kind_cut_around_each_event_and_at_seeded_places_are_settled_once_and_rightly(
    world: World,
) -> None:
    found = [row for row in shortest() if len(stream_of(row)) > SHORT]
    assert {api_of(row).kind for row in found} >= {"chat", "completions", "responses", "cohere_chat", "interactions"}
    assert asyncio.run(all_cuts(world, found, every_byte=False)) > 500


@pytest.mark.long
def test_every_stream_up_to_4_kb_cut_at_every_byte_is_settled_once_and_rightly(world: World) -> None:
    short = [row for row in streams() if len(stream_of(row)) <= EVERY_BYTE]
    assert asyncio.run(all_cuts(world, short, every_byte=True)) > 200_000


@pytest.mark.long
def test_longer_streams_cut_around_each_event_and_at_seeded_places_are_settled_once_and_rightly(world: World) -> None:
    longer = [row for row in streams() if len(stream_of(row)) > EVERY_BYTE]
    assert asyncio.run(all_cuts(world, longer, every_byte=False)) > 10_000
