"""A guard with `[ledger] url` drains what it settles; a ledger that is away loses nothing, and is told of once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from drain_kit import books
from guard_kit import ESTIMATE, USAGE, Heard, until
from postgres_kit import PASSWORD, Books, PostgresServer
from redis_kit import key_prefix
from redis_world import RedisWorld

import budgetguard as bg
from budgetguard import draining
from budgetguard.errors import ConfigError
from budgetguard.events import LedgerAway, LedgerBack, RowUnreadable
from budgetguard.policy_file import parse_policy


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining, "PAUSE_S", 0.02)
    monkeypatch.setattr(draining, "MOST_PAUSE_S", 0.1)


def guard_of(world: RedisWorld, url: str, **options: Any) -> bg.Guard:
    store = bg.StoreSettings(world.url, world.namespace, timeout_ms=15_000)
    ledger = bg.LedgerSettings(url=url)
    return bg.Guard("9M tokens/day", store=store, ledger=ledger, observers=[world.heard], **options)


async def calls(guard: bg.Guard, count: int) -> set[str]:
    """So many calls; their ids."""
    ids = set()
    for _ in range(count):
        async with guard.reserve(team="t", estimate=ESTIMATE) as hold:
            hold.record(USAGE)
            ids.add(hold.id)
    return ids


def waiting(world: RedisWorld) -> int:
    return int(world.server.ask("XLEN", f"{key_prefix(world.namespace)}outbox"))


def ids_in(found: Any) -> set[str]:
    return {id for _, id in found}


def test_what_a_guard_settles_is_in_the_ledger_while_it_runs_and_all_of_it_once_it_is_closed(
    redis_world: RedisWorld, tmp_path: Path
) -> None:
    path = tmp_path / "ledger.db"

    async def main() -> set[str]:
        async with guard_of(redis_world, f"sqlite:///{path}") as guard:
            ids = await calls(guard, 3)
            await until(lambda: waiting(redis_world) == 0, "an empty outbox")
            assert ids_in(books(path)) == ids
            return ids | await calls(guard, 3)

    ids = asyncio.run(main())
    assert (ids_in(books(path)), waiting(redis_world)) == (ids, 0)
    assert redis_world.heard.of(LedgerAway) == []


def test_two_guards_share_the_work_and_each_row_is_there_once(redis_world: RedisWorld, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"

    async def main() -> set[str]:
        async with guard_of(redis_world, url) as one, guard_of(redis_world, url) as other:
            first, second = await asyncio.gather(calls(one, 20), calls(other, 20))
            return first | second

    ids = asyncio.run(main())
    assert (ids_in(books(tmp_path / "ledger.db")), waiting(redis_world)) == (ids, 0)


def test_a_database_that_is_down_for_a_while_is_told_of_once_and_loses_nothing(
    redis_world: RedisWorld, postgres: Books, postgres_server: PostgresServer
) -> None:
    async def main() -> set[str]:
        async with guard_of(redis_world, postgres.url) as guard:
            ids = await calls(guard, 2)
            await until(lambda: waiting(redis_world) == 0, "an empty outbox")
            postgres_server.stop()
            ids |= await calls(guard, 3)
            await until(lambda: redis_world.heard.of(LedgerAway), "LedgerAway")
            ids |= await calls(guard, 3)
            turns = iter(range(200))
            await until(lambda: next(turns) == 199, "some turns in vain")
            assert (waiting(redis_world), len(redis_world.heard.of(LedgerAway))) == (6, 1)
            postgres_server.start()
            await until(lambda: redis_world.heard.of(LedgerBack), "LedgerBack")
            return ids | await calls(guard, 2)

    try:
        ids = asyncio.run(main())
    finally:
        if not postgres_server.running:
            postgres_server.start()
    (told,) = redis_world.heard.of(LedgerAway)
    assert "cannot be reached" in told.error and PASSWORD not in told.error
    assert len(redis_world.heard.of(LedgerBack)) == 1
    assert (ids_in(postgres.books()), waiting(redis_world)) == (ids, 0)


def test_a_guard_is_closed_at_once_while_the_ledger_is_away_and_the_rows_wait(
    redis_world: RedisWorld, tmp_path: Path
) -> None:
    path = tmp_path / "ledger.db"
    path.mkdir()  # no file can be made there

    async def main() -> None:
        async with guard_of(redis_world, f"sqlite:///{path}") as guard:
            await calls(guard, 2)
            await until(lambda: redis_world.heard.of(LedgerAway), "LedgerAway")

    asyncio.run(main())
    assert (waiting(redis_world), len(redis_world.heard.of(LedgerAway))) == (2, 1)
    path.rmdir()

    async def again() -> None:
        async with guard_of(redis_world, f"sqlite:///{path}") as guard:
            await guard.status()

    with pytest.MonkeyPatch.context() as patch:  # what the guard before had read is taken over
        patch.setattr("budgetguard.ledger.background.CLAIM_AFTER_MS", 0)
        asyncio.run(again())
    assert (len(books(path)), waiting(redis_world)) == (2, 0)


def test_an_entry_that_is_no_row_is_told_of_once_and_stays(redis_world: RedisWorld, tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"

    async def main() -> None:
        async with guard_of(redis_world, f"sqlite:///{path}") as guard:
            await calls(guard, 1)
            redis_world.server.ask("XADD", f"{key_prefix(redis_world.namespace)}outbox", "*", "row", "x")
            await until(lambda: redis_world.heard.of(RowUnreadable), "RowUnreadable")
            ids = await calls(guard, 1)
            await until(lambda: ids <= ids_in(books(path)), "the next row")

    asyncio.run(main())
    assert (len(redis_world.heard.of(RowUnreadable)), waiting(redis_world), len(books(path))) == (1, 1, 2)


@pytest.mark.parametrize(
    ("store", "url", "said"),
    [
        ("sqlite:///:memory:", "sqlite:///l.db", "the table token_usage of a SQLite store is the ledger itself"),
        (bg.StoreSettings("redis://h", ledger="none"), "sqlite:///l.db", "take out one of the two"),
        ("redis://h", "postgresql://u:canary/x@h/db", "libpq cannot read this URL"),
    ],
)
def test_a_ledger_that_nothing_can_be_drained_into_is_refused_when_the_guard_is_made(
    store: Any, url: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=r"ledger\.url") as told:
        bg.Guard("$5/day", store=store, ledger=bg.LedgerSettings(url=url))
    assert said in str(told.value) and "canary" not in str(told.value)


@pytest.mark.parametrize("url", ["mysql://u:canary@h/db", "sqlite:///:memory:", "sqlite://x.db", "canary", "", 7])
def test_a_url_of_no_ledger_is_a_fault_of_the_file_that_does_not_show_it(url: Any) -> None:
    text = f"[ledger]\nurl = {url!r}"
    with pytest.raises(ConfigError, match=r"ledger\.url must be a URL such as") as told:
        parse_policy(text, "budgetguard.toml", {}, Path())
    assert "canary" not in str(told.value)


def test_a_files_ledger_is_relative_to_it_and_another_one_takes_effect_at_the_next_start(
    redis_world: RedisWorld, tmp_path: Path
) -> None:
    file = tmp_path / "budgetguard.toml"
    head = f'[store]\nurl = "{redis_world.url}"\nnamespace = "{redis_world.namespace}"\n'
    text = f'{head}[ledger]\nurl = "sqlite:///own.db"\n[[budget]]\nname = "b"\nlimits = ["9M tokens/day"]\n'
    file.write_text(text)
    heard = Heard()

    async def main() -> None:
        async with bg.Guard.from_toml(file, observers=[heard]) as guard:
            file.write_text(text.replace("own.db", "other.db"))
            guard.reload()
            await calls(guard, 1)

    asyncio.run(main())
    assert len(books(tmp_path / "own.db")) == 1
    assert "ledger.url: takes effect when the process starts again" in str(heard.events)
