"""A guard's refusals come into the ledger: each once, in its minute, whatever ends the guard, and in no call's way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from guard_kit import BOTH, ESTIMATE, MODEL, LossyStore, World, only_on_sqlite, run_script
from redis_clock_world import RedisClockWorld
from store_kit import MINUTE_MS, NOON_MS, rows
from virtual_time import Patiently, VirtualLoop

import budgetguard as bg
from budgetguard.core.amounts import Amounts
from budgetguard.events import Refused
from budgetguard.ledger import open_ledger
from budgetguard.ledger.books import open_book
from budgetguard.ledger.drain import drain
from budgetguard.ledger.reading import Stretch
from budgetguard.refusal_counts import ROOM, RefusalCounts
from budgetguard.store import RefusalCount
from budgetguard.stores import open_outbox, open_store

STORES = BOTH


def refusals(world: World, *by: str, **asked: Any) -> dict[Any, tuple[int, dict[str, int]]]:
    """What the ledger says: calls and what they asked, by group."""
    url, namespace = f"sqlite:///{world.path}", "default"
    if isinstance(world, RedisClockWorld):
        url, namespace = f"sqlite:///{world.path}.drained", world._namespace
        ledger = open_ledger(url)

        async def move() -> None:
            async with aclosing(open_outbox(world._server.url, namespace, 15_000)) as outbox:
                await drain(outbox, ledger)

        asyncio.run(move())
        ledger.close()
    book = open_book(url)
    found = book.refusals(Stretch(namespace), by, **asked)
    book.close()
    return {one.group[0] if len(by) == 1 else one.group: (one.calls, one.asked) for one in found}


async def refused(guard: bg.Guard, times: int = 1, **labels: str) -> None:
    for _ in range(times):
        with pytest.raises(bg.CallRefused):
            await guard.reserve(**{"model": MODEL, "estimate": ESTIMATE, **labels})  # type: ignore[arg-type]


def test_a_refused_call_is_in_the_ledger_once_the_guard_is_closed(world: World) -> None:
    budgets = [bg.Budget("day", ["700 tokens/day", "$0.0009/day"]), bg.Budget("each", ["1 requests/day"], per=["team"])]

    async def main() -> None:
        async with world.guard(budgets=budgets) as guard:
            await refused(guard, 3, team="search", session="s-1")
            world.clock.advance(MINUTE_MS)
            await refused(guard, 2, team="ads")

    asyncio.run(main())
    assert refusals(world) == {(): (5, {"tokens": 4_000, "usd": 5_000_000})}
    assert refusals(world, "budget", "unit", "period", "reason") == {
        ("day", "tokens", "day", "impossible"): (5, {"tokens": 4_000}),
        ("day", "usd", "day", "impossible"): (5, {"usd": 5_000_000}),
    }  # fmt: skip
    assert {group: calls for group, (calls, _) in refusals(world, "team", "session").items()} == {
        ("search", "s-1"): 3, ("ads", ""): 2
    }  # fmt: skip


def test_what_shadow_budgets_would_have_refused_is_told_apart_with_what_was_asked(world: World) -> None:
    budgets = [
        bg.Budget("trial", ["700 tokens/day", "5 requests/day"], on_exceed="shadow"), bg.Budget("real", ["$5/day"])
    ]  # fmt: skip

    async def main() -> None:
        async with world.guard(budgets=budgets) as guard, guard.reserve(model=MODEL, estimate=ESTIMATE):
            pass

    asyncio.run(main())
    assert refusals(world, "mode", "budget", "reason") == {
        ("shadow", "trial", "exceeded"): (1, {"tokens": 800, "requests": 1})
    }  # fmt: skip


def test_other_causes_than_budgets_are_counted_too(world: World) -> None:
    labels = bg.LabelRules(required=["team"])

    async def main() -> None:
        async with world.guard("$5/day", labels=labels) as guard:
            with bg.acting_as(agent="crawler"):
                await refused(guard, 2)
            await refused(guard, team="search", model="nobody-knows")
            for wrong in ({"tema": "search"}, {"agent": "\ud800"}, {"agent": ["crawler"]}):
                with pytest.raises(bg.InvalidLabel):
                    await guard.reserve(labels={"user": "u", **wrong})  # type: ignore[dict-item]
        async with world.guard("$5/day", labels=labels, mode="shadow") as guard:
            for more in ({}, {"tema": "search", "user": "u"}):
                await (await guard.reserve(model=MODEL, estimate=ESTIMATE, labels=more)).release()

    asyncio.run(main())
    assert refusals(world, "mode", "budget", "reason", "team", "agent", "user") == {
        ("enforce", "", "LabelRequired", "", "crawler", ""): (2, {}),
        ("enforce", "", "PriceUnknown", "search", "", ""): (1, {}),
        ("enforce", "", "InvalidLabel", "", "", "u"): (3, {}),
        ("shadow", "", "LabelRequired", "", "", ""): (1, {}), ("shadow", "", "InvalidLabel", "", "", "u"): (1, {}),
    }  # fmt: skip


def test_runs_are_told_by_their_name_and_not_one_by_one(world: World) -> None:
    async def main() -> None:
        async with world.guard("$5/day") as guard:
            for _ in range(2):
                with pytest.raises(bg.BudgetExceeded):
                    async with guard.within("10 tokens", name="run"):
                        await guard.reserve(model=MODEL, estimate=ESTIMATE)

    asyncio.run(main())
    assert refusals(world, "budget")["run"][0] == 2


@only_on_sqlite
def test_a_flush_whose_answer_is_lost_comes_again_and_counts_once(world: World) -> None:
    store = LossyStore(world.store())

    async def main() -> None:
        guard = world.guard("700 tokens/day", store=store)
        await refused(guard, 3)
        store.lost.add("note_refusals")
        assert await guard.aclose() == 0, "whatever becomes of the counts"
        store.lost.clear()
        await refused_again(guard)

    async def refused_again(guard: bg.Guard) -> None:
        with pytest.raises(bg.GuardClosed):
            await guard.reserve(estimate=ESTIMATE)
        assert await guard.aclose() == 0

    asyncio.run(main())
    assert store.asked.count("note_refusals") >= 2
    assert refusals(world) == {(): (3, {"tokens": 2_400})}
    assert [event.verb for event in world.heard.of(bg.events.StoreProblem)] == ["flush_refusals"] * 2


def test_a_call_that_is_granted_notes_nothing(world: World) -> None:
    store = LossyStore(world.store())

    async def main() -> None:
        async with world.guard("$5/day", store=store) as guard:
            for _ in range(3):
                async with guard.reserve(model=MODEL, estimate=ESTIMATE):
                    pass

    asyncio.run(main())
    assert "note_refusals" not in store.asked


def test_refusals_are_flushed_each_minute_while_the_guard_goes_on() -> None:
    """In the loop's own time; the store notes when it was asked."""
    noted: list[tuple[float, Mapping[int, int]]] = []

    class Noting(Patiently):
        async def note_refusals(self, flush_id: str, rows: Any) -> None:
            noted.append((asyncio.get_running_loop().time(), {row.minute_ms: row.calls for row in rows}))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        store = Noting(open_store("sqlite:///:memory:", "default", 1_000, loop), loop)
        async with bg.Guard("700 tokens/day", store=store) as guard:  # type: ignore[arg-type]
            for _ in range(5):
                with pytest.raises(bg.BudgetExceeded):
                    await guard.reserve(estimate=ESTIMATE)
                await asyncio.sleep(50)
            await asyncio.sleep(600)
            last = len(noted)
            with pytest.raises(bg.BudgetExceeded):
                await guard.reserve(estimate=ESTIMATE)
        assert len(noted) == last + 1, "and when it ends"

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    assert sum(calls for _, counts in noted for calls in counts.values()) == 6
    assert noted[0][0] <= 66 and noted[-2][0] <= 250 + 66
    assert {minute_ms % MINUTE_MS for _, counts in noted for minute_ms in counts} == {0}


