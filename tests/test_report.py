"""`budgetguard report` against rows that were added up by hand, in every form, on SQLite and PostgreSQL."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest
from cli_kit import Ended, shown, started
from drain_kit import NAMESPACE, row
from report_kit import HOSTILE, fill, generated, hostile_rows
from store_kit import DAY_MS, NOON_MS

from budgetguard.cli.app import run
from budgetguard.core.model import CallInfo, UsageRow
from budgetguard.core.verbs import Row
from budgetguard.refusal import escaped

NOVEMBER = ("--since", "2026-11-01", "--until", "2026-12-01")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres").url)
    return f"sqlite:///{tmp_path / 'l.db'}"


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'l.db'}"


class Ask(Protocol):
    def __call__(self, url: str, *args: str) -> Ended: ...


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ask:
    """The command, in this process; it is asked of a folder that has no policy."""
    monkeypatch.chdir(tmp_path)
    for name in ("COLUMNS", "BUDGETGUARD_CONFIG", "BUDGETGUARD_STORE"):
        monkeypatch.delenv(name, raising=False)

    def ask(url: str, *args: str) -> Ended:
        code = run(["report", "--ledger", url, "--namespace", NAMESPACE, *args])
        return Ended(*capsys.readouterr(), code)

    return ask


def call(
    id: str, usage: UsageRow, at_ms: int = NOON_MS, status: Any = "settled", error: str = "", **labels: str
) -> Row:
    return row(id, info=CallInfo(labels), usage=usage, timestamp_ms=at_ms, status=status, error_type=error)


BY_HAND = [
    call("1", UsageRow(1_000, 100, 400, 200, 50, 1_500_000_001), team="search", agent="crawler", model="gpt"),
    call("2", UsageRow(500, 50, cost_nanousd=500_000_000), team="search", agent="ranker", model="gpt"),
    call("3", UsageRow(20, 5, cost_nanousd=2), NOON_MS + DAY_MS, "error", "APIError", team="search", agent="crawler"),
    call("4", UsageRow(30, 3, cost_nanousd=None), team="ads", tenant="acme"),
    call("5", UsageRow(40, 4, cost_nanousd=7, source="estimate"), NOON_MS, "assumed", agent="crawler"),
    call("6", UsageRow(1, 1, cost_nanousd=9 * 10**9), NOON_MS - 30 * DAY_MS, team="search"),
    call("7", UsageRow(), NOON_MS, "released", team="search"),
]
"""Of November 2026: five calls for 2.000000010 dollars."""
SIGN = r"\\([!-/:-@\[-`{-~])"
"""What Markdown takes for that sign alone."""
TABLE = """\
Cost by team, agent: prod, 2026-11-01 to 2026-11-30 (UTC)

team     agent    calls  errors  input tokens  output tokens      cost    share  no price
search   crawler      2       1         1,020            105   $1.5000   75.0 %
search   ranker       1       0           500             50   $0.5000   25.0 %
(none)   crawler      1       0            40              4  <$0.0001    0.0 %
ads      (none)       1       0            30              3   $0.0000    0.0 %         1
(total)               5       1         1,590            162   $2.0000  100.0 %         1

Of it <$0.0001 of 1 call assumed: nobody told what was really used.
1 call without a known price, counted as $0.
"""
CSV = """\
line,team,agent,calls,operations,errors,prompt_tokens,completion_tokens,total_tokens,cache_read_tokens,\
cache_write_tokens,reasoning_tokens,cost_nanousd,cost_usd,unpriced_calls,assumed_calls,assumed_cost_nanousd,\
expired_calls,expired_cost_nanousd,late_calls,late_cost_nanousd
group,search,crawler,2,2,1,1020,105,1125,400,200,50,1500000003,1.500000003,0,0,0,0,0,0,0
group,search,ranker,1,1,0,500,50,550,0,0,0,500000000,0.500000000,0,0,0,0,0,0,0
group,(none),crawler,1,1,0,40,4,44,0,0,0,7,0.000000007,0,1,7,0,0,0,0
group,ads,(none),1,1,0,30,3,33,0,0,0,0,0.000000000,1,0,0,0,0,0,0
total,(total),,5,5,1,1590,162,1752,400,200,50,2000000010,2.000000010,1,1,7,0,0,0,0
"""
MARKDOWN = """\
## Cost by team

