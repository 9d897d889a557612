"""Reading a trace: CSV, plain or gzipped, in any order; what is wrong with one is told by file, line and column."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from cli_kit import command

import budgetguard as bg
from budgetguard.errors import InvalidInput
from budgetguard.simulation import TracedCall, read_trace

HEADER = "timestamp_s,model,prompt_tokens,completion_tokens"


def written(folder: Path, text: str | bytes, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_calls_come_in_the_order_of_their_times_and_those_of_one_instant_in_that_of_the_file(tmp_path: Path) -> None:
    rows = ["2.5,late,1,2", "0,first,3,4", "0.0004,third,5,6", "0.0,second,7,8", "1e0,fourth,0,0"]
    calls = read_trace(written(tmp_path, "\n".join([HEADER, *rows])))
    assert [call.model for call in calls] == ["first", "second", "third", "fourth", "late"]
    assert [call.at_ms for call in calls] == [0, 0, 0, 1000, 2500]
    assert calls[0] == TracedCall(0, "first", 3, 4, {})
    assert calls[-1].takes_ms == 340


def test_agent_task_and_run_become_labels_where_they_say_something(tmp_path: Path) -> None:
    text = (
        "run,cost_usd,agent,completion_tokens,timestamp_s,prompt_tokens,model,task\r\n"
        'r1,0.5,"a, b",2,0,1,m,"two\r\nlines"\r\n'
        "\r\n"
        ",,,2,1,1,m,\r\n"
    )
    first, second = read_trace(written(tmp_path, text))
    assert first.labels == {"agent": "a, b", "task": "two\r\nlines", "session": "r1"}
    assert second.labels == {}


@pytest.mark.parametrize("name", ["trace.csv.gz", "trace.csv"])
def test_a_gzipped_trace_is_one_by_its_first_bytes(name: str, tmp_path: Path) -> None:
    packed = gzip.compress(f"\ufeff{HEADER}\n0,m,1,2\n".encode())
    assert read_trace(written(tmp_path, packed, name)) == [TracedCall(0, "m", 1, 2, {})]


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        ("x,m,1,2", r"timestamp_s must be a number of seconds, not 'x'"),
        (",m,1,2", r"timestamp_s must be a number"),
        ("nan,m,1,2", r"timestamp_s counts from the start"),
        ("inf,m,1,2", r"timestamp_s counts from the start"),
        ("-0.1,m,1,2", r"timestamp_s counts from the start"),
        ("1763769600,m,1,2", r"timestamp_s counts from the start of the trace"),
        ("0,m,1.5,2", r"prompt_tokens must be a whole number from 0 to 1,000,000,000, not '1\.5'"),
        ("0,m,-1,2", r"prompt_tokens must be"),
        ("0,m,1,", r"completion_tokens must be"),
        ("0,m,1,1_0", r"completion_tokens must be"),
        ("0,m,1,\u0664", r"completion_tokens must be"),
        ("0,m,1,1000000001", r"completion_tokens must be"),
        (f"0,m,1,{'9' * 5000}", r"completion_tokens must be"),
        ("0,m,1", r"there are 3 cells where at least 4 belong"),
        ("0,,1,2", r"label 'model' must be text of 1 to 512 UTF-8 bytes"),
        (f"0,{'m' * 513},1,2", r"label 'model' must be text of 1 to 512 UTF-8 bytes"),
        ('0,"m,1,2', r"unexpected end of data"),
        ('0,"m"x,1,2', r"expected after"),
    ],
)
def test_a_bad_row_is_told_by_its_line(row: str, wrong: str, tmp_path: Path) -> None:
    path = written(tmp_path, f"{HEADER}\n0,m,1,2\n\n{row}\n0,m,1,2\n" if '"m,' not in row else f"{HEADER}\n\n\n{row}")
    with pytest.raises(InvalidInput, match=f"^{path}, line 4: .*{wrong}") as error:
        read_trace(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", r", line 1: the column timestamp_s is missing; a trace begins with timestamp_s,model,"),
        ("timestamp_s,model,prompt_tokens\n0,m,1\n", r", line 1: the column completion_tokens is missing"),
        (f"{HEADER},model\n0,m,1,2,m\n", r", line 1: there are two columns model"),
        (f"{HEADER}\n", r": there are no calls in it"),
        (HEADER.encode() + b"\n0,\xff,1,2\n", r": it is not UTF-8"),
        (gzip.compress(f"{HEADER}\n0,m,1,2\n".encode(), mtime=0)[:-9], r": it cannot be unpacked"),
        (b"\x1f\x8bnot so", r": it cannot be unpacked"),
    ],
)
def test_what_is_no_trace_is_told_by_its_file(text: str | bytes, wrong: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InvalidInput, match=f"^{path}{wrong}"):
        read_trace(path)


def test_a_file_that_is_not_there_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_trace(tmp_path / "none.csv")


def test_the_shared_traces_are_read_whole(shared: Path) -> None:
    calls = read_trace(shared / "traces" / "azure2023_code.norm.csv.gz")
    sums = (sum(call.prompt_tokens for call in calls), sum(call.completion_tokens for call in calls))
    assert (len(calls), sums) == (8819, (18_059_974, 245_896))


def test_what_ledger_export_writes_is_a_trace_of_what_was_sent(tmp_path: Path) -> None:
    store, path = f"sqlite:///{tmp_path / 'budgets.db'}", tmp_path / "calls.csv"
    guard = bg.Guard("1M tokens/day", store=store)
    for labels, model in (({"agent": "a", "task": "t", "session": "s", "user": "u"}, "m"), ({"agent": "b"}, None)):
        with guard.sync.reserve(model=model, estimate=bg.Usage(100, 200), team="search", **labels) as hold:
            hold.record(bg.Usage(90, 15))
    guard.sync.close()
    assert command(tmp_path, "ledger", "export", "--store", store, "-o", str(path)).code == 0
    first, second = read_trace(path)
    assert first.labels == {"agent": "a", "task": "t", "session": "s", "team": "search", "user": "u"}
    assert (first.model, first.prompt_tokens, first.completion_tokens) == ("m", 90, 15)
    assert second[1:] == ("(none)", 90, 15, {"agent": "b", "team": "search"})
    row = path.read_text(encoding="utf-8").splitlines()[1]
    hours, minutes, seconds = row.split(",")[3].split(" ")[1].split(":")
    assert first.at_ms == round(1000 * (3600 * int(hours) + 60 * int(minutes) + float(seconds)))  # days stay days
    text = path.read_text(encoding="utf-8")  # one that was released after it had expired: nothing was sent
    path.write_text(text.replace(",settled,", ",released,", 1), encoding="utf-8")
    assert read_trace(path) == [second]
    path.write_text(text.replace("202", "x02"), encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"line 2: timestamp_s must be a number of seconds, not 'x0"):
        read_trace(path)
