"""`report --verify`, and reports by local time: days on which clocks are changed, ends of months."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest
from cli_kit import command
from drain_kit import NAMESPACE, row
from report_kit import fill, generated
from store_kit import DAY_MS, NOON_MS, instant_ms

from budgetguard.core.model import CallInfo, UsageRow
from budgetguard.ledger.books import open_book
from budgetguard.ledger.reading import Stretch
from budgetguard.ledger.sums import SLOT_MS, Sum
from budgetguard.ledger.table import WRITE_ROW, ledger_row
from budgetguard.reports.asking import Question, Report, answer
from budgetguard.reports.over_time import timeline
from budgetguard.reports.verifying import verify


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres").url)
    return f"sqlite:///{tmp_path / 'l.db'}"


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'l.db'}"


def call_at(at_ms: int) -> Any:
    return row(f"r{at_ms}", info=CallInfo({"team": "t"}), usage=UsageRow(1, 0, cost_nanousd=1), timestamp_ms=at_ms)


def counted(url: str, by: str, zone: str, since: str, until: str) -> dict[str, int]:
    """The calls of each group, in the order of the report, which is verified."""
    book = open_book(url)
    question = Question(Stretch(NAMESPACE, instant_ms(since), instant_ms(until)), (by,), {}, zone)
    with book.standing():
        found = answer(book, question)
        assert verify(book, found).differences == []
    book.close()
    return {one.group[0]: one.calls for one in found.groups}


@pytest.mark.parametrize(
    ("zone", "since", "until", "days"),
    [
        ("Europe/Berlin", "2026-03-28T23:00Z", "2026-03-30T22:00Z", {"2026-03-29": 23, "2026-03-30": 24}),
        ("Europe/Berlin", "2026-10-23T22:00Z", "2026-10-26T23:00Z",
         {"2026-10-24": 24, "2026-10-25": 25, "2026-10-26": 24}),
        ("America/New_York", "2026-03-08T05:00Z", "2026-03-10T04:00Z", {"2026-03-08": 23, "2026-03-09": 24}),
        ("America/New_York", "2026-10-31T04:00Z", "2026-11-02T05:00Z", {"2026-10-31": 24, "2026-11-01": 25}),
        ("Australia/Lord_Howe", "2026-04-03T13:00Z", "2026-04-05T13:30Z", {"2026-04-04": 24, "2026-04-05": 24.5}),
        ("Australia/Lord_Howe", "2026-10-03T13:30Z", "2026-10-05T13:00Z", {"2026-10-04": 23.5, "2026-10-05": 24}),
        ("Atlantic/Azores", "2026-10-24T00:00Z", "2026-10-26T01:00Z", {"2026-10-24": 24, "2026-10-25": 25}),
        ("Asia/Kathmandu", "2026-11-29T18:15Z", "2026-12-01T18:15Z", {"2026-11-30": 24, "2026-12-01": 24}),
    ],
)  # fmt: skip
def test_days_are_as_long_as_they_are_there(
    zone: str, since: str, until: str, days: Mapping[str, float], file_url: str
) -> None:
    """A call at the beginning and one at the end of each quarter of an hour; each day has eight for each hour of it."""
    slots = range(instant_ms(since), instant_ms(until), SLOT_MS)
    fill(file_url, [call_at(at_ms) for slot_ms in slots for at_ms in (slot_ms, slot_ms + SLOT_MS - 1)])
    found = counted(file_url, "day", zone, since, until)
    assert found == {day: 8 * hours for day, hours in days.items()} and list(found) == list(days)


@pytest.mark.parametrize(
    ("zone", "since", "until", "hours"),
    [
        ("Europe/Berlin", "2026-10-24T23:00Z", "2026-10-25T02:00Z",
         {"2026-10-25T01:00+02:00": 4, "2026-10-25T02:00+02:00": 4, "2026-10-25T02:00+01:00": 4}),
        ("America/New_York", "2026-03-08T06:00Z", "2026-03-08T08:00Z",
         {"2026-03-08T01:00-05:00": 4, "2026-03-08T03:00-04:00": 4}),
        ("Australia/Lord_Howe", "2026-04-04T14:00Z", "2026-04-04T16:30Z",
         {"2026-04-05T01:00+11:00": 4, "2026-04-05T01:30+10:30": 2, "2026-04-05T02:00+10:30": 4}),
    ],
)  # fmt: skip
def test_an_hour_that_comes_twice_is_two_in_their_order(
    zone: str, since: str, until: str, hours: dict[str, int], url: str
) -> None:
    fill(url, [call_at(at_ms) for at_ms in range(instant_ms(since), instant_ms(until), SLOT_MS)])
    found = counted(url, "hour", zone, since, until)
    assert list(found.items()) == list(hours.items())


@pytest.mark.parametrize(
    ("zone", "midnight"),
    [
        ("Europe/Berlin", "2026-10-31T23:00Z"),
        ("America/New_York", "2026-11-01T04:00Z"),
        ("Asia/Kathmandu", "2026-10-31T18:15Z"),
    ],
)
def test_a_month_ends_at_its_local_midnight(zone: str, midnight: str, url: str) -> None:
    at_ms = instant_ms(midnight)
    fill(url, [call_at(at_ms - 1), call_at(at_ms), call_at(at_ms + 1)])
    since, until = "2026-10-01T00:00Z", "2026-12-01T00:00Z"
    assert counted(url, "month", zone, since, until) == {"2026-10": 1, "2026-11": 2}
    assert counted(url, "day", zone, since, until) == {"2026-10-31": 1, "2026-11-01": 2}
    assert counted(url, "week", zone, since, until) == {"2026-W44": 3}


def test_dates_of_options_are_those_of_the_zone(file_url: str, tmp_path: Path) -> None:
    at_ms = instant_ms("2026-10-31T18:15Z")
    fill(file_url, [call_at(at_ms - 1), call_at(at_ms)])
    named = ("report", "--ledger", file_url, "--namespace", NAMESPACE, "--format", "csv", "--since", "2026-11-01")
    for zone, calls in (("Asia/Kathmandu", 1), ("UTC", 0), ("Asia/Tokyo", 2)):
        done = command(tmp_path, *named, "--until", "2026-12-01", "--timezone", zone)
        assert done.out.splitlines()[-1].startswith(f"total,(total),{calls},"), zone


def test_over_time_nothing_is_left_out_and_nothing_counts_twice(file_url: str) -> None:
    teams = [f"team-{number}" for number in range(12)]
    fill(
        file_url,
        [row(f"{team}{day}", info=CallInfo({"team": team}), usage=UsageRow(1, 1, cost_nanousd=number + 1),
             timestamp_ms=NOON_MS + day * DAY_MS) for number, team in enumerate(teams) for day in (0, 1, 5)],
    )  # fmt: skip
    book = open_book(file_url)
    report = answer(book, Question(Stretch(NAMESPACE), ("team", "agent")))
    found = timeline(book, report)
    assert (found.step, found.times[0], len(found.times)) == ("day", "2026-11-22", 6)
    assert found.heights == [78, 78, 0, 0, 0, 78]
    assert [one.name for one in found.series] == [*(f"team-{n}" for n in range(11, 4, -1)), "(others)"]
    book.close()


def test_a_report_of_many_rows_is_verified_from_each_of_them(url: str, tmp_path: Path) -> None:
    rows = list(generated(20_000 if url.startswith("sqlite") else 2_000))
    fill(url, rows)
    done = command(
        tmp_path, "report", "--ledger", url, "--namespace", NAMESPACE, "--since", "2026-10-01", "--verify",
        "--by", "team,agent,day", "--top", "2", "--timezone", "Europe/Berlin", "-o", "out",
    )  # fmt: skip
    live = [one for one in rows if one.status != "released"]
    nanousd = sum(one.usage.cost_nanousd or 0 for one in live)
    said = f"verified: {len(live):,} rows, ${nanousd // 10**9}.{nanousd % 10**9:09}\n"
    assert (done.code, done.err) == (0, f"written to out\n{said}")


@pytest.mark.long
def test_a_million_rows_are_verified(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    fill(f"sqlite:///{path}", list(generated(1_000)))
    db = apsw.Connection(str(path))
    with db:  # the sums of hours are not what is asked here, and take most of the writing
        for trigger in ("added", "changed", "dropped"):
            db.execute(f"DROP TRIGGER usage_rollups_{trigger}")
        db.executemany(WRITE_ROW, (ledger_row(NAMESPACE, one) for one in generated(1_000_000)))
    db.close()
    since = time.monotonic()
    done = command(
        tmp_path, "report", "--ledger", f"sqlite:///{path}", "--namespace", NAMESPACE, "--since", "2026-10-01",
        "--by", "team,agent,day", "--verify", "-o", "out",
    )  # fmt: skip
    print(f"\n{time.monotonic() - since:.1f} s: {done.err}")
    assert done.code == 0 and "verified: 95" in done.err


def test_a_ledger_that_does_not_add_up_fails_and_says_where(tmp_path: Path, file_url: str) -> None:
    fill(file_url, list(generated(50)))
    path = tmp_path / "l.db"
    with apsw.Connection(str(path)) as db:
        ((team, agent),) = db.execute("SELECT team, agent FROM token_usage WHERE reservation_id = 'r1'").fetchall()
        db.execute("DROP TRIGGER usage_rollups_changed")
        db.execute("UPDATE token_usage SET prompt_tokens = prompt_tokens + 0.5 WHERE reservation_id = 'r1'")
    done = command(
        tmp_path, "report", "--ledger", file_url, "--namespace", NAMESPACE, "--since", "2026-10-01", "--by",
        "team,agent", "--verify",
    )  # fmt: skip
    assert done.code == 1
    first, *differences = done.err.splitlines()
    assert first.startswith("NOT verified: the report differs from ")
    assert len(differences) == 2 and differences[0].startswith(f"  {team}, {agent}: prompt_tokens is ")
    assert differences[1].startswith("  the total: prompt_tokens is ") and differences[1].endswith(".5 by the rows")


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda groups, total: (groups[1:], total),
        lambda groups, total: ([*groups, Sum(("ghost",), calls=1)], total),
        lambda groups, total: ([*groups[:-1], Sum(groups[-1].group)], total),
        lambda groups, total: (groups, Sum((), calls=total.calls)),
    ],
)
def test_whatever_is_wrong_with_a_report_is_found(
    spoilt: Callable[[Sequence[Sum], Sum], tuple[list[Sum], Sum]], file_url: str
) -> None:
    fill(file_url, list(generated(50)))
    book = open_book(file_url)
    report = answer(book, Question(Stretch(NAMESPACE), ("team",)))
    assert verify(book, report).differences == []
    groups, total = spoilt(report.groups, report.total)
    assert verify(book, Report(report.question, groups, total)).differences != []
    book.close()
