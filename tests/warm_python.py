"""Processes that are forks of one which has imported the package: the start of Python takes ten times what many of them
do.

Each has an id, a folder, an environment, streams and an exit of its own. What differs from a start of Python is only
that modules are imported already. No test of how a process starts, or of an import, may use it.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import BinaryIO

CHECKOUT = Path(__file__).resolve().parent.parent
OF_OURS = (
    "budgetguard.cli.app", "budgetguard.cli.standing", "budgetguard.doctor.comparing", "budgetguard.doctor.fixing",
    "budgetguard.ledger", "budgetguard.policy_file", "budgetguard.simulation", "budgetguard.stores.redis",
    "budgetguard.stores.spool", "budgetguard.stores.sqlite", "budgetguard.testing", "rich.box", "rich.console",
    "rich.table", "typer._adapters", "zoneinfo",
)  # fmt: skip
# Forks one process for each order; that one forks what runs the program, tells its id, waits for it, tells its exit.
SERVER = """
import gc, importlib, json, os, signal, socket, sys

for module in sys.argv[2:]:
    importlib.import_module(module)
orders = socket.socket(fileno=int(sys.argv[1]))
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for these forks
gc.freeze()
while True:
    said, fds, _, _ = socket.recv_fds(orders, 1 << 20, 4)
    if not said:
        os._exit(0)
    if os.fork() == 0:
        break
    for fd in fds:
        os.close(fd)
orders.close()
signal.signal(signal.SIGCHLD, signal.SIG_DFL)
*streams, telling = fds
process = os.fork()
if process:
    for fd in streams:
        os.close(fd)
    os.write(telling, b"%d\\n" % process)
    _, status = os.waitpid(process, 0)
    os.write(telling, b"%d\\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)
os.close(telling)
for number, fd in enumerate(streams):
    os.dup2(fd, number)
    os.close(fd)
sys.stdin = open(0, closefd=False)
sys.stdout = open(1, "w", closefd=False)
sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)
order = json.loads(said)
os.chdir(order["folder"])
os.environ.clear()
os.environ.update(order["environment"])
sys.argv = ["warm", *order["args"]]
exec(order["program"], {"__name__": "__main__"})
"""


@cache
def _orders(modules: tuple[str, ...], python: str) -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        server = subprocess.Popen(
            [python, "-c", SERVER, str(theirs.fileno()), *modules], pass_fds=[theirs.fileno()], start_new_session=True,
            env={
                **os.environ, "PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "tests")]),
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            },
        )  # fmt: skip

    def end() -> None:
        ours.close()
        server.wait()

    atexit.register(end)
    return ours


class WarmProcess:
    """A running program, with the part of `asyncio.subprocess.Process` that is needed of it.

    Args:
        program: Python source, run as `__main__`; its arguments are `sys.argv[1:]`.
        modules: what the one that it is a fork of has imported.
        python: of which environment.
    """

    def __init__(
        self, program: str, args: Sequence[str], folder: Path, environment: Mapping[str, str], out: BinaryIO,
        err: BinaryIO, modules: Sequence[str] = OF_OURS, python: str = sys.executable,
    ) -> None:  # fmt: skip
        order = {"program": program, "args": args, "folder": str(folder), "environment": dict(environment)}
        self._telling, theirs = socket.socketpair()
        with theirs, open(os.devnull, "rb") as nothing:
            fds = [nothing.fileno(), out.fileno(), err.fileno(), theirs.fileno()]
            socket.send_fds(_orders(tuple(modules), python), [json.dumps(order).encode()], fds)
        self._told = self._telling.makefile("rb")
        self.pid = int(self._told.readline())
        self.returncode: int | None = None

    async def wait(self) -> int:
        """Its exit code, less than 0 for a signal."""
        return await asyncio.to_thread(self.wait_for, None)

    def wait_for(self, deadline_s: float | None) -> int:
        """The same, blocking. Raises: TimeoutError."""
        if self.returncode is None:
            self._telling.settimeout(deadline_s)
            self.returncode = int(self._told.readline())
            self.forget()
        return self.returncode

    def forget(self) -> None:
        """Its exit is not waited for any more."""
        self._told.close()
        self._telling.close()

    def send_signal(self, number: int) -> None:
        """As `subprocess.Popen`: one that has ended meanwhile hears nothing."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def ran_warm(
    program: str, folder: Path, environment: Mapping[str, str], modules: Sequence[str], *args: str,
    python: str = sys.executable,
) -> str:  # fmt: skip
    """What a program prints that ends well within two minutes; it is a fork of one that has imported these modules."""
    with (folder / "said").open("w+b") as said, (folder / "wrong").open("w+b") as wrong:
        process = WarmProcess(program, args, folder, environment, said, wrong, modules, python)
        try:
            code: int | None = process.wait_for(120)
        except TimeoutError:
            process.kill()
            process.forget()
            code = None
        for stream in (said, wrong):
            stream.seek(0)
        printed = said.read().decode()
        assert code == 0, f"it ended with {code}:\n{printed}\n{wrong.read().decode()}"
        return printed
