"""The chunk that tells a chat's usage is asked for where the caller did not, and kept from that caller alone."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import zlib
from typing import Any

import httpx
import httpx2
import pytest
from guard_kit import World
from transport_kit import (
    CHAT,
    DONE,
    HIDDEN,
    JSON,
    SSE,
    STOP,
    STREAMED,
    TOLD,
    URL,
    Heard,
    Play,
    Player,
    guard_of,
    heard,
    heard_sync,
    ledger_rows,
    only_row,
    request,
    word,
)  # fmt: skip

from budgetguard.integrations.httpx import BudgetTransport

BOTH = pytest.mark.parametrize("library", [httpx, httpx2])
SEEN = b"".join(CHAT).replace(TOLD, b"")
"""The stream as a caller has to see it who did not ask for the usage."""


def pieces(raw: bytes, place: int) -> list[bytes]:
    return [piece for piece in (raw[:place], raw[place:]) if piece]


def once(world: World, play: Play, asked: Any = HIDDEN, **options: Any) -> tuple[Heard, Player]:
    """One exchange, with the guard drained after it."""
    player = Player(play, **options)

    async def main() -> Heard:
        async with guard_of(world) as guard:
            return await heard(BudgetTransport(guard, player), request(asked, library=player.library))

    return asyncio.run(main()), player


@BOTH
@pytest.mark.parametrize("way", ["async", "sync"])
def test_a_caller_who_did_not_ask_sees_the_stream_without_the_usage_that_is_charged(
    world: World, library: Any, way: str
) -> None:
    guard, player = guard_of(world), Player(Play(CHAT), library=library)
    if way == "async":
        outcome, player = once(world, Play(CHAT), library=library)
    else:
        outcome = heard_sync(BudgetTransport(guard, player), request(HIDDEN, library=library))
        guard.sync.close()
    assert (outcome.passed, outcome.error) == (SEEN, None)
    assert player.sent == {**HIDDEN, "stream_options": {"include_usage": True}}
    row = only_row(world)
    assert (row["prompt_tokens"], row["completion_tokens"], row["usage_source"]) == (500, 70, "reported")
    assert type(outcome.response) is library.Response


def test_split_at_any_byte_what_is_passed_on_is_the_stream_without_that_event(world: World) -> None:
    raw = b"".join(CHAT)

    async def main() -> list[Heard]:
        async with guard_of(world) as guard:
            plays = [Play(pieces(raw, place)) for place in range(len(raw))]
            return await asyncio.gather(*(heard(BudgetTransport(guard, Player(p)), request(HIDDEN)) for p in plays))

    assert {(outcome.passed, outcome.error) for outcome in asyncio.run(main())} == {(SEEN, None)}
    assert {row["usage_source"] for row in ledger_rows(world)} == {"reported"}


@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\r"])
def test_whatever_ends_its_lines_the_event_and_nothing_else_is_kept(world: World, ends: bytes) -> None:
    comment = b": keep-alive\n\n"
    stream = [chunk.replace(b"\n", ends) for chunk in (comment, *CHAT[:-1], comment, DONE)]
    outcome, _ = once(world, Play([b"".join(stream)]))
    stream.remove(TOLD.replace(b"\n", ends))
    assert outcome.passed == b"".join(stream)
    assert only_row(world)["usage_source"] == "reported"


@pytest.mark.parametrize("end", [b"data: [DONE]", b"data: [DONE]\n", b": cut"])
def test_what_a_stream_ends_with_is_passed_on_though_it_is_no_whole_event(world: World, end: bytes) -> None:
    outcome, _ = once(world, Play([*CHAT[:-1], end]))
    assert outcome.passed == SEEN.removesuffix(DONE) + end


def deflated(raw: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(raw) + packer.flush()


def twice(raw: bytes) -> bytes:
    return gzip.compress(gzip.compress(raw))


PACKED: dict[str, tuple[Any, str]] = {
    "gzip": (gzip.compress, "gzip"), "x-gzip": (gzip.compress, "x-gzip"), "deflate": (zlib.compress, "deflate"),
    "deflate without its frame": (deflated, "deflate"), "a lie": (bytes, "gzip"), "identity": (bytes, "identity"),
    "identity, then gzip": (gzip.compress, "identity, gzip"), "gzip twice": (twice, "gzip, gzip"),
    "deflate, then gzip": (lambda raw: gzip.compress(zlib.compress(raw)), "Deflate , GZIP"),
}  # fmt: skip


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("asked", [HIDDEN, STREAMED])
def test_a_stream_that_is_packed_all_the_same_is_read_and_split_at_any_byte(
    world: World, name: str, asked: Any
) -> None:
    pack, encoding = PACKED[name]
    raw = pack(b"".join(CHAT))
    headers = {**SSE, "content-encoding": encoding, "content-length": str(len(raw))}

    async def main() -> list[Heard]:
        async with guard_of(world) as guard:
            plays = [Play(pieces(raw, place), headers) for place in range(len(raw))]
            return await asyncio.gather(*(heard(BudgetTransport(guard, Player(p)), request(asked)) for p in plays))

    outcomes = asyncio.run(main())
    assert {outcome.passed for outcome in outcomes} == {SEEN if asked is HIDDEN else raw}
    told = {outcome.response.headers.get("content-encoding") for outcome in outcomes}
    assert told == {None if asked is HIDDEN and encoding != "identity" else encoding}
    assert {"content-length" in outcome.response.headers for outcome in outcomes} == {asked is STREAMED}
    found = {(row["prompt_tokens"], row["completion_tokens"]) for row in ledger_rows(world)}
    assert found == {(500, 70)}


def test_a_packed_stream_that_is_spoiled_ends_with_an_error_where_it_would_have_been_cut(world: World) -> None:
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    good = packer.compress(b"".join(CHAT[:2])) + packer.flush(zlib.Z_FULL_FLUSH)
    outcome, _ = once(world, Play([good, b"\xff" * 50], {**SSE, "content-encoding": "gzip"}))
    assert (outcome.passed, type(outcome.error)) == (b"".join(CHAT[:2]), zlib.error)
    row = only_row(world)
    assert (row["usage_source"], row["status"]) == ("counted", "error") and row["completion_tokens"] > 0


def test_an_encoding_that_cannot_be_read_is_passed_on_untouched_and_charged_the_estimate(world: World) -> None:
    raw = [random.Random(1).randbytes(500), b"data: not what it seems\n\n"]
    outcome, _ = once(world, Play(raw, {**SSE, "content-encoding": "br"}))
    assert outcome.passed == b"".join(raw) and outcome.response.headers["content-encoding"] == "br"
    assert only_row(world)["usage_source"] == "estimate"


def test_only_encodings_that_can_be_read_are_asked_for_and_other_headers_stay(world: World) -> None:
    async def main() -> None:
        async with guard_of(world) as guard:
            for asked, wanted in ((STREAMED, "gzip, deflate"), (HIDDEN, "identity")):
                player = Player(Play(CHAT))
                sent = request(asked)
                sent.headers["accept-encoding"] = "gzip, deflate, br, zstd"
                sent.headers = type(sent.headers)([*sent.headers.raw, (b"X-Own", b"K\xc3\xa4pt"), (b"X-Raw", b"\xff")])
                sent.extensions["timeout"] = {"read": 7.0}
                await heard(BudgetTransport(guard, player), sent)
                came = player.requests[0]
                assert came.headers.get_list("accept-encoding") == [wanted]
                assert came.headers["content-length"] == str(len(came.content))
                assert came.headers["host"] == "api.openai.com"
                assert {(b"X-Own", b"K\xc3\xa4pt"), (b"X-Raw", b"\xff")} <= set(came.headers.raw)
                assert came.headers["authorization"] == "Bearer sk-canary-key"
                assert came.extensions["timeout"] == {"read": 7.0}
                assert (came.method, str(came.url)) == ("POST", URL)

    asyncio.run(main())


OPTIONS = [{"include_usage": False}, {"include_obfuscation": False}, {"include_usage": None, "other": 1}, None]


@pytest.mark.parametrize("options", OPTIONS)
def test_the_callers_own_stream_options_are_kept_beside_what_is_asked_for(world: World, options: Any) -> None:
    outcome, player = once(world, Play(CHAT), {**HIDDEN, "stream_options": options})
    assert player.sent == {**HIDDEN, "stream_options": {**(options or {}), "include_usage": True}}
    assert outcome.passed == SEEN


def test_a_caller_who_asked_sees_it_and_its_request_is_sent_as_it_is(world: World) -> None:
    sent = json.dumps(STREAMED, indent=3).encode()
    outcome, player = once(world, Play(CHAT), sent)
    assert (outcome.passed, player.requests[0].content) == (b"".join(CHAT), sent)


def test_a_provider_that_does_not_tell_all_the_same_is_counted(world: World) -> None:
    chunks = [word("Hello"), word(" world"), STOP, DONE]
    outcome, _ = once(world, Play(chunks))
    assert outcome.passed == b"".join(chunks)
    row = only_row(world)
    assert (row["usage_source"], row["status"]) == ("counted", "settled")
    assert row["prompt_tokens"] > 0 and row["completion_tokens"] > 0


def test_usage_in_a_chunk_that_says_more_is_not_hidden(world: World) -> None:
    told = word("!", usage={"prompt_tokens": 5, "completion_tokens": 2})
    outcome, _ = once(world, Play([CHAT[0], told, STOP, DONE]))
    assert told in outcome.passed
    assert (only_row(world)["prompt_tokens"], only_row(world)["completion_tokens"]) == (5, 2)


def test_a_bound_is_not_written_into_a_request_that_has_one_and_it_is_sent_as_it_is(world: World) -> None:
    async def main() -> Player:
        player = Player(Play(CHAT))
        async with guard_of(world, inject_max_tokens=True) as guard:
            await heard(BudgetTransport(guard, player), request(sent))
        return player

    sent = json.dumps(STREAMED, indent=3).encode()
    assert asyncio.run(main()).requests[0].content == sent


@pytest.mark.parametrize("text", ["\ud83d", "\U0001f600 wörld", 'quote " and \\ and \u2028', "\x00"])
def test_any_text_that_json_can_spell_is_sent_as_it_was_asked(world: World, text: str) -> None:
    asked = {**HIDDEN, "messages": [{"role": "user", "content": text}], "seed": 10**30, "top_p": 0.1}
    outcome, player = once(world, Play(CHAT), asked)
    assert outcome.error is None
    assert player.sent == {**asked, "stream_options": {"include_usage": True}}


@pytest.mark.parametrize("status", [400, 500])
def test_an_answer_of_error_to_such_a_request_is_passed_on_untouched(world: World, status: int) -> None:
    raw = gzip.compress(b"".join(CHAT))
    headers = {**SSE, "content-encoding": "gzip", "content-length": str(len(raw))}
    outcome, _ = once(world, Play([raw[:40], raw[40:]], headers, status))
    assert outcome.passed == raw
    assert {**headers}.items() <= dict(outcome.response.headers).items()


def test_a_body_of_json_instead_of_the_stream_is_passed_on_untouched(world: World) -> None:
    raw = json.dumps({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}).encode()
    outcome, _ = once(world, Play([raw], {**JSON, "content-length": str(len(raw))}))
    assert outcome.passed == raw and outcome.response.headers["content-length"] == str(len(raw))
    assert only_row(world)["prompt_tokens"] == 5


@BOTH
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("asked", [HIDDEN, STREAMED])
def test_answers_that_another_transport_has_read_already_are_read_all_the_same(
    world: World, library: Any, packed: bool, asked: Any
) -> None:
    """As those of `MockTransport` are, and those of transports that log or try again."""
    raw = gzip.compress(b"".join(CHAT)) if packed else b"".join(CHAT)
    headers = {**SSE, **({"content-encoding": "gzip"} if packed else {}), "x-own": "kept"}
    play = Play([raw[:9], raw[9:]], headers)

    class Reads(Player):
        async def handle_async_request(self, request: Any) -> Any:
            response = await super().handle_async_request(request)
            await response.aread()
            return response

    async def main() -> None:
        async with guard_of(world) as guard:
            mock = library.MockTransport(lambda _: library.Response(200, headers=headers, content=raw))
            for inner in (mock, Reads(play, library=library)):
                transport: Any = BudgetTransport(guard, inner)
                async with library.AsyncClient(transport=transport) as client:
                    response = await client.post(URL, json=asked)
                assert response.content == (SEEN if asked is HIDDEN else b"".join(CHAT))
                assert (response.headers["x-own"], response.text) == ("kept", response.content.decode())

    asyncio.run(main())
    assert [row["prompt_tokens"] for row in ledger_rows(world)] == [500, 500]
