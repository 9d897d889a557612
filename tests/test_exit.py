"""At the exit of the process nothing is lost that was recorded, however the process came to its end."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest
from guard_kit import World, run_script, until
from store_kit import rows

import budgetguard as bg
from budgetguard import engines

HEAD = """
import asyncio, os, signal, sys, threading
import apsw
import budgetguard as bg
guard = bg.Guard("9k tokens/day", store=bg.StoreSettings("sqlite:///exit.db", timeout_ms=20))
ESTIMATE, USAGE = bg.Usage(6, 2), bg.Usage(3, 4)
async def reserved():
    hold = await guard.reserve(estimate=ESTIMATE)
    hold.record(USAGE)
    return hold
async def call(inside):
    async with guard.reserve(estimate=ESTIMATE) as hold:
        hold.record(USAGE)
        inside()
async def hang():
    async with guard.reserve(estimate=ESTIMATE) as hold:
        inside.append(hold.id)
        await asyncio.Event().wait()
inside = []
"""
RECORDED = ("settled", 7)

ENDS: dict[str, tuple[str, list[tuple[str, int]], int]] = {
    "a hold by hand that was recorded and never settled": (
        "hold = asyncio.run(reserved())", [RECORDED], 0),
    "two of them, from two runs": (
        "holds = [asyncio.run(reserved()) for _ in range(2)]", [RECORDED] * 2, 0),
    "a loop that was stopped and never closed": (
        "loop = asyncio.new_event_loop(); hold = loop.run_until_complete(reserved())", [RECORDED], 0),
    "a loop that runs in a daemon thread": ("""
done = threading.Event()
async def forever():
    global hold
    hold = await reserved()
    done.set()
    await asyncio.Event().wait()
threading.Thread(target=asyncio.run, args=(forever(),), daemon=True).start()
done.wait()
""", [RECORDED], 0),
    "a sync caller's hold": (
        "hold = guard.sync.hold(estimate=ESTIMATE); hold.record(USAGE)", [RECORDED], 0),
    "sys.exit inside a block": ("asyncio.run(call(lambda: sys.exit(3)))", [("error", 7)], 3),
    "an error inside a block that nobody catches": ("asyncio.run(call(lambda: 1 / 0))", [("error", 7)], 1),
    "sys.exit inside a sync caller's block": ("""
with guard.sync.reserve(estimate=ESTIMATE) as hold:
    hold.record(USAGE)
    sys.exit(3)
""", [("error", 7)], 3),
    "an interrupt while calls are under way": ("""
async def main():
    tasks = [asyncio.create_task(hang()) for _ in range(2)]
    while len(inside) < 2: await asyncio.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.gather(*tasks)
asyncio.run(main())
""", [("assumed", 8)] * 2, -signal.SIGINT),
    "an interrupt in a sync caller's block": ("""
with guard.sync.reserve(estimate=ESTIMATE) as hold:
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait(5)
""", [("assumed", 8)], -signal.SIGINT),
    "a run that ends while its calls are under way": ("""
async def main():
    tasks = [asyncio.create_task(hang()) for _ in range(3)]
    while len(inside) < 3: await asyncio.sleep(0.01)
asyncio.run(main())
""", [("assumed", 8)] * 3, 0),
    "a run that ends while it settles": ("""
async def main():
    hold = await reserved()
    asyncio.get_running_loop().create_task(hold.settle())
    await asyncio.sleep(0)
asyncio.run(main())
""", [RECORDED], 0),
}  # fmt: skip


def ended(tmp_path: Path, script: str) -> Any:
    return run_script(HEAD + script, tmp_path)


def books(tmp_path: Path) -> list[tuple[Any, ...]]:
    return rows(tmp_path / "exit.db", "SELECT status, total_tokens FROM token_usage ORDER BY reservation_id")


@pytest.mark.parametrize("end", ENDS)
def test_what_was_recorded_is_in_the_ledger_after_the_exit(tmp_path: Path, end: str) -> None:
    script, ledger, code = ENDS[end]
    process = ended(tmp_path, script)
    assert process.returncode == code, process.stderr
    assert books(tmp_path) == ledger, process.stderr
    assert rows(tmp_path / "exit.db", "SELECT sum(reserved) FROM accounts") == [(0,)]
    for complaint in ("was destroyed", "never retrieved", "never awaited", "Exception ignored"):
        assert complaint not in process.stderr
    assert ("Traceback" in process.stderr) == (code not in (0, 3))


def test_a_loop_that_was_closed_in_the_midst_of_calls_leaves_them_to_the_exit(tmp_path: Path) -> None:
    process = ended(tmp_path, """
loop = asyncio.new_event_loop()
hold = loop.run_until_complete(reserved())
settling = loop.create_task(hold.settle())
other = loop.run_until_complete(reserved())
waiting = loop.create_task(reserved())
loop.run_until_complete(asyncio.sleep(0))
loop.close()
""")  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert books(tmp_path)[:2] == [RECORDED] * 2
    assert "Traceback" not in process.stderr


def test_what_the_store_does_not_take_at_the_exit_is_spooled_for_the_next_process(tmp_path: Path) -> None:
    process = ended(tmp_path, """
hold = asyncio.run(reserved())
other = apsw.Connection("exit.db")
other.execute("BEGIN EXCLUSIVE")
""")  # fmt: skip
    assert process.returncode == 0
    assert "budget.spooled" in process.stderr
    assert books(tmp_path) == []
    again = ended(tmp_path, "asyncio.run(guard.status())")
    assert again.returncode == 0, again.stderr
    assert books(tmp_path) == [RECORDED]


def test_what_neither_the_store_nor_the_spool_takes_at_the_exit_is_told(tmp_path: Path) -> None:
    process = ended(tmp_path, """
hold = asyncio.run(reserved())
open("budgetguard", "w").close()
other = apsw.Connection("exit.db")
other.execute("BEGIN EXCLUSIVE")
""")  # fmt: skip
    assert process.returncode == 0
    assert "1 settles and releases are lost: neither the store nor the spool can be used" in process.stderr
    assert "Traceback" not in process.stderr


def test_a_hold_that_nobody_recorded_is_left_to_its_lease(tmp_path: Path) -> None:
    process = ended(tmp_path, "hold = asyncio.run(guard.reserve(estimate=ESTIMATE).__aenter__())")
    assert (process.returncode, books(tmp_path)) == (0, [])
    assert rows(tmp_path / "exit.db", "SELECT sum(reserved) FROM accounts") == [(8,)]


def test_draining_twice_does_no_harm(world: World) -> None:
    async def main() -> bg.Hold:
        hold = await guard.reserve(estimate=bg.Usage(6, 2))
        hold.record(bg.Usage(3, 4))
        await until(lambda: world.reserved() == 8, "it is reserved")
        return hold

    guard = world.guard("9k tokens/day")
    hold = asyncio.run(main())
    engines.drain()
    engines.drain()
    assert (world.spent(), world.statuses(), hold.open) == (7, ["settled"], False)
    assert asyncio.run(guard.aclose()) == 0
