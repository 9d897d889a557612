"""Large stores are read a page at a time, accounts by their key; a spool belongs to one file, whatever its URL."""

from __future__ import annotations

import asyncio
import contextlib
from decimal import Decimal
from pathlib import Path

import apsw
import pytest
from store_kit import NOON_MS, amounts, ask_one, plan, reserve

import budgetguard as bg
from budgetguard.stores import open_spool
from budgetguard.stores.sqlite import SQLiteStore, reading
from budgetguard.testing.clock import FakeClock


async def filled(path: str, sessions: int) -> SQLiteStore:
    store = SQLiteStore(path, clock=FakeClock(NOON_MS))
    per = [plan("5 requests/day", name="odd [*] name", per=(("session", f"s{n:05}"),)) for n in range(sessions)]
    await store.reserve([reserve(f"r{n:05}", each, amounts(1)) for n, each in enumerate(per)])
    return store


def test_a_glob_that_matches_little_answers_in_pages_that_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(reading, "LOOKED_AT_MOST", 100)
        store = await filled(":memory:", 450)
        cursor, pages, found = None, 0, []
        while True:
            page = await store.read_accounts("odd*", {"session": "s00444"}, cursor)
            pages, found = pages + 1, found + [row.account.subject["session"] for row in page.rows]
            if (cursor := page.cursor) is None:
                break
        assert (pages, found) == (5, ["s00444"])
        await store.aclose()

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["odd [[][*][]] name", "odd [[]*] name", "*"])
def test_a_budget_is_found_by_its_escaped_name_and_by_globs(name: str) -> None:
    async def scenario() -> None:
        store = SQLiteStore(":memory:", clock=FakeClock(NOON_MS))
        for budget in ("odd [*] name", "odd [*] nam", "odd [*] name-", "z"):
            await ask_one(store, reserve(budget, plan("5 requests/day", name=budget), amounts(1)))
        page = await store.read_accounts(name)
        wanted = 4 if name == "*" else 1
        assert len(page.rows) == wanted and "odd [*] name" in {row.account.budget for row in page.rows}
        await store.aclose()

    asyncio.run(scenario())


def test_what_is_available_is_asked_by_key_and_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        store = SQLiteStore(":memory:")
        budgets = [bg.Budget("each", ["5 requests/day", "$1/day"], per=["session"])]
        async with bg.Guard(budgets=budgets, store=store) as guard:
            hold = await guard.reserve(session="[a]*", estimate=bg.Usage(1, 1, cost_usd="0.25"))
            monkeypatch.setattr(SQLiteStore, "read_accounts", None)
            assert await guard.available(session="[a]*") == {"requests": 4, "usd": Decimal("0.75")}
            assert await guard.available(session="a") == {"requests": 5, "usd": Decimal(1)}
            await hold.release()

    asyncio.run(scenario())


def test_two_folders_relative_urls_have_two_spools_and_one_file_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    paths = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        paths.append(open_spool("sqlite:///budgets.db", "default", None).path)
    absolute = open_spool(f"sqlite:///{tmp_path / 'b' / 'budgets.db'}", "default", None).path
    assert paths[0] != paths[1] == absolute


def test_a_settle_that_waits_in_one_folder_is_not_charged_in_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    async def spooled() -> None:
        settings = bg.StoreSettings(url="sqlite:///budgets.db", timeout_ms=20)
        guard = bg.Guard("100 tokens/day", store=settings)
        hold = await guard.reserve(estimate=bg.Usage(5, 5))
        hold.record(bg.Usage(5, 2))
        with contextlib.closing(apsw.Connection("budgets.db")) as other:
            other.execute("BEGIN EXCLUSIVE")
            await hold.settle()
            assert await guard.aclose() == 1
            other.execute("ROLLBACK")

    async def elsewhere() -> list[int]:
        async with bg.Guard("100 tokens/day", store="sqlite:///budgets.db") as guard:
            await guard.reserve(estimate=bg.Usage(1, 0))
            return [row.spent for row in await guard.status()]

    for name, run in (("a", spooled), ("b", elsewhere)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        result = asyncio.run(run())
    assert result == [0]
