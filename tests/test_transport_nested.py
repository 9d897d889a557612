"""A call of a guarded client inside an open hold of the same guard and labels draws from it, and is counted once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest
from guard_kit import World
from transport_kit import (
    ASKED,
    CHAT,
    DONE,
    JSON,
    PLAIN,
    STOP,
    STREAMED,
    TOLD,
    USAGE,
    Play,
    Player,
    event,
    guard_of,
    heard,
    heard_sync,
    ledger_rows,
    only_row,
    request,
    word,
)  # fmt: skip

import budgetguard as bg
from budgetguard.integrations.httpx import BudgetTransport

ESTIMATE = bg.Usage(600, 200)
WORKED = Play([PLAIN], JSON)
SAID = json.loads(PLAIN)


def inside(
    world: World, plays: list[Play], *limits: str, record: Any = None, asked: Any = ASKED, together: bool = False,
    inner: dict[str, str] | None = None, **labels: Any,
) -> list[Any]:  # fmt: skip
    """So many calls inside one hold."""

    async def main() -> list[Any]:
        async with guard_of(world, *limits) as guard:
            transport = BudgetTransport(guard, Player(*plays), **(inner or {}))
            async with guard.reserve(estimate=ESTIMATE, **labels) as hold:
                calls = [heard(transport, request(asked)) for _ in plays]
                found = list(await asyncio.gather(*calls)) if together else [await call for call in calls]
                if record is not None:
                    hold.record(record)
            return found

    return asyncio.run(main())


def test_a_call_inside_a_hold_is_counted_once_in_the_holds_row(world: World) -> None:
    inside(world, [WORKED], team="search", inner={"team": "search"})
    row = only_row(world)
    assert (row["prompt_tokens"], row["completion_tokens"], row["usage_source"]) == (500, 70, "reported")
    assert row["status"] == "settled"


def test_a_call_that_has_no_labels_of_its_own_belongs_to_the_hold_around_it(world: World) -> None:
    """Also where the policy demands one, which the hold has."""

    async def main() -> None:
        rules = bg.LabelRules(required=["team"])
        async with world.guard("100M tokens/day", labels=rules) as guard:
            transport = BudgetTransport(guard, Player(WORKED))
            async with guard.reserve(estimate=ESTIMATE, team="search", agent="crawler"):
                await heard(transport, request(ASKED))

    asyncio.run(main())
    assert only_row(world)["total_tokens"] == 570


@pytest.mark.parametrize("asked", [ASKED, STREAMED])
@pytest.mark.parametrize("record", [SAID, SAID["usage"], bg.Usage(500, 70)])
def test_it_is_counted_once_also_where_the_caller_records_the_response(world: World, record: Any, asked: Any) -> None:
    inside(world, [WORKED if asked is ASKED else Play(CHAT)], record=record, asked=asked)
    assert only_row(world)["total_tokens"] == 570


def test_what_an_advisor_took_inside_a_call_is_counted_once_too(world: World) -> None:
    iterations = [
        {"type": "message", "model": "claude-x", "input_tokens": 100, "output_tokens": 10},
        {"type": "advisor_message", "model": "claude-y", "input_tokens": 30, "output_tokens": 5},
    ]
    body = {"model": "claude-x", "usage": {"input_tokens": 100, "output_tokens": 10, "iterations": iterations}}
    play = Play([json.dumps(body).encode()], JSON)

    async def main() -> None:
        async with guard_of(world) as guard:
            transport = BudgetTransport(guard, Player(play))
            async with guard.reserve(estimate=ESTIMATE) as hold:
                await heard(transport, request(ASKED, "https://api.anthropic.com/v1/messages"))
                hold.record(body)

    asyncio.run(main())
    assert only_row(world)["total_tokens"] == 145


def test_a_stream_is_counted_once_where_the_caller_records_its_usage_before_its_end(world: World) -> None:
    async def main() -> None:
        async with guard_of(world) as guard:
            transport = BudgetTransport(guard, Player(Play(CHAT)))
            async with guard.reserve(estimate=ESTIMATE) as hold:
                response = await transport.handle_async_request(request(STREAMED))
                async for chunk in response.stream:
                    if chunk == TOLD:
                        hold.record(json.loads(chunk.removeprefix(b"data: ")))
                await response.stream.aclose()

    asyncio.run(main())
    assert only_row(world)["total_tokens"] == 570


def test_what_is_recorded_beside_the_calls_is_added(world: World) -> None:
    inside(world, [WORKED], record=bg.Usage(1, 2))
    assert only_row(world)["total_tokens"] == 573


@pytest.mark.parametrize("together", [False, True])
def test_calls_that_need_more_together_make_the_hold_grow(world: World, together: bool) -> None:
    inside(world, [WORKED] * 5, together=together)
    assert only_row(world)["total_tokens"] == 5 * 570


def test_the_hold_grows_before_a_call_is_sent_and_one_for_which_there_is_no_room_is_not_sent(world: World) -> None:
    player = Player(WORKED)

    async def main() -> None:
        async with guard_of(world, "900 tokens/day", estimate="ceiling") as guard:
            transport = BudgetTransport(guard, player)
            async with guard.reserve(estimate=ESTIMATE):
                assert (await heard(transport, request(ASKED))).error is None
                refused = await heard(transport, request({**ASKED, "max_tokens": 500}))
                assert isinstance(refused.error, bg.BudgetExceeded)
                assert world.reserved() == 800

    asyncio.run(main())
    assert len(player.requests) == 1
    assert only_row(world)["total_tokens"] == 570


def test_a_stream_inside_a_hold_makes_it_grow_and_is_stopped_with_it(world: World) -> None:
    usage = event({"choices": [], "usage": USAGE})
    long = Play([*[word("x" * 350) for _ in range(40)], STOP, usage, DONE])
    (grown,) = inside(world, [long], asked=STREAMED)
    assert grown.error is None and only_row(world)["total_tokens"] == 570
    (stopped,) = inside(world, [long], "2000 tokens/day", asked=STREAMED)
    assert isinstance(stopped.error, bg.BudgetExceeded)
    assert 1_000 < ledger_rows(world)[1]["total_tokens"] < 1_500


@pytest.mark.parametrize(
    ("labels", "inner"),
    [
        ({"team": "search"}, {"team": "ads"}),
        ({"team": "search"}, {"agent": "crawler"}),
        ({"model": "another"}, {}),
        ({"provider": "another"}, {}),
    ],
)
def test_other_labels_are_a_call_of_their_own(world: World, labels: Any, inner: Any) -> None:
    if "team" in labels and "agent" in inner:
        inner = {**labels, **inner}
    inside(world, [WORKED], inner=inner, **labels)
    assert [row["status"] for row in ledger_rows(world)] == ["assumed", "settled"]
    assert world.spent() == 800 + 570


def test_labels_from_around_are_the_same_labels(world: World) -> None:
    with bg.acting_as(team="search", session="s-1"):
        inside(world, [WORKED], agent="a", inner={"agent": "a"})
    assert only_row(world)["total_tokens"] == 570


def test_an_explicit_reserve_inside_is_its_own_call_and_calls_draw_from_the_innermost(world: World) -> None:
    async def main() -> None:
        async with guard_of(world) as guard:
            transport = BudgetTransport(guard, Player(WORKED))
            async with guard.reserve(estimate=ESTIMATE) as outer:
                async with guard.reserve(estimate=ESTIMATE):
                    await heard(transport, request(ASKED))
                outer.record(bg.Usage(1, 1))

    asyncio.run(main())
    assert sorted(row["total_tokens"] for row in ledger_rows(world)) == [2, 570]


def test_a_hold_of_another_guard_has_nothing_to_do_with_it(world: World) -> None:
    async def main() -> None:
        async with guard_of(world) as guard, guard_of(world) as other:
            transport = BudgetTransport(other, Player(WORKED))
            async with guard.reserve(estimate=ESTIMATE):
                await heard(transport, request(ASKED))

    asyncio.run(main())
    assert len(ledger_rows(world)) == 2


@pytest.mark.parametrize("play", [Play([b"{}"], JSON, 429), Play(before=httpx2.ConnectError("refused"))])
def test_a_call_that_was_turned_away_takes_nothing_of_the_hold(world: World, play: Play) -> None:
    turned_away, worked = inside(world, [play, WORKED])
    assert (turned_away.error, worked.error) == (play.before, None)
    assert only_row(world)["total_tokens"] == 570


def test_only_calls_that_were_turned_away_leave_the_hold_as_if_there_had_been_none(world: World) -> None:
    inside(world, [Play([b"{}"], JSON, 429)])
    assert (only_row(world)["status"], only_row(world)["total_tokens"]) == ("assumed", 800)


def test_a_call_of_unknown_outcome_takes_its_estimate_of_the_hold(world: World) -> None:
    inside(world, [Play(before=httpx2.ReadTimeout("slow")), WORKED])
    row = only_row(world)
    assert 570 + 100 < row["total_tokens"] < 570 + 130 and row["usage_source"] == "estimate"


def test_a_hold_by_hand_is_drawn_from_until_it_ends(world: World) -> None:
    async def main() -> None:
        async with guard_of(world) as guard:
            transport = BudgetTransport(guard, Player(WORKED))
            hold = await guard.reserve(estimate=ESTIMATE)
            await heard(transport, request(ASKED))
            await hold.settle()
            await heard(transport, request(ASKED))

    asyncio.run(main())
    assert [row["total_tokens"] for row in ledger_rows(world)] == [570, 570]


def test_sync_calls_inside_a_sync_hold_draw_from_it(world: World) -> None:
    guard = guard_of(world)
    transport = BudgetTransport(guard, Player(WORKED, Play(CHAT)))
    with guard.sync.reserve(estimate=ESTIMATE) as hold:
        assert heard_sync(transport, request(ASKED)).error is None
        hold.record(SAID)
        assert heard_sync(transport, request(STREAMED)).error is None
    guard.sync.close()
    assert only_row(world)["total_tokens"] == 2 * 570


def test_a_stream_read_on_after_its_hold_has_ended_is_not_broken_by_a_budget_and_charged(world: World) -> None:
    async def main() -> bytes:
        async with guard_of(world, "1000 tokens/day") as guard:
            long = Play([*[word("x" * 350) for _ in range(40)], STOP, DONE])
            transport = BudgetTransport(guard, Player(long))
            async with guard.reserve(estimate=ESTIMATE):
                response = await transport.handle_async_request(request(STREAMED))
            found = b"".join([chunk async for chunk in response.stream])
            await response.stream.aclose()
            return found

    assert asyncio.run(main()).endswith(DONE)
    (row,) = ledger_rows(world)
    assert (world.held(), row["status"]) == (0, "settled") and world.spent() == row["total_tokens"] > 40 * 350 / 4
