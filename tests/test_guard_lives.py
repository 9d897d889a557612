"""A guard's life: closed, closed twice, forked, in several event loops, from many threads; observers that raise."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from guard_kit import BOTH, ESTIMATE, USAGE, World, only_on_sqlite, run_script, until
from store_kit import rows

import budgetguard as bg
from budgetguard.events import Settled

STORES = BOTH


async def call(guard: bg.Guard) -> None:
    async with guard.reserve(estimate=ESTIMATE) as hold:
        hold.record(USAGE)


def test_closing_twice_is_closing_once_and_afterwards_nothing_is_admitted(world: World) -> None:
    async def main() -> None:
        guard = world.guard("9k tokens/day")
        await call(guard)
        assert await asyncio.gather(guard.aclose(), guard.aclose()) == [0, 0]
        assert await guard.aclose() == 0
        for verb in (guard.reserve(estimate=ESTIMATE), guard.status(), guard.available(), guard.__aenter__()):
            with pytest.raises(bg.GuardClosed, match="this guard was closed: make a new one"):
                await verb
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


@only_on_sqlite
def test_a_guard_that_was_never_used_closes_without_a_trace(world: World) -> None:
    assert asyncio.run(world.guard("9k tokens/day").aclose()) == 0
    assert not world.path.exists()


def test_closing_settles_what_was_recorded_and_leaves_the_rest_to_its_lease(world: World) -> None:
    async def main() -> None:
        guard = world.guard("9k tokens/day")
        recorded, unknown = await guard.reserve(estimate=ESTIMATE), await guard.reserve(estimate=ESTIMATE)
        recorded.record(USAGE)
        await guard.aclose()
        assert (world.spent(), world.reserved()) == (600, 800)
        with pytest.raises(bg.ReservationFinished):
            await recorded.settle()
        await unknown.settle(USAGE)
        assert (world.spent(), world.reserved()) == (1_200, 0)

    asyncio.run(main())


def test_a_forked_child_is_told_to_make_its_own_guard(tmp_path: Path) -> None:
    script = """
import asyncio, os, sys, warnings
import budgetguard as bg
guard = bg.Guard("9k tokens/day", store="sqlite:///forked.db")
unused = bg.Guard("9k tokens/day", store="sqlite:///unused.db")
async def call(guard):
    async with guard.reserve(estimate=bg.Usage(5, 5)) as hold:
        hold.record(bg.Usage(3, 4))
asyncio.run(call(guard))
with guard.sync.reserve(estimate=bg.Usage(5, 5)) as hold:
    hold.record(bg.Usage(3, 4))
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of Python 3.12 and later: that a process with threads forks
    pid = os.fork()
if pid == 0:
    for attempt in (lambda: asyncio.run(call(guard)), guard.sync.hold, guard.sync.status):
        try:
            attempt()
        except bg.GuardForked as error:
            print(f"{type(error).__name__}: {error}".replace(str(os.getppid()), "PARENT"))
    assert asyncio.run(guard.aclose()) == 0
    asyncio.run(call(unused))
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
asyncio.run(call(guard))
"""
    ended = run_script(script, tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    told = "GuardForked: this guard was opened in process PARENT: make a new one in each child"
    assert ended.stdout.splitlines() == [told] * 3
    for name, count in (("forked.db", 3), ("unused.db", 1)):
        assert rows(tmp_path / name, "SELECT status, count(*) FROM token_usage") == [("settled", count)]


def test_two_event_loops_in_two_threads_share_a_guard_and_are_closed_together(world: World) -> None:
    guard = world.guard("90k tokens/day")
    begun, ended = threading.Barrier(2), threading.Event()

    async def work(closes: bool) -> None:
        await asyncio.gather(*(call(guard) for _ in range(20)))
        hold = await guard.reserve(estimate=ESTIMATE)
        hold.record(USAGE)
        begun.wait()
        if closes:
            assert await guard.aclose() == 0
            ended.set()
        else:
            await until(ended.is_set, "the other thread has closed the guard")
            await until(lambda: asyncio.all_tasks() == {asyncio.current_task()}, "nothing is left running here")

    with ThreadPoolExecutor(2) as executor:
        for done in [executor.submit(asyncio.run, work(closes)) for closes in (True, False)]:
            done.result()
    assert (world.spent(), world.reserved(), set(world.statuses())) == (42 * 600, 0, {"settled"})


def test_sync_callers_in_many_threads_share_one_event_loop(world: World) -> None:
    guard = world.guard("90k tokens/day")
    names: list[set[str]] = []

    def work(_: int) -> None:
        with guard.sync.reserve(estimate=ESTIMATE) as hold:
            hold.record(USAGE)
        names.append({thread.name for thread in threading.enumerate() if "portal" in thread.name})

    with ThreadPoolExecutor(16) as executor:
        list(executor.map(work, range(64)))
    assert len(set.union(*names)) == 1
    assert guard.sync.close() == 0
    assert (world.spent(), world.reserved()) == (64 * 600, 0)
    with pytest.raises(bg.GuardClosed):
        guard.sync.hold()
    guard.sync.close()


def test_between_its_duties_a_guard_has_no_task_for_which_anybody_could_wait_in_vain(world: World) -> None:
    async def main() -> None:
        guard = world.guard("9k tokens/day", settings=bg.GuardSettings(lease_ms=100))
        await call(guard)
        async with asyncio.timeout(60):
            while others := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.gather(*others)
        await guard.aclose()

    asyncio.run(main())


def test_an_observer_that_raises_disturbs_nobody(world: World, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def on_event(self, event: bg.Event) -> None:
            raise ZeroDivisionError

    async def main() -> None:
        guard = world.guard("9k tokens/day", observers=[Broken(), world.heard])
        async with guard:
            await call(guard)

    asyncio.run(main())
    assert (world.spent(), len(world.heard.of(Settled))) == (600, 1)
    assert any("ZeroDivisionError" in record.getMessage() for record in caplog.records)


@only_on_sqlite
def test_its_repr_tells_the_truth(world: World) -> None:
    async def main() -> None:
        guard = world.guard("9k tokens/day")
        assert repr(guard).startswith("<Guard enforce [default] on SQLiteStore('")
        async with guard, guard.reserve(estimate=ESTIMATE) as hold:
            assert repr(hold) == f"<Hold {hold.id} open, 800 tokens reserved>"
            hold.record(USAGE)
        assert repr(hold).startswith(f"<Hold {hold.id} ended")

    asyncio.run(main())
