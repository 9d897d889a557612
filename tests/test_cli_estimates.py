"""`budgetguard estimates`: what was learned, with how far it was off, whoever wrote into the store."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from budgetguard.cli.app import run
from budgetguard.learning.learned import WHOLE
from budgetguard.learning.sketch import place_of
from budgetguard.learning.unsent import ASKED, EXACT, HIGH_TOKENS, LOW_TOKENS, TOO_LOW, Unsent
from budgetguard.store import OutputCount
from budgetguard.stores import open_store

DAY_MS = 86_400_000
HOSTILE = "crawler\x1b[31m\n"


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A store of which one agent has written 95 calls of 70 tokens and 5 of 900; 4 of them were too low."""
    url, unsent = f"sqlite:///{tmp_path / 'store.db'}", Unsent(DAY_MS)
    for key in (("out", "gpt-4o"), ("out", "gpt-4o", "agent", HOSTILE)):
        for place, number in (
            (place_of(70), 95), (place_of(900), 5), (ASKED, 100), (EXACT, 16), (TOO_LOW, 4), (LOW_TOKENS, 6_000),
            (HIGH_TOKENS, 960),
        ):  # fmt: skip
            unsent.add(key, [(place, number)])
    weighed = [(place_of(WHOLE * 4 // 5), 30), (ASKED, 40), (TOO_LOW, 1), (LOW_TOKENS, 7), (HIGH_TOKENS, 390)]
    unsent.add(("in", "gpt-4o", "agent", HOSTILE), weighed)
    flush = unsent.take()
    assert flush is not None
    huge = f'["out",{10**4_000},"m"]'
    strange = (
        "",
        "[]",
        huge,
        "no JSON",
        "[" * 4_000,
        '["out",86400000,"\\ud800","agent","=1+1"]',
        '["in",1,"m"]',
        '["out",0,"m"]',
        '["out",1,7]',
        '["out",86400000,"odd","agent"]',
    )

    async def main() -> None:
        async with aclosing(open_store(url, "default", 5_000)) as store:
            await store.note_outputs("f", DAY_MS, [*flush.rows, *(OutputCount(words, 3, 1) for words in strange)])

    asyncio.run(main())
    return url


def told(url: str, capsys: pytest.CaptureFixture[str], *more: str) -> list[dict[str, Any]]:
    assert run(["estimates", "--store", url, "--format", "json", *more]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, list)
    return found


def test_it_tells_quantiles_and_errors_of_each_set(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    whole, crawler = told(url, capsys, "--model", "gpt-*")
    assert (whole["agent"], crawler["agent"], crawler["task"]) == (None, HOSTILE, None)
    assert whole["input_percent"] is None and 80 <= crawler["input_percent"] <= 84
    assert {crawler[f"input_{key}"] for key in ("estimated", "too_low", "too_low_by", "too_high")} == {40, 1, 7, 39}
    assert (crawler["input_too_low_share"], crawler["input_too_high_by"], whole["input_estimated"]) == (0.025, 10, None)
    for record in (whole, crawler):
        assert (record["calls"], record["estimated"], record["too_low"]) == (100, 100, 4)
        assert (record["too_low_share"], record["too_low_by"]) == (0.04, 1_500)
        assert (record["too_high"], record["too_high_share"], record["too_high_by"]) == (80, 0.8, 12)
        assert 70 <= record["p50"] <= record["p95"] <= 74 and 900 <= record["p99"] == record["most"] <= 945
        assert record["half_life_ms"] == DAY_MS


def test_strange_sets_are_shown_or_left_out_and_globs_choose(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert [record["model"] for record in told(url, capsys)] == ["gpt-4o", "gpt-4o", "odd", "\ud800"]
    assert [record["calls"] for record in told(url, capsys, "--agent", "craw*")] == [100]
    assert told(url, capsys, "--task", "*") == []


def test_the_table_shows_no_control_characters(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert run(["estimates", "--store", url]) == 0
    out = capsys.readouterr().out
    assert "4.0% 1.5k" in out and "80.0% 12" in out and "2.5% 7" in out
    assert "\x1b[31m" not in out and "crawler" in out


def test_a_table_of_80_columns_has_the_labels_and_both_errors(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["estimates", "--store", url, "--agent", "craw*"]) == 0
    head, _, *lines = capsys.readouterr().out.splitlines()
    assert all(name in head for name in ("model", "agent", "task", "p95", "too low", "too high"))
    assert max(map(len, [head, *lines])) <= 80 and any("4.0% 1.5k" in line and "80.0% 12" in line for line in lines)


def test_csv_has_what_json_has_and_no_formula(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    records = told(url, capsys)
    assert run(["estimates", "--store", url, "--format", "csv"]) == 0
    head, *lines = csv.reader(io.StringIO(capsys.readouterr().out))
    assert head == list(records[0]) and len(lines) == len(records)
    assert not any(cell.startswith(tuple("=+-@")) for line in lines for cell in line)


def test_where_nothing_was_learned_it_says_what_teaches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path / 'empty.db'}"

    async def main() -> None:
        async with aclosing(open_store(url, "default", 5_000)) as store:
            await store.open()

    asyncio.run(main())
    assert run(["estimates", "--store", url]) == 0
    assert "nothing was learned yet" in capsys.readouterr().out
