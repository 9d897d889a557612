"""What a ledger row says of its call besides amounts: attempt, stream, first token, prompt hash, process, version."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from guard_kit import PATIENT_MS, World
from store_kit import NOON_MS, amounts, ask_one, plan, reserve, rows, settle
from transport_kit import ASKED, CHAT, JSON, PLAIN, STREAMED, Play, Player, heard, heard_sync, request
from virtual_time import Patiently, VirtualLoop, run

import budgetguard as bg
from budgetguard.errors import ConfigError, StoreUnusable
from budgetguard.estimate import load_tokenizers
from budgetguard.integrations.httpx import BudgetTransport
from budgetguard.ledger.table import COLUMNS
from budgetguard.policy_file import parse_policy
from budgetguard.prompts import prompt_hash
from budgetguard.stores.sqlite import SQLiteStore
from budgetguard.testing.clock import FakeClock
from budgetguard.version import VERSION

KEY = "sixteen bytes or more"
PLAYED = Play([PLAIN], JSON)
FAILED = Play([b"{}"], JSON, 500)
NEW = ("attempt", "streamed", "first_token_ms", "prompt_hash", "process", "library_version", "host")


def found(world: World) -> list[dict[str, Any]]:
    """The new columns of every row, the oldest first."""
    told = rows(world.path, f"SELECT {', '.join(NEW)} FROM token_usage ORDER BY reservation_id")
    return [dict(zip(NEW, row, strict=True)) for row in told]


def send(world: World, *asked: Any, plays: tuple[Play, ...] = (PLAYED,), key: str | None = None) -> None:
    async def main() -> None:
        async with world.guard("100M tokens/day", ledger=bg.LedgerSettings(prompt_key=key)) as guard:
            transport = BudgetTransport(guard, Player(*plays))
            for body in asked:
                await heard(transport, request(body))

    asyncio.run(main())


def test_each_attempt_of_an_operation_has_its_number_and_says_who_made_it(world: World) -> None:
    send(world, ASKED, ASKED, ASKED, {**ASKED, "seed": 1}, plays=(FAILED, FAILED, PLAYED))
    told = found(world)
    assert [row["attempt"] for row in told] == [1, 2, 3, 1]
    assert {(row["process"], row["library_version"]) for row in told} == {(str(os.getpid()), VERSION)}
    assert {row["host"] for row in told} == {f"{socket.gethostname()}:{os.getpid()}"}


def test_a_hold_by_hand_is_a_first_attempt_without_stream_and_prompt(world: World) -> None:
    async def main() -> None:
        async with world.guard("9k tokens/day") as guard, guard.reserve(estimate=bg.Usage(5, 5)) as hold:
            hold.record(bg.Usage(3, 3))

    asyncio.run(main())
    (row,) = found(world)
    assert [row[name] for name in NEW[:4]] == [1, 0, None, None]


def test_a_stream_says_when_its_first_output_came_and_not_its_first_byte(tmp_path: Path) -> None:
    """The first chunk here only names the role; time passes before each chunk."""
    world, loop = World(tmp_path), VirtualLoop()
    role = b'data: {"choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n'
    played = Play([role, *CHAT], on_chunk=lambda number: loop.jump(0.25))
    store = Patiently(SQLiteStore(str(world.path), timeout_ms=PATIENT_MS, clock=world.clock), loop)

    async def main() -> None:
        async with world.guard("100M tokens/day", store=store) as guard:
            transport = BudgetTransport(guard, Player(played))
            await heard(transport, request(STREAMED))
            await heard(transport, request(STREAMED), most_chunks=3)
            await heard(transport, request(STREAMED), most_chunks=1)

    load_tokenizers()  # else a thread does, for which this loop does not wait
    run(loop, main())
    told = rows(world.path, "SELECT streamed, first_token_ms, latency_ms FROM token_usage ORDER BY reservation_id")
    assert told == [(1, 500, 1_750), (1, 500, 750), (1, None, 250)]


def test_a_stream_of_a_blocking_client_tells_its_first_output_too(world: World) -> None:
    guard = world.guard("100M tokens/day")
    heard_sync(BudgetTransport(guard, Player(Play(CHAT))), request(STREAMED))
    heard_sync(BudgetTransport(guard, Player(PLAYED)), request(ASKED))
    guard.sync.close()
    stream, whole = found(world)
    assert stream["streamed"] == 1 and 0 <= stream["first_token_ms"] < 60_000
    assert (whole["streamed"], whole["first_token_ms"]) == (0, None)


def asks(text: str, **more: Any) -> dict[str, Any]:
    return {**ASKED, "messages": [{"role": "user", "content": text}], **more}


def test_equal_prompts_have_equal_hashes_whatever_their_model_and_layout(world: World) -> None:
    same = [
        asks("Wo ist  die Stra\u00dfe,\n Ren\u00e9?"),
        asks(" Wo ist die Stra\u00dfe, Rene\u0301? "),
        asks("Wo ist die Stra\u00dfe, Ren\u00e9?", seed=4),
    ]
    send(world, *same, asks("Wo ist die Stra\u00dfe, Rene?"), key=KEY)
    *alike, other = [row["prompt_hash"] for row in found(world)]
    assert len(set(alike)) == 1 and other not in alike
    assert all(len(hashed) == 32 and int(hashed, 16) >= 0 for hashed in (*alike, other))
    for table in ("token_usage", "reservations"):
        assert "Stra" not in str(rows(world.path, f"SELECT * FROM {table}")), "no prompt, ever"


def test_without_a_key_nothing_is_kept_of_prompts_and_another_key_tells_nothing_of_the_first(world: World) -> None:
    send(world, asks("hello"))
    assert found(world)[0]["prompt_hash"] is None
    send(world, asks("hello"), key=KEY)
    send(world, asks("hello"), key=KEY[::-1])
    hashes = [row["prompt_hash"] for row in found(world)]
    assert len(set(hashes)) == 3


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ({"input": [1, 2, 3]}, {"input": [1, 2, 4]}, False),
        ({"messages": [{"content": [{"type": "image_url", "image_url": {"url": "https://a/1.png"}}]}]},
         {"messages": [{"content": [{"type": "image_url", "image_url": {"url": "https://a/2.png"}}]}]}, False),
        ({"messages": [{"content": "a"}, {"content": "b"}]}, {"messages": [{"content": "b"}, {"content": "a"}]}, False),
        ({"input": "a\ud800"}, {"input": "a\ud800 "}, True),
        ({"input": "a b"}, {"model": "m", "input": "a\tb"}, True),
    ],
)  # fmt: skip
def test_what_the_model_reads_is_what_is_hashed(one: Any, other: Any, alike: bool) -> None:
    first, second = (prompt_hash(KEY, body, json.dumps(body).encode()) for body in (one, other))
    assert (first == second, len(first)) == (alike, 32)


def test_a_request_without_a_prompt_has_no_hash() -> None:
    assert prompt_hash(KEY, {}, b"no JSON") == ""


def test_a_short_key_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError) as told:
        parse_policy('[ledger]\nprompt_key = "${K}"', "b.toml", {"K": "too short"}, Path())
    assert told.value.faults == ('ledger.prompt_key must be a text of at least 16 bytes, such as "${PROMPT_KEY}"',)
    settings = parse_policy('[ledger]\nprompt_key = "${K}"', "b.toml", {"K": KEY}, Path()).ledger
    assert (settings.prompt_key, KEY in repr(settings)) == (KEY, False)


def made_by_schema_2(path: Path) -> None:
    """A store's file as the version before wrote it, with a settled call and a held one."""

    async def fill() -> None:
        store = SQLiteStore(str(path), clock=FakeClock(NOON_MS))
        of = plan("999 tokens/day")
        for id in ("ended", "held"):
            await ask_one(store, reserve(id, of, amounts(5, 5, 50)))
        await ask_one(store, settle("ended", of, amounts(3, 3, 30), amounts(5, 5, 50)))
        await store.aclose()

    asyncio.run(fill())
    rows(path, "DROP TRIGGER billed_lines_kept; DROP TRIGGER forgotten_kept; DROP INDEX token_usage_by_time")
    for trigger in ("added", "changed", "dropped"):
        rows(path, f"DROP TRIGGER usage_rollups_{trigger}")
    rows(path, "DROP VIEW usage_rollups")
    for table in ("usage_groups", "usage_stretches", "usage_sums", "closings", "billed_lines", "refusals", "forgotten"):
        rows(path, f"DROP TABLE {table}")
    rows(path, "DROP TABLE told")
    rows(path, "DROP TABLE outputs")
    for column in COLUMNS[-6:]:
        rows(path, f"ALTER TABLE token_usage DROP COLUMN {column}")
    rows(
        path,
        "UPDATE reservations SET body = json_remove(body, '$[5][8]', '$[5][7]', '$[12]', '$[11]', '$[10]', '$[9]')",
    )
    rows(path, "PRAGMA user_version = 2")


