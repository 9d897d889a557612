"""The demonstration on Redis: its outbox is the ledger, and the exit code tells when the books do not agree."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_kit import COMMAND, DEADLINE_S, Ended, environment
from daemon_kit import wait_until
from redis_kit import MISSING, RedisServer, has_redis

pytestmark = pytest.mark.skipif(not has_redis(), reason=MISSING)


class Demo:
    """`budgetguard demo` on a Redis of its own, whose password is secret."""

    def __init__(self, folder: Path) -> None:
        self.server = RedisServer(requirepass="s3cret")
        folder.mkdir()
        self.folder = folder
        self._process = subprocess.Popen(
            [*COMMAND, "demo", "--store", self.server.url], cwd=folder, env=environment(folder), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def outbox(self) -> str:
        """Its key, once there is something in it."""
        wait_until(lambda: self.server.keys("bg:{demo-*}:outbox"), "the first row")
        (key,) = self.server.keys("bg:{demo-*}:outbox")
        return key

    def end(self) -> Ended:
        out, err = self._process.communicate(timeout=DEADLINE_S)
        return Ended(out, err, self._process.returncode)

    def close(self) -> None:
        self._process.kill()
        with self._process:  # closes its pipes, of which a test alone reads only its own
            pass
        self.server.close()


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Demo]]:
    """Three that run at once: each takes some seconds, most of which it waits."""
    folder = tmp_path_factory.mktemp("demos")
    made: list[Demo] = []
    try:
        for name in ("whole", "robbed", "left alone"):
            made.append(Demo(folder / name))
        made[1].server.ask("XTRIM", made[1].outbox(), "MAXLEN", 0)
        made[2].outbox()
        made[2].server.kill()
        yield made
    finally:
        for demo in made:
            demo.close()


def test_bill_drained_ledger_and_accounts_agree(demos: list[Demo]) -> None:
    done, server = demos[0].end(), demos[0].server
    totals = re.findall(r"(?:bill|ledger|accounts): (.*)", done.out)
    assert (done.code, done.err) == (0, ""), done
    assert len(totals) >= 3 and len(set(totals[:3])) == 1
    assert "bill = ledger = accounts, overspend $0.00" in done.out
    assert re.search(r"delayed: [a-z-]+ waited \d+ ms", done.out)
    assert "alert: search-team has spent $0.0" in done.out
    assert "BudgetExceeded: search-team refused this call" in done.out
    assert server.ask("XLEN", demos[0].outbox()) == 0, "it is drained"
    assert [key for key in server.keys("bg:*") if not 0 < server.ask("TTL", key) <= 86_400] == [], (
        "nothing stays for good"
    )


def test_rows_that_never_came_into_the_ledger_are_told_by_the_exit_code(demos: list[Demo]) -> None:
    done = demos[1].end()
    assert (done.code, done.err) == (1, "")
    assert "THE BOOKS DO NOT AGREE" in done.out


def test_a_redis_that_goes_away_is_told_in_one_line_without_its_password(demos: list[Demo]) -> None:
    done = demos[2].end()
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert f"the store redis://127.0.0.1:{demos[2].server.port} could not be reached in time" in done.err
    assert "s3cret" not in done.out + done.err