ENDS = {
    "the run of the event loop": "asyncio.run(main())",
    "a loop that is never closed": "loop = asyncio.new_event_loop(); loop.run_until_complete(main())",
    "a sync caller": """
try:
    guard.sync.hold(estimate=bg.Usage(6, 2))
except bg.BudgetExceeded:
    pass
""",
}


@pytest.mark.parametrize("end", ENDS)
def test_the_exit_of_a_process_flushes_what_was_refused(tmp_path: Path, end: str) -> None:
    script = f"""
import asyncio
import budgetguard as bg
guard = bg.Guard("7 tokens/day", store="sqlite:///exit.db")
async def main():
    try:
        await guard.reserve(estimate=bg.Usage(6, 2))
    except bg.BudgetExceeded:
        pass
{ENDS[end]}
"""
    assert run_script(script, tmp_path).returncode == 0
    assert rows(tmp_path / "exit.db", "SELECT sum(calls), sum(asked_tokens) FROM refusals") == [(1, 8)]


@only_on_sqlite
def test_a_store_that_is_away_delays_no_refusal_and_loses_the_counts_only_at_the_end(world: World) -> None:
    store = LossyStore(world.store())

    async def main() -> None:
        guard = world.guard("700 tokens/day", store=store)
        await refused(guard)
        store.refused.add("note_refusals")
        engine = guard._engines.current()
        with pytest.raises(bg.StoreAway):
            await engine.flush_refusals()
        await refused(guard, 2)
        store.refused.clear()
        await engine.flush_refusals()
        await refused(guard)
        store.refused.add("note_refusals")
        await guard.aclose()

    asyncio.run(main())
    assert refusals(world) == {(): (3, {"tokens": 2_400})}, "the first, and the two after it; each once"


