"""A disk with faults: SQLite's files as they are, but for the writes and syncs that a test asks to fail."""

from __future__ import annotations

import threading
from typing import Literal, Self

import apsw

Fault = Literal["full", "sync"]
ERRORS = {"full": (apsw.FullError, "disk full, as the test asked"), "sync": (apsw.IOError, "sync, as the test asked")}


class FaultyDisk(apsw.VFS):
    """The machine's disk until a fault is asked for; every connection that is opened in the block is on it."""

    def __init__(self) -> None:
        super().__init__("faulty", "unix", makedefault=True)
        self.hits = 0
        self._full: tuple[str, ...] = ()
        self._awaited: list[Fault] = []
        self._steps = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.unregister()

    def fill(self, *names: str) -> None:
        """From now on nothing is written to files whose paths have one of these names in them."""
        self._full = names

    def make_room(self) -> None:
        """All writes succeed again."""
        self._full = ()
        self._awaited = []

    def fail_once(self, fault: Fault, steps: int) -> None:
        """The write (or sync) after so many others fails; none before, and none after."""
        self._awaited, self._steps = [fault], steps

    def step(self, kind: Fault, path: str) -> None:
        """Fail the step if it was asked for. From any thread."""
        with self._lock:
            failing = kind == "full" and any(name in path for name in self._full)
            if self._awaited == [kind]:
                self._steps -= 1
                if self._steps < 0:
                    self._awaited, failing = [], True
            self.hits += failing
        if failing:
            error, text = ERRORS[kind]
            raise error(text)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _File(self, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, disk: FaultyDisk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._disk = disk
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.step("full", self._path)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._disk.step("sync", self._path)
        super().xSync(flags)
