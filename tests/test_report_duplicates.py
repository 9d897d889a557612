"""`report duplicates`: prompts that were asked again, on SQLite and PostgreSQL, and what the repeats cost."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from cli_kit import Ended, command
from drain_kit import NAMESPACE, row
from report_kit import fill
from store_kit import HOUR_MS, NOON_MS, amounts, info

from budgetguard.core.model import UsageRow
from budgetguard.core.verbs import Row
from budgetguard.ledger.books import open_book
from budgetguard.ledger.reading import Stretch


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres").url)
    return f"sqlite:///{tmp_path / 'ledger.db'}"


def asked(id: str, prompt_hash: str, cost_nanousd: int | None, hour: int, operation: str = "", **labels: str) -> Row:
    of = replace(info(amounts(1), **(labels or {"agent": "crawler"})), prompt_hash=prompt_hash, operation_id=operation)
    usage = UsageRow(10, 5, cost_nanousd=cost_nanousd)
    return row(id, info=of, usage=usage, timestamp_ms=NOON_MS + hour * HOUR_MS)


ROWS = [
    asked("b", "aa", 200, 2), asked("a", "aa", 1_000, 1), asked("c", "aa", 30, 3, agent="=1+1"),
    asked("d", "bb", 7_000, 1, team="ads"), asked("e", "bb", None, 2, team="ads"),
    asked("f", "cc", 5, 1), asked("g", "", 9_999, 1),
    asked("h", "dd", 50, 1, "one"), asked("i", "dd", 50, 2, "one"),
    asked("j", "aa", 100_000, 9)._replace(status="released", usage=UsageRow()),
]  # fmt: skip
"""`aa` was asked three times, by two agents; `bb` twice; of `dd` one operation made two attempts."""


def duplicates(folder: Path, url: str, *more: str) -> Ended:
    named = ("--ledger", url, "--namespace", NAMESPACE, "--since", "2026-11-22", "--until", "2026-11-24")
    return command(folder, "report", "duplicates", *named, *more)


def test_all_but_the_first_asking_of_a_prompt_are_repeats(url: str, tmp_path: Path) -> None:
    fill(url, ROWS)
    done = duplicates(tmp_path, url, "--format", "json", "--timezone", "Europe/Berlin")
    assert done.code == 0
    assert json.loads(done.out) == [
        {
            "prompt_hash": "aa", "times": 3, "first_at": "2026-11-22T14:00:00.000+01:00",
            "last_at": "2026-11-22T16:00:00.000+01:00", "agents": ["=1+1", "crawler"], "tokens": 45, "cost": 1_230,
            "cost_usd": "0.00000123", "again_tokens": 30, "again": 230, "again_usd": "0.00000023",
            "again_unpriced_calls": 0,
        },
        {
            "prompt_hash": "bb", "times": 2, "first_at": "2026-11-22T14:00:00.000+01:00",
            "last_at": "2026-11-22T15:00:00.000+01:00", "agents": ["(none)"], "tokens": 30, "cost": 7_000,
            "cost_usd": "0.000007", "again_tokens": 15, "again": 0, "again_usd": "0.00", "again_unpriced_calls": 1,
        },
    ]  # fmt: skip
    assert done.err == (
        "2 prompts were asked again, 3 times, for $0.00000023 and 1 call without a known price "
        "(1 of 9 calls have no hash)\n"
    )
    cells = list(csv.DictReader(io.StringIO(duplicates(tmp_path, url, "--format", "csv").out)))
    assert cells[0]["agents"] == '["=1+1", "crawler"]', "no formula: a cell begins with a bracket"


def test_what_is_told_is_bounded_and_what_is_summed_is_not(url: str) -> None:
    fill(url, [asked(f"{n}-{m}", f"hash{n}", n, m) for n in range(1, 9) for m in range(n)])
    book = open_book(url)
    found = book.repeats(Stretch(NAMESPACE), {}, 2)
    assert [(one.prompt_hash, one.times, one.again_nanousd) for one in found.told] == [
        ("hash8", 8, 56), ("hash7", 7, 42)
    ]  # fmt: skip
    assert (found.prompts, found.again, found.again_nanousd) == (7, 28, sum(n * (n - 1) for n in range(9)))
    assert book.repeats(Stretch(NAMESPACE), {"agent": "craw*"}, 1).prompts == 7
    assert book.repeats(Stretch(NAMESPACE), {"agent": "x*"}, 1).calls == 0
    book.close()


def test_without_hashes_it_says_what_to_set(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'l.db'}"
    fill(url, [asked("a", "", 1, 1), asked("b", "", 1, 2)])
    done = duplicates(tmp_path, url)
    assert done.out.startswith("none of these 2 calls has a prompt hash") and "[ledger] prompt_key" in done.out
    done = duplicates(tmp_path, url, "--format", "csv")
    assert (len(done.out.splitlines()), "[ledger] prompt_key" in done.err) == (1, True)
    assert duplicates(tmp_path, url, "--agent", "nobody").out == "no prompt was asked again\n"


def test_the_table_is_for_people(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'l.db'}"
    fill(url, [*ROWS, asked("k", "aa", 3 * 10**9, 5, agent="\x1b[31mred")])
    done = duplicates(tmp_path, url, "--top", "1")
    titles, line = done.out.splitlines()
    assert titles.startswith("prompt hash  times  repeats cost  repeats' tokens  agents  ")
    assert titles.endswith("             first              last")
    assert line.startswith(
        "aa               4       $3.0001               45  \\x1b[31mred, =1+1, crawler  2026-11-22 13:00 "
    )
    assert line.endswith("  2026-11-22 17:00")
    assert duplicates(tmp_path, url, "--top", "0").err == "--top: expected 1 or more prompts\n"