def test_ever_new_labels_are_folded_and_no_call_is_dropped() -> None:
    counts, flushed = RefusalCounts(), list[RefusalCount]()
    counts.now_ms = lambda: NOON_MS + 59_999

    async def note(_: str, found: Any) -> None:
        flushed.extend(found)

    total = 5_000
    for number in range(total):
        subject = {"team": f"t{number % 3}", "agent": f"a{number // 10}", "session": f"s{number}"}
        counts.on_event(Refused("r", subject, "LabelRequired"))
    asyncio.run(counts.flush(note))
    assert sum(one.calls for one in flushed) == total and len(flushed) <= sum(ROOM) + 1
    assert {one.minute_ms for one in flushed} == {NOON_MS}
    by_team = {team: sum(o.calls for o in flushed if o.labels.get("team") == team) for team in ("t0", "t1", "t2")}
    assert sum(by_team.values()) == total, "teams are few: all are known"
    assert not counts.waits


def test_while_the_store_is_away_for_hours_what_is_counted_stays_small_and_whole() -> None:
    counts, flushed, now = RefusalCounts(), list[RefusalCount](), NOON_MS
    counts.now_ms = lambda: now

    async def note(_: str, found: Any) -> None:
        flushed.extend(found)

    for number in range(3_000):
        now += MINUTE_MS
        counts.on_event(Refused("r", {"team": f"t{number}"}, "LabelRequired"))
    asyncio.run(counts.flush(note))
    assert sum(one.calls for one in flushed) == 3_000
    assert len(flushed) <= sum(ROOM) + 3_000 // 60 + 1
    assert Amounts() in {one.asked for one in flushed}


def test_two_event_loops_of_one_guard_flush_each_count_once(tmp_path: Path, state_home: None) -> None:
    guard = bg.Guard("7 tokens/day", store=f"sqlite:///{tmp_path / 'budgets.db'}")
    for _ in range(2):
        asyncio.run(refused(guard, 4, model="m"))
    for _ in range(3):
        with pytest.raises(bg.BudgetExceeded):
            guard.sync.hold(estimate=ESTIMATE)
    asyncio.run(guard.aclose())
    assert rows(tmp_path / "budgets.db", "SELECT sum(calls) FROM refusals") == [(11,)]


def test_the_log_of_a_shadow_refusal_says_what_was_asked(world: World) -> None:
    async def main() -> None:
        async with (
            world.guard("700 tokens/day", mode="shadow") as guard,
            guard.reserve(model=MODEL, estimate=ESTIMATE),
        ):
            pass

    asyncio.run(main())
    (event,) = world.heard.of(bg.events.WouldRefuse)
    assert event.fields()["asked_tokens"] == 800