def test_a_store_of_the_schema_before_is_migrated_where_it_is_opened_and_goes_on(tmp_path: Path) -> None:
    path, fresh = tmp_path / "store.db", tmp_path / "fresh.db"
    made_by_schema_2(path)

    async def go_on() -> None:
        for place in (fresh, path):
            store = SQLiteStore(str(place), clock=FakeClock(NOON_MS))
            await store.open()
            if place == path:
                of = plan("999 tokens/day")
                (hold,) = (await store.read_holds()).rows
                assert (hold.id, hold.estimate) == ("held", amounts(5, 5, 50))
                assert (await ask_one(store, settle("held", of, amounts(4), amounts(5, 5, 50)))).word == "settled"
            await store.aclose()

    asyncio.run(go_on())
    told = rows(path, f"SELECT reservation_id, total_tokens, {', '.join(NEW[:-1])} FROM token_usage ORDER BY 1")
    assert told == [("ended", 6, 1, 0, None, None, "", ""), ("held", 4, 1, 0, None, None, "", "")]
    layout = "SELECT name, type, \"notnull\", dflt_value, pk, hidden FROM pragma_table_xinfo('token_usage')"
    assert rows(path, layout) == rows(fresh, layout)
    objects = "SELECT type, name FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY 1, 2"
    assert rows(path, objects) == rows(fresh, objects)
    assert rows(path, "PRAGMA user_version") == rows(fresh, "PRAGMA user_version")


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    made_by_schema_2(path)
    rows(path, "UPDATE reservations SET body = 'no JSON' WHERE id = 'held'")
    before = rows(path, "SELECT * FROM token_usage")

    async def opened() -> None:
        store = SQLiteStore(str(path), clock=FakeClock(NOON_MS))
        with pytest.raises(StoreUnusable, match="malformed JSON"):
            await store.open()
        await store.aclose()

    asyncio.run(opened())
    assert (rows(path, "SELECT * FROM token_usage"), rows(path, "PRAGMA user_version")) == (before, [(2,)])