prod, 2026-11-01 to 2026-11-30 (UTC), team = search

| team | cost | share | calls | errors | input tokens | cached | output tokens |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| search | \\$2.0000 | 100.0 % | 3 | 1 | 1,520 | 400 | 155 |
| **(total)** | **\\$2.0000** | **100.0 %** | **3** | **1** | **1,520** | **400** | **155** |
"""


def test_every_form_says_what_was_added_up_by_hand(url: str, report: Ask) -> None:
    fill(url, BY_HAND)
    fill(url, BY_HAND, "another's")
    done = report(url, *NOVEMBER, "--by", "team,agent", "--verify")
    assert (done.code, done.out) == (0, TABLE)
    assert done.err == "verified: 5 rows, $2.000000010\n"
    assert report(url, *NOVEMBER, "--by", "team, agent", "--format", "csv").out == CSV
    assert report(url, *NOVEMBER, "--team", "search", "--format", "markdown").out == MARKDOWN
    told = json.loads(report(url, *NOVEMBER, "--by", "tenant", "--top", "1", "--format", "json").out)
    assert (told["since"], told["until"], told["timezone"]) == (
        "2026-11-01T00:00:00+00:00", "2026-12-01T00:00:00+00:00", "UTC"
    )  # fmt: skip
    assert [(one["group"], one["cost_usd"]) for one in told["groups"]] == [({"tenant": None}, "2.000000010")]
    assert (told["others"]["groups"], told["others"]["calls"], told["others"]["unpriced_calls"]) == (1, 1, 1)
    assert (told["total"]["calls"], told["total"]["cost_nanousd"]) == (5, 2_000_000_010)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (("--by", "model"), {"gpt": 2_000_000_001, None: 9}),
        (("--by", "agent", "--where", "team=s*"), {"crawler": 1_500_000_003, "ranker": 500_000_000}),
        (("--by", "agent", "--label", "model=gpt", "--agent", "r*"), {"ranker": 500_000_000}),
        (("--by", "status", "--where", "status=[ae]*"), {"assumed": 7, "error": 2}),
        (("--by", "day"), {"2026-11-22": 2_000_000_008, "2026-11-23": 2}),
        (("--by", "month", "--timezone", "Asia/Tokyo"), {"2026-11": 2_000_000_010}),
        (("--by", "tenant", "--where", "tenant=*"), {"acme": 0}),
        (("--by", "team", "--where", "team=nobody"), {}),
        (("--by", "agent,team", "--where", "team=(none)"), {"crawler": 7}),
    ],
)
def test_calls_are_chosen_and_grouped_as_asked(
    more: tuple[str, ...], expected: dict[str | None, int], url: str, report: Ask
) -> None:
    fill(url, BY_HAND)
    told = json.loads(report(url, *NOVEMBER, "--format", "json", *more).out)
    assert {next(iter(one["group"].values())): one["cost_nanousd"] for one in told["groups"]} == expected
    assert told["total"]["cost_nanousd"] == sum(expected.values())


def test_the_total_is_that_of_every_line_whatever_is_told_of_it(file_url: str, report: Ask) -> None:
    fill(file_url, list(generated(500)))
    totals = set()
    for more in ("--by model,day", "--by team,agent --top 2", "--by hour --top 3"):
        lines = csv.DictReader(io.StringIO(report(file_url, *NOVEMBER, "--format", "csv", *more.split()).out))
        *parts, total = [{key: int(one[key]) for key in one if key.endswith(("s", "usd")) and key != "cost_usd"}
                         for one in lines]  # fmt: skip
        assert total == {key: sum(part[key] for part in parts) for key in total}
        assert "--top" not in more or len(parts) == int(more[-1]) + 1, "the others are one line"
        totals.add(tuple(total.values()))
    assert len(totals) == 1


def test_with_nothing_asked_it_is_this_month_by_team(file_url: str, report: Ask) -> None:
    now = datetime.now(UTC)
    now_ms, first = int(now.timestamp() * 1000), now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    before_ms = int(first.timestamp() * 1000) - 1
    fill(
        file_url,
        [call("now", UsageRow(1, 1, cost_nanousd=1), now_ms, team="a"),
         call("then", UsageRow(1, 1, cost_nanousd=2), before_ms, team="a")],
    )  # fmt: skip
    done = report(file_url, "--format", "csv")
    assert [line.split(",")[:3] for line in done.out.splitlines()[1:]] == [
        ["group", "a", "1"],
        ["total", "(total)", "1"],
    ]
    told = json.loads(report(file_url, "--until", f"{first:%Y-%m-%d}", "--format", "json").out)
    assert (told["since"], told["total"]["cost_nanousd"]) == (None, 2)
    told = json.loads(report(file_url, "--last", "90d", "--format", "json").out)
    assert told["total"]["calls"] == 2
    assert datetime.fromisoformat(told["until"]) - datetime.fromisoformat(told["since"]) == timedelta(days=90)
    again = ("--since", told["since"], "--until", told["until"], "--format", "json")
    assert json.loads(report(file_url, *again).out) == told, "to the millisecond"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--by", "team,team"), "--by: team is named twice"),
        (("--by", "team,"), "--by: name labels"),
        (("--top", "0"), "--top: expected 1 or more"),
        (("--last", "7d", "--since", "2026-11-01"), "--last: it ends now"),
        (("--last", "sometimes"), "--last must be a time"),
        (("--since", "2026-11-02", "--until", "2026-11-01"), "--since: it must lie before --until"),
        (("--since", "today"), "--since: expected a date"),
        (("--timezone", "Europe/Berln"), "did you mean Europe/Berlin?"),
        (("--team", "a", "--where", "team=b"), "team is given twice"),
        (("--where", "team"), "write name=value"),
        (("--where", "day=2026-11-22"), "--where: day is no label"),
        (("--top", "3", "duplicates"), "write --ledger, --namespace, --top after `duplicates`"),
        (("--format", "xml"), "xml"),
    ],
)
def test_what_cannot_be_is_told(more: tuple[str, ...], said: str, file_url: str, report: Ask) -> None:
    fill(file_url, BY_HAND[:1])
    done = report(file_url, *more)
    assert (done.code, done.out) == (2, "") and said in done.err


def test_a_label_that_no_call_has_may_be_a_typing_error(file_url: str, report: Ask) -> None:
    fill(file_url, BY_HAND)
    for name, near in (("agnet", "agent"), ("TEAM", "team")):
        done = report(file_url, *NOVEMBER, "--by", name)
        assert (done.code, done.err) == (0, f"no call here has a label {name}; did you mean {near}?\n")


def test_columns_of_csv_have_names_of_their_own(file_url: str, report: Ask) -> None:
    fill(file_url, [call("1", UsageRow(1, 1, cost_nanousd=1), calls="=9", line="b", slot="x")])
    done = report(file_url, *NOVEMBER, "--by", "line,calls,slot", "--where", "slot=x", "--format", "csv")
    (group, total) = csv.DictReader(io.StringIO(done.out))
    assert (group["label:line"], group["label:calls"], group["slot"], total["calls"]) == ("b", "'=9", "x", "1")


def test_labels_that_look_like_words_of_a_report_are_told_from_them(file_url: str, report: Ask) -> None:
    teams = ["(none)", "", "(others)", "(total)", " x", '"y']
    fill(file_url, [call(f"{n}", UsageRow(1, 1, cost_nanousd=9 - n), team=team) for n, team in enumerate(teams)])
    told = csv.DictReader(io.StringIO(report(file_url, *NOVEMBER, "--format", "csv", "--top", "5").out))
    assert [one["team"] for one in told] == [
        '"(none)"', "(none)", '"(others)"', '"(total)"', '" x"', "(others)", "(total)"
    ]  # fmt: skip
    done = report(file_url, *NOVEMBER, "--team", "(none)", "--format", "json", "--verify")
    assert [one["group"]["team"] for one in json.loads(done.out)["groups"]] == ["(none)", None]
    assert (done.code, done.err) == (0, "verified: 2 rows, $0.000000017\n")


def test_what_an_encoding_has_not_is_told_by_its_number(file_url: str, tmp_path: Path) -> None:
    fill(file_url, [call("1", UsageRow(1, 1, cost_nanousd=1), team="\u8868", agent="\xe9")])
    named = ("--ledger", file_url, "--namespace", NAMESPACE, *NOVEMBER, "--by", "team", "--format", "csv")
    done = started(tmp_path, "report", *named, PYTHONIOENCODING="latin-1")
    assert (done.code, done.out.splitlines()[1][:13]) == (0, "group,\\u8868,"), done.err


def test_the_axis_of_a_chart_has_room_for_its_dollars(file_url: str, report: Ask) -> None:
    fill(file_url, [call(f"{n}", UsageRow(1, 1, cost_nanousd=2**53 - 1), team="a") for n in range(2)])
    page = report(file_url, *NOVEMBER, "--format", "html").out
    ticks = re.findall(r'class="axis" text-anchor="end">([^<]*)', page)
    assert ticks == ["$0", "$5M", "$10M", "$15M", "$20M"] * 2, "for wide screens and for narrow ones"
    assert "$18,014,398.51" in page and "Exactly $18014398.509481982" in page


def test_a_report_goes_into_a_file(file_url: str, report: Ask, tmp_path: Path) -> None:
    fill(file_url, BY_HAND)
    done = report(file_url, *NOVEMBER, "--by", "team,agent", "-o", "report.txt")
    assert (done.out, done.err) == ("", "written to report.txt\n")
    assert (tmp_path / "report.txt").read_text(encoding="utf-8") == TABLE, "as wide as it is, and without colours"


@pytest.mark.parametrize("columns", [120, 80, 40])
def test_a_terminal_gets_what_it_has_room_for(columns: int, file_url: str, tmp_path: Path) -> None:
    fill(file_url, BY_HAND)
    terminal, code = shown(
        tmp_path, "report", "--ledger", file_url, "--namespace", NAMESPACE, *NOVEMBER, "--by", "team,agent",
        columns=columns,
    )  # fmt: skip
    assert code == 0
    lines = terminal.text.splitlines()
    assert max(map(len, lines)) <= columns
    assert ("██████████ \n" in terminal.text and "███▍" in terminal.text) == (columns == 120)
    assert ("output tokens" in terminal.text) == (columns != 80)
    assert ("team: (total)\nagent: \ncalls: 5" in terminal.text) == (columns == 40)
    if columns > 40:
        last = next(place for place, line in enumerate(lines) if line.startswith("(total)"))
        assert set(lines[last - 1].strip()) == {"─"} and re.search(r"\x1b\[1m\(total\)", terminal.raw)


def test_hostile_labels_stay_text_in_every_form(file_url: str, report: Ask) -> None:
    fill(file_url, hostile_rows())
    known = {escaped(label) for label in HOSTILE}
    told = report(file_url, *NOVEMBER, "--by", "team,agent", "--format", "json").out
    assert {one["group"]["team"] for one in json.loads(told)["groups"]} == set(HOSTILE), "JSON says it as it is"
    for form in ("table", "csv", "markdown"):
        out = report(file_url, *NOVEMBER, "--by", "team,agent", "--format", form).out
        assert all(character.isprintable() or character == "\n" for character in out)
        if form == "csv":
            cells = {one["team"] for one in csv.DictReader(io.StringIO(out))} - {"(total)"}
            assert not any(cell.startswith(("=", "+", "-", "@", "\t")) for cell in cells)
            assert {cell.removeprefix("'") for cell in cells} == known
        if form == "markdown":
            cells = {cell.strip() for line in out.splitlines() for cell in re.split(r"(?<!\\)\|", line)}
            assert {re.sub(SIGN, r"\1", cell) for cell in cells} >= known
            bare = re.sub(SIGN, "", out)
            assert not re.search(r"[<>`\[\]~{}]|https?://|www\.|@\w|#\d|\$\w", bare)
