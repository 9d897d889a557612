"""A guard on Redis in many lives: several event loops in turn, without any, forked, and left without a word."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cli_kit import environment
from redis_kit import MISSING, RedisServer, has_redis
from redis_world import RedisWorld
from test_exit import ENDS, HEAD

pytestmark = pytest.mark.skipif(not has_redis(), reason=MISSING)
ON_SQLITE = 'bg.StoreSettings("sqlite:///exit.db", timeout_ms=20)'
AT_ONCE = 3
NAMES = [
    "a hold by hand that was recorded and never settled", "a loop that was stopped and never closed",
    "a loop that runs in a daemon thread", "a sync caller's hold", "sys.exit inside a block",
    "an interrupt while calls are under way", "a run that ends while it settles",
]  # fmt: skip
"""Of the ends of `test_exit` those in which a connection could be left, or used in vain."""
TIMEOUT_S = 120

START = """
import asyncio, gc, logging, os, sys, threading, time, warnings
import redis
import budgetguard as bg
logging.getLogger("asyncio").setLevel(logging.ERROR)  # not how long a step took on a machine under load
url = sys.argv[1]
look = redis.Redis.from_url(url)
def links(wanted):
    ends = time.monotonic() + 60
    while (found := look.info("clients")["connected_clients"] - 1) != wanted:
        assert time.monotonic() < ends, f"{found} connections, not {wanted}"
        time.sleep(0.01)
guard = bg.Guard("9k tokens/total", store=bg.StoreSettings(url, sys.argv[2]))
async def call():
    async with guard.reserve(estimate=bg.Usage(5, 5)) as hold:
        hold.record(bg.Usage(3, 4))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def ran(source: str, server: RedisServer, namespace: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A script to its end: with each warning, resources that nobody closed too, on stderr."""
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "always", "-c", source, server.url, namespace],
        cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip


def books(server: RedisServer, namespace: str) -> tuple[list[tuple[str, int]], int]:
    """How each call ended, with its tokens, by id; and what is reserved."""
    world = RedisWorld(server, namespace)
    ended = sorted((row.id, row.status, row.usage.prompt_tokens + row.usage.completion_tokens) for row in world.rows())
    return [(status, tokens) for _, status, tokens in ended], world.reserved()


def test_each_event_loop_has_a_connection_of_its_own_and_closes_it_at_its_end(
    server: RedisServer, tmp_path: Path
) -> None:
    """Three runs, the loop of sync callers, and one that closes the guard; two threads at once."""
    done = ran(START + """
links(0)
for _ in range(3):
    async def main():
        await asyncio.gather(*(call() for _ in range(20)))
        await asyncio.to_thread(links, 1)
    asyncio.run(main())
    links(0)
with guard.sync.reserve(estimate=bg.Usage(5, 5)) as hold:
    hold.record(bg.Usage(3, 4))
links(1)
met = threading.Barrier(3)
async def main():
    await call()
    await asyncio.to_thread(met.wait)
    await asyncio.to_thread(met.wait)
threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(2)]
for thread in threads:
    thread.start()
met.wait()
links(3)
met.wait()
for thread in threads:
    thread.join()
links(1)
assert guard.sync.close() == 0
links(0)
""", server, "loops", tmp_path)  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert books(server, "loops") == ([("settled", 7)] * 63, 0)


def test_loops_that_were_closed_without_their_ends_leave_no_connections_to_their_successors(
    server: RedisServer, tmp_path: Path
) -> None:
    done = ran(START + """
warnings.simplefilter("ignore", ResourceWarning)  # who closes a loop like that is told of its transports
for _ in range(5):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(call())
    loop.close()
    del loop
    gc.collect()
    links(1)
asyncio.run(call())
gc.collect()
links(0)
""", server, "left", tmp_path)  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert books(server, "left") == ([("settled", 7)] * 6, 0)


def test_a_hold_that_outlives_its_guard_is_settled_and_leaves_no_connection(
    server: RedisServer, tmp_path: Path
) -> None:
    done = ran(START + """
async def main():
    hold = await guard.reserve(estimate=bg.Usage(5, 5))
    assert await guard.aclose() == 0
    await asyncio.to_thread(links, 0)
    await hold.settle(bg.Usage(3, 4))
    await asyncio.to_thread(links, 0)
asyncio.run(main())
""", server, "outlives", tmp_path)  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert books(server, "outlives") == ([("settled", 7)], 0)


def test_a_forked_child_is_told_to_make_its_own_guard_and_leaves_its_parents_connection_alone(
    server: RedisServer, tmp_path: Path
) -> None:
    done = ran(START + """
unused = bg.Guard("9k tokens/total", store=bg.StoreSettings(url, sys.argv[2]))
async def main():
    await call()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Python 3.12 and later: that a process with threads forks
        pid = os.fork()
    if pid == 0:
        try:
            await call()
        except bg.GuardForked as error:
            print(str(error).replace(str(os.getppid()), "PARENT"), flush=True)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    await call()
    return pid
async def other():
    global guard
    guard = unused
    await call()
asyncio.run(main())
if (pid := os.fork()) == 0:
    asyncio.run(other())
    links(0)
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
asyncio.run(call())
""", server, "forked", tmp_path)  # fmt: skip
    told = "this guard was opened in process PARENT: make a new one in each child\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, told, "")
    assert books(server, "forked") == ([("settled", 7)] * 4, 0)


@pytest.fixture(scope="module")
def exits(
    server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, subprocess.CompletedProcess[str]]]:
    """How processes with these ends came to them."""
    head = HEAD.replace(ON_SQLITE, "bg.StoreSettings(sys.argv[1], sys.argv[2])")
    assert head != HEAD
    scripts = {f"end-{number}": head + ENDS[name][0] for number, name in enumerate(NAMES)}

    def end(name: str) -> subprocess.CompletedProcess[str]:
        return ran(scripts[name], server, name, tmp_path_factory.mktemp(name))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield dict(zip(NAMES, pool.map(end, scripts), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_what_was_recorded_is_in_the_ledger_after_the_exit(
    exits: dict[str, subprocess.CompletedProcess[str]], server: RedisServer, name: str
) -> None:
    _, ledger, code = ENDS[name]
    assert exits[name].returncode == code, exits[name].stderr
    assert books(server, f"end-{NAMES.index(name)}") == (ledger, 0), exits[name].stderr
    for complaint in ("was destroyed", "never retrieved", "never awaited", "Exception ignored", "Error in atexit"):
        assert complaint not in exits[name].stderr
    assert ("Traceback" in exits[name].stderr) == (code not in (0, 3))
