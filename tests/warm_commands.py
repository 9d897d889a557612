"""Commands of the command line, each a fork of one process that has imported it: the start of Python costs ten times
what most of them do.

Each has a process, a folder, an environment and an exit of its own. What differs from `python -m budgetguard.cli` is
only that modules are imported already; the tests of each command start it that way too.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

# Forks one process for each order; that one forks the command, waits for it, and tells its exit code.
SERVER = """
import gc, json, os, signal, socket, sys
import budgetguard.cli.app, budgetguard.cli.standing, budgetguard.ledger, budgetguard.policy_file
import budgetguard.simulation, budgetguard.stores.redis, budgetguard.stores.sqlite
import rich.box, rich.console, rich.table, typer._adapters, zoneinfo

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
command = os.fork()
if command:
    for fd in streams:
        os.close(fd)
    _, status = os.waitpid(command, 0)
    os.write(telling, b"%d" % os.waitstatus_to_exitcode(status))
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
sys.argv = ["budgetguard", *order["args"]]
budgetguard.cli.main()
"""


class Ended(NamedTuple):
    """What a command printed, and its exit code."""

    out: str
    err: str
    code: int


@cache
def _orders(checkout: Path) -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(theirs.fileno())], pass_fds=[theirs.fileno()], start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(checkout)},
        )  # fmt: skip

    def end() -> None:
        ours.close()
        server.wait()

    atexit.register(end)
    return ours


def warm_command(
    checkout: Path, folder: Path, args: Sequence[str], environment: Mapping[str, str], deadline_s: float
) -> Ended:
    """Run a command in a folder, its output in files."""
    order = json.dumps({"folder": str(folder), "args": args, "environment": dict(environment)}).encode()
    ours, theirs = socket.socketpair()
    with ours, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, open(os.devnull, "rb") as nothing:
        with theirs:
            fds = [nothing.fileno(), out.fileno(), err.fileno(), theirs.fileno()]
            socket.send_fds(_orders(checkout), [order], fds)
        ours.settimeout(deadline_s)
        code = int(ours.recv(16))
        out.seek(0)
        err.seek(0)
        return Ended(out.read().decode(), err.read().decode(), code)
