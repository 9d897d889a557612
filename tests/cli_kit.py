"""What the tests of the command line share: the real command, in a pipe or in a terminal, and a store that stands."""

from __future__ import annotations

import asyncio
import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from warm_python import WarmProcess

from budgetguard.core.amounts import Amounts
from budgetguard.core.model import CallInfo, Plan, UsageRow
from budgetguard.core.verbs import Reserve, Settle
from budgetguard.policy_file import load_policy
from budgetguard.stores import open_store

CHECKOUT = Path(__file__).resolve().parent.parent
COMMAND = (sys.executable, "-m", "budgetguard.cli")
MAIN = "from budgetguard.cli import main; main()"
DEADLINE_S = 60
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

POLICY = """
timezone = "Europe/Berlin"
[store]
url = "sqlite:///budgets.db"
[labels]
known = ["team", "agent", "tenant"]
[[budget]]
name = "search-team"
where = { team = "search" }
limits = ["5M tokens/total", "$50/total", "20 concurrent"]
on_exceed = "delay"
[[budget]]
name = "each-agent"
per = ["agent"]
limits = ["500k tokens/total", "$5/month"]
"""
HOSTILE = "writer\x1b[31m\u202e\n"
CALLS = (("crawler", 120_000, 2_500_000_000), (HOSTILE, 499_999, 4_993_100_007))


class Ended(NamedTuple):
    """What a command printed, and its exit code."""

    out: str
    err: str
    code: int


def environment(folder: Path, **more: str) -> dict[str, str]:
    """An environment of its own: nothing of the user's state, configuration or terminal."""
    left_out = re.compile("BUDGETGUARD_.*|NO_COLOR|FORCE_COLOR|COLUMNS|LINES|PYTHONUNBUFFERED")
    kept = {name: value for name, value in os.environ.items() if not left_out.fullmatch(name)}
    return {
        **kept,
        "XDG_STATE_HOME": str(folder / "state"),
        "PYTHONPATH": str(CHECKOUT),
        "TERM": "xterm-256color",
        **more,
    }


def command(folder: Path, *args: str, **more: str) -> Ended:
    """Run `budgetguard ...` in a folder, its output in files; in a process that need not import it first."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        code = WarmProcess(MAIN, args, folder, environment(folder, **more), out, err).wait_for(DEADLINE_S)
        out.seek(0)
        err.seek(0)
        return Ended(out.read().decode(), err.read().decode(), code)


def started(folder: Path, *args: str, **more: str) -> Ended:
    """The same, started as users start it, its output in pipes."""
    done = subprocess.run(
        [*COMMAND, *args], cwd=folder, env=environment(folder, **more), capture_output=True, text=True,
        timeout=DEADLINE_S, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return Ended(done.stdout, done.stderr, done.returncode)


class Terminal:
    """`budgetguard ...` in a terminal of that many columns. Its output is kept with its escape codes."""

    def __init__(self, folder: Path, *args: str, columns: int = 120, **more: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        self.process = subprocess.Popen(
            [*COMMAND, *args], cwd=folder, env=environment(folder, **more), stdin=theirs, stdout=theirs, stderr=theirs,
            start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self.raw = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def read_until(self, seen: Callable[[str], bool]) -> str:
        """Read until `seen` says so of all the plain text, or the command ends; returns that text."""
        deadline = time.monotonic() + DEADLINE_S
        while not seen(self.text) and self._read():
            assert time.monotonic() < deadline, f"not seen in time:\n{self.text}"
        return self.text

    def _read(self) -> bool:
        if not select.select([self._ours], [], [], 0.2)[0]:
            return True
        try:
            found = os.read(self._ours, 65_536)
        except OSError:  # Linux says so where a terminal was closed
            return False
        self.raw += self._decoder.decode(found)  # a character may come in two parts
        return bool(found)

    @property
    def text(self) -> str:
        """What was printed so far, without escape codes."""
        return ESCAPES.sub("", self.raw).replace("\r", "")

    def interrupt(self) -> None:
        """As Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Read to the end; the exit code."""
        self.read_until(lambda _: False)
        os.close(self._ours)
        return self.process.wait(DEADLINE_S)


def shown(folder: Path, *args: str, columns: int = 120, **more: str) -> tuple[Terminal, int]:
    """A command that was run to its end in a terminal, and its exit code."""
    terminal = Terminal(folder, *args, columns=columns, **more)
    return terminal, terminal.end()


def amounts(tokens: int, nanousd: int) -> Amounts:
    return Amounts(tokens, tokens - 100, 100, nanousd, 1, 1)


def fill(folder: Path, policy: str = POLICY, agents: int = 0) -> Path:
    """Write the policy, and spend on its store: `CALLS`, one of 7 tokens by each of more agents, and an open hold."""
    (folder / "budgetguard.toml").write_text(policy, encoding="utf-8")
    calls = [*CALLS, *((f"agent-{number:05}", 200, 7) for number in range(agents))]
    asyncio.run(_spend(folder, calls))
    return folder


async def _spend(folder: Path, calls: list[tuple[str, int, int]]) -> None:
    policy = load_policy(folder / "budgetguard.toml", {})
    store = open_store(policy.store.url, policy.store.namespace, 5_000)
    now_ms = await store.open()

    def plan(agent: str) -> Plan:
        return policy.match((("agent", agent), ("team", "search")), now_ms).plan

    def info(agent: str) -> CallInfo:
        return CallInfo({"agent": agent, "team": "search", "tenant": "acme"}, "", "host-1:42")

    settles = [
        Settle(
            f"r-{number}", plan(agent), amounts(tokens, nanousd), UsageRow(tokens - 100, 100, cost_nanousd=nanousd),
            info(agent), "settled", amounts(tokens, nanousd), now_ms, 900_000, now_ms,
        )
        for number, (agent, tokens, nanousd) in enumerate(calls)
    ]  # fmt: skip
    opened = Reserve("r-open", plan("crawler"), amounts(100_000, 14_200_000), info("crawler"), 60_000, 900_000, now_ms)
    assert (await store.reserve([opened]))[0].word == "granted"
    for start in range(0, len(settles), 10):  # as many as may be open at once
        some = settles[start : start + 10]
        ops = [Reserve(op.id, op.plan, op.actual, op.info, 60_000, 900_000, now_ms) for op in some]
        assert {verdict.word for verdict in await store.reserve(ops)} == {"granted"}
        assert {answer.word for answer in await store.settle(some)} == {"settled"}
    await store.aclose()
