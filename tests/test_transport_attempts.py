"""What a client tries again belongs to one operation, and each attempt has its own reservation; others do not mix."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from guard_kit import World
from transport_kit import (
    ASKED,
    CHAT,
    JSON,
    PLAIN,
    STREAMED,
    Play,
    Player,
    guard_of,
    heard,
    heard_sync,
    ledger_rows,
    request,
)  # fmt: skip

from budgetguard.integrations.httpx import BudgetTransport

FAILED = Play([b"{}"], JSON, 500)
BUSY = Play([b"{}"], JSON, 429)
WORKED = Play([PLAIN], JSON)
CUT = Play(before=httpx2.ReadTimeout("slow"))


def operations(world: World) -> list[int]:
    """For each row, the oldest first, the number of its operation's first row here."""
    found = [row["operation_id"] for row in ledger_rows(world)]
    return [found.index(id) for id in found]


def send(world: World, *plays: Play, asked: Any = (ASKED,)) -> None:
    """So many requests in one task; those of `asked` in turn."""

    async def main() -> None:
        async with guard_of(world) as guard:
            transport = BudgetTransport(guard, Player(*plays))
            for number in range(len(plays)):
                await heard(transport, request(asked[number % len(asked)]))

    asyncio.run(main())


def test_what_is_sent_again_after_a_failure_is_one_operation_with_a_row_for_each_attempt(world: World) -> None:
    send(world, FAILED, CUT, WORKED)
    found = ledger_rows(world)
    assert operations(world) == [0, 0, 0]
    assert found[0]["operation_id"] == found[0]["reservation_id"]
    assert len({row["reservation_id"] for row in found}) == 3
    assert [row["error_type"] for row in found] == ["http_500", "ReadTimeout", None]
    assert [row["usage_source"] for row in found] == ["estimate", "estimate", "reported"]


def test_an_attempt_that_was_released_has_no_row_and_still_begins_the_operation(world: World) -> None:
    send(world, BUSY, BUSY, WORKED)
    (row,) = ledger_rows(world)
    assert row["operation_id"] != row["reservation_id"]
    assert world.states() == ["released", "released", "settled"]


def test_what_is_sent_again_after_a_success_is_another_operation(world: World) -> None:
    send(world, WORKED, WORKED, FAILED, WORKED, WORKED)
    assert operations(world) == [0, 1, 2, 2, 4]


def test_other_bytes_and_other_places_are_other_operations(world: World) -> None:
    async def main() -> None:
        async with guard_of(world) as guard:
            transport = BudgetTransport(guard, Player(FAILED))
            await heard(transport, request(ASKED))
            await heard(transport, request({**ASKED, "seed": 1}))
            await heard(transport, request(ASKED, "https://api.openai.com/v1/completions"))

    asyncio.run(main())
    assert operations(world) == [0, 1, 2]


def test_a_stream_that_its_caller_left_has_not_failed_and_one_that_was_cut_has(world: World) -> None:
    async def main() -> None:
        async with guard_of(world) as guard:
            cut = Play(CHAT[:2], ending=httpx2.ReadError("reset"))
            transport = BudgetTransport(guard, Player(Play(CHAT), cut, Play(CHAT)))
            await heard(transport, request(STREAMED), 1)
            await heard(transport, request(STREAMED))
            await heard(transport, request(STREAMED))

    asyncio.run(main())
    assert operations(world) == [0, 1, 1]


def test_tasks_side_by_side_and_those_begun_after_a_failure_do_not_mix(world: World) -> None:
    async def main() -> None:
        async with guard_of(world) as guard:
            transport = BudgetTransport(guard, Player(FAILED))

            async def twice() -> None:
                await heard(transport, request(ASKED))
                await heard(transport, request(ASKED))

            await heard(transport, request(ASKED))
            await asyncio.gather(*(twice() for _ in range(5)))

    asyncio.run(main())
    found = [row["operation_id"] for row in ledger_rows(world)]
    assert sorted(found.count(id) for id in set(found)) == [1, 2, 2, 2, 2, 2]


def test_attempts_of_sync_callers_are_of_their_thread(world: World) -> None:
    guard = guard_of(world)
    transport = BudgetTransport(guard, Player(FAILED))

    async def main() -> None:
        await asyncio.gather(*(asyncio.to_thread(twice) for _ in range(3)))

    def twice() -> None:
        heard_sync(transport, request(ASKED))
        heard_sync(transport, request(ASKED))

    asyncio.run(main())
    guard.sync.close()
    found = [row["operation_id"] for row in ledger_rows(world)]
    assert sorted(found.count(id) for id in set(found)) == [2, 2, 2]


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
@pytest.mark.parametrize("way", ["async", "sync"])
def test_the_retries_of_an_sdk_are_attempts_of_one_operation(world: World, sdk: str, way: str) -> None:
    again = {**JSON, "retry-after-ms": "1"}
    usage = b'{"input_tokens": 500, "output_tokens": 70}'
    body = PLAIN if sdk == "openai" else b'{"content": [], "usage": ' + usage + b"}"
    plays = [Play([b"{}"], again, 500), Play([b"{}"], again, 429), Play([body], JSON)]
    guard, player = guard_of(world), Player(*plays)
    transport: Any = BudgetTransport(guard, player)
    module: Any = openai if sdk == "openai" else anthropic
    kind = getattr(module, ("Async" if way == "async" else "") + ("OpenAI" if sdk == "openai" else "Anthropic"))
    http = (httpx2.AsyncClient if way == "async" else httpx2.Client)(transport=transport)
    client = kind(api_key="sk-1", http_client=http, max_retries=2)
    create = client.chat.completions.create if sdk == "openai" else client.messages.create

    async def main() -> None:
        async with guard:
            await create(**ASKED)

    if way == "async":
        asyncio.run(main())
    else:
        create(**ASKED)
        guard.sync.close()
    assert len(player.requests) == 3
    assert world.states() == ["assumed", "released", "settled"]
    assert operations(world) == [0, 0]
    assert [row["usage_source"] for row in ledger_rows(world)] == ["estimate", "reported"]
