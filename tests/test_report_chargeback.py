"""`report chargeback`: what each team is charged for a month, in every form, open and closed."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from cli_kit import Ended, command, shown
from drain_kit import NAMESPACE, row
from store_kit import instant_ms, rows

from budgetguard.core.amounts import Amounts
from budgetguard.core.model import CallInfo, UsageRow
from budgetguard.core.verbs import Row
from budgetguard.ledger import open_ledger
from budgetguard.ledger.refusals import Flush
from budgetguard.policy_file import parse_policy
from budgetguard.reports.chargeback import month_budgets
from budgetguard.reports.focus import COLUMNS
from budgetguard.store import RefusalCount, RefusedBy
from budgetguard.stores.sqlite import SQLiteStore

HOSTILE = (
    "=1+1", "-2", "+3", "@SUM(A1)", "\t=1", "\r=1", "<script>alert(1)</script><img src=x onerror=alert(2)>", "-->]]>",
    "a|b`c`**d**[e](http://evil.example/)\\", "\x1b[31mred\x07\u202eevil", "x" * 512, "\"'&amp;&lt;<b>", "{{7*7}} _u_",
    "line\nbreak\r\n\u2028more", "\x7f\x9b31m", "wide \u8868 \u00e9", "(unallocated)", "(total)",
)  # fmt: skip
POLICY = """
timezone = "Europe/Berlin"
[[owner]]
team = "search"
cost_center = "4711"
[[owner]]
team = "idle"
cost_center = "4712"
[[budget]]
name = "search-team"
where = { team = "search" }
limits = ["$2/month", "$1/day", "5M tokens/month"]
[[budget]]
name = "s-teams"
where = { team = "s*" }
limits = ["$20/month"]
[[budget]]
name = "team-agents"
per = ["agent", "team"]
limits = ["$300/month"]
[[budget]]
name = "all"
limits = ["$1000/month"]
"""
STORE = f"""
[store]
url = "sqlite:///s.db"
namespace = "{NAMESPACE}"
"""


def call(id: str, at: str, team: str, agent: str, model: str, cost_nanousd: int | None, **changed: Any) -> Row:
    labels = {name: value for name, value in {"team": team, "agent": agent, "model": model}.items() if value}
    usage = UsageRow(100, 10, cost_nanousd=cost_nanousd, source="reported")
    made = row(id, info=CallInfo({**labels, "provider": "p"}, "given", "h"), usage=usage, timestamp_ms=instant_ms(at))
    return made._replace(**changed)


OCTOBER = [
    call("1", "2025-10-01T00:00:00+02:00", "search", "crawler", "mini", 1_000_000_001),
    call("2", "2025-10-31T23:59:59.999+01:00", "search", "crawler", "mini", 500_000_000, status="late"),
    call("3", "2025-10-02T00:00:00+02:00", "search", "ranker", "big", 250_000_000, status="assumed"),
    call("4", "2025-10-02T00:00:00+02:00", "ads", "", "mini", 3_000_000_000, status="expired"),
    call("5", "2025-10-02T00:00:00+02:00", "", "crawler", "", None),
    call("6", "2025-10-02T00:00:00+02:00", "ads", "x", "mini", 0, status="released", usage=UsageRow()),
    call("7", "2025-09-30T23:59:59.999+02:00", "search", "crawler", "mini", 9),
    call("8", "2025-11-01T00:00:00+01:00", "search", "crawler", "mini", 11),
]
REFUSED = RefusalCount(
    instant_ms("2025-10-03T10:00:00+00:00"), False, "budget", (RefusedBy("search-team", "usd", "month", "spent"),),
    {"team": "search", "agent": "crawler"}, 7, Amounts(usd=70_000_000),
)  # fmt: skip
LATE = [
    call("1", "2025-10-01T00:00:00+02:00", "search", "crawler", "mini", 1_000_000_000, revision=2),
    call("9", "2025-10-09T00:00:00+02:00", "", "", "mini", 5),
]


@pytest.fixture(params=["sqlite", "postgres"])
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres").url)
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.db'}"


def fill(folder: Path, url: str, *made: Row | Flush, policy: str = POLICY) -> None:
    (folder / "budgetguard.toml").write_text(policy, encoding="utf-8")
    ledger = open_ledger(url)
    ledger.write([(NAMESPACE, one) for one in made])
    ledger.close()


def chargeback(folder: Path, url: str, month: str, *more: str, **env: str) -> Ended:
    where = ("--ledger", url, "--namespace", NAMESPACE, "--month", month)
    return command(folder, "report", "chargeback", *where, *more, **env)


def told(done: Ended) -> dict[str, Any]:
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert isinstance(found, dict)
    return found


def lines_of(team: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (line["agent"], line["model"], line["adjusts"], line["calls"], line["cost_nanousd"]) for line in team["lines"]
    ]


def test_a_month_is_what_was_added_up_by_hand(any_url: str, tmp_path: Path) -> None:
    fill(tmp_path, any_url, *OCTOBER, Flush("f", (REFUSED, REFUSED._replace(shadow=True, calls=100))))
    done = chargeback(tmp_path, any_url, "2025-10", "--format", "json", "--verify")
    found = told(done)
    assert done.err == "verified: 5 rows, $4.750000001\n"
    assert (found["since"], found["until"]) == ("2025-10-01T00:00:00+02:00", "2025-11-01T00:00:00+01:00")
    assert (found["closed_at"], found["timezone"]) == (None, "Europe/Berlin")
    assert [team["team"] for team in found["teams"]] == ["ads", "search", "idle", None], "none is the last"
    ads, search, idle, none = found["teams"]
    assert lines_of(search) == [
        ("crawler", "mini", None, 2, 1_500_000_001), ("ranker", "big", None, 1, 250_000_000)
    ]  # fmt: skip
    assert (search["cost_usd"], search["cost_center"], search["late_cost_nanousd"]) == (
        "1.750000001",
        "4711",
        500_000_000,
    )
    assert (search["assumed_cost_nanousd"], search["refused_calls"]) == (250_000_000, 7)
    assert search["refused_cost_nanousd"] == 70_000_000
    assert search["budget_nanousd"] == 2_000_000_000
    assert [(one["budget"], one["limit_nanousd"], one["where"], one["per"]) for one in search["budgets"]] == [
        ("search-team", 2_000_000_000, {"team": "search"}, []), ("s-teams", 20_000_000_000, {"team": "s*"}, []),
        ("team-agents", 300_000_000_000, {}, ["agent", "team"]),
    ]  # fmt: skip
    assert (lines_of(ads), ads["expired_cost_nanousd"]) == ([(None, "mini", None, 1, 3_000_000_000)], 3_000_000_000)
    assert (idle["cost_center"], idle["calls"], idle["lines"]) == ("4712", 0, [])
    assert (lines_of(none), none["unpriced_calls"]) == ([("crawler", None, None, 1, 0)], 1)
    assert (found["total"]["cost_usd"], found["total"]["calls"], found["total"]["refused_calls"]) == (
        "4.750000001",
        5,
        7,
    )


def test_what_was_closed_stays_with_its_facts_and_what_came_late_is_named_in_the_next(
    any_url: str, tmp_path: Path
) -> None:
    fill(tmp_path, any_url, *OCTOBER, Flush("f", (REFUSED,)))
    first = chargeback(tmp_path, any_url, "2025-10", "--close", "--format", "json")
    assert first.err == "2025-10 is closed from now on\n"
    frozen = told(first)
    late = Flush("g", (REFUSED,))
    fill(tmp_path, any_url, *LATE, late, policy='[[owner]]\nteam = "search"\ncost_center = "other"\n')
    again = chargeback(tmp_path, any_url, "2025-10", "--close", "--format", "json", "--verify")
    assert told(again) == frozen and frozen["teams"][1]["refused_calls"] == 7
    assert again.err.startswith(f"2025-10 was closed already, at {frozen['closed_at']}: this is what stands\nverified:")
    done = chargeback(tmp_path, any_url, "2025-11", "--format", "json", "--verify")
    found = told(done)
    search, none = found["teams"]
    assert lines_of(search) == [("crawler", "mini", None, 1, 11), ("crawler", "mini", "2025-10", 0, -1)]
    assert lines_of(none) == [(None, "mini", "2025-10", 1, 5)]
    assert (search["cost_usd"], found["total"]["cost_usd"]) == ("0.000000010", "0.000000015")
    assert found["since"] == "2025-10-31T23:00:00+00:00", "where October ended, though the policy is in UTC now"
    assert found["until"] == "2025-12-01T00:00:00+00:00"
    assert "verified: 7 rows, $4.750000016" in done.err, "October's and November's"
    out = chargeback(tmp_path, any_url, "2025-11").out
    assert "adjusts 2025-10" in out and " >-$0.0001 " in out


def test_what_does_not_bill_the_rows_is_not_verified(url: str, tmp_path: Path) -> None:
    fill(tmp_path, url, *OCTOBER)
    chargeback(tmp_path, url, "2025-10", "--close")
    for month in ("2025-10", "2025-11"):
        assert chargeback(tmp_path, url, month, "--verify").code == 0
    rows(tmp_path / "ledger.db", "UPDATE billed_lines SET month = '2025-13' WHERE team = 'ads'")  # told by no statement
    done = chargeback(tmp_path, url, "2025-10", "--verify")
    assert done.code == 1 and "NOT verified" in done.err
    assert "the total: cost_nanousd is 1750000001 in the report and 4750000001 by the rows" in done.err


def test_csv_adds_up_and_focus_says_the_same(url: str, tmp_path: Path) -> None:
    fill(tmp_path, url, *OCTOBER, Flush("f", (REFUSED,)))
    chargeback(tmp_path, url, "2025-10", "--close")
    fill(tmp_path, url, *LATE)
    found = list(csv.DictReader(io.StringIO(chargeback(tmp_path, url, "2025-11", "--format", "csv").out)))
    sums = {
        kind: sum(int(one["cost_nanousd"]) for one in found if one["line"] == kind)
        for kind in ("team", "usage", "adjustment", "total")
    }
    assert sums == {"team": 15, "usage": 11, "adjustment": 4, "total": 15}
    assert [(one["team"], one["line"], one["adjusts"]) for one in found if one["team"] != "idle"] == [
        ("search", "team", ""), ("search", "usage", ""), ("search", "adjustment", "2025-10"),
        ("(unallocated)", "team", ""), ("(unallocated)", "adjustment", "2025-10"), ("(total)", "total", ""),
    ]  # fmt: skip
    assert (found[0]["cost_center"], found[0]["budget_usd"], found[0]["refused_calls"]) == ("4711", "2.000000000", "0")
    for month, nanousd, count in (("2025-10", 4_750_000_001, 4), ("2025-11", 15, 3)):
        focus = list(csv.DictReader(io.StringIO(chargeback(tmp_path, url, month, "--format", "focus").out)))
        assert tuple(focus[0]) == COLUMNS
        for column in ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"):
            assert sum(int(one[column].replace(".", "")) for one in focus) == nanousd
        assert len(focus) == count
    own, correction, unallocated = focus
    assert own["ChargeClass"] == "" and own["BillingPeriodStart"] == own["ChargePeriodStart"] == "2025-10-31T23:00:00Z"
    assert (own["ChargePeriodEnd"], own["BillingCurrency"]) == ("2025-11-30T23:00:00Z", "USD")
    assert (own["SubAccountId"], own["ResourceId"], own["ResourceType"]) == ("search", "crawler", "Agent")
    assert (own["SkuId"], own["ProviderName"], own["ConsumedQuantity"], own["ConsumedUnit"]) == (
        "p/mini", "p", "110", "Tokens"
    )  # fmt: skip
    assert json.loads(own["Tags"]) == {"team": "search", "agent": "crawler", "cost_center": "4711"}
    assert (correction["ChargeClass"], correction["BilledCost"]) == ("Correction", "-0.000000001")
    assert correction["BillingPeriodStart"] == "2025-10-31T23:00:00Z" == correction["ChargePeriodEnd"]
    assert correction["ChargePeriodStart"] == "2025-09-30T22:00:00Z"
    assert (unallocated["SubAccountId"], unallocated["SubAccountType"], unallocated["Tags"]) == ("", "", "{}")
    for one in focus:
        assert (one["ServiceCategory"], one["ChargeCategory"]) == ("AI and Machine Learning", "Usage")
        assert all(one[name] for name in COLUMNS if name.endswith(("Cost", "ProviderName", "Currency", "IssuerName")))


def test_a_month_without_calls_has_its_unallocated_line_in_every_form(url: str, tmp_path: Path) -> None:
    fill(tmp_path, url, policy="")
    forms = {
        form: chargeback(tmp_path, url, "2025-10", "--format", form) for form in ("table", "csv", "markdown", "html")
    }
    for done in forms.values():
        assert done.code == 0 and "(unallocated)" in done.out and "(total)" in done.out
    assert told(chargeback(tmp_path, url, "2025-10", "--format", "json"))["teams"][0]["cost_usd"] == "0.000000000"
    lines = [" ".join(line.split()) for line in forms["table"].out.splitlines()]
    assert lines[3:] == ["(unallocated) 0 0 $0.0000", "(total) 0 0 $0.0000"]
    assert len(chargeback(tmp_path, url, "2025-10", "--format", "focus").out.splitlines()) == 1


def test_the_table_has_budget_and_cost_center_beside_the_team(url: str, tmp_path: Path) -> None:
    fill(tmp_path, url, *OCTOBER, Flush("f", (REFUSED,)))
    out = chargeback(tmp_path, url, "2025-10").out
    assert out.startswith("Chargeback 2025-10: prod (Europe/Berlin), open\n\nTeam ")
    (line,) = [one for one in out.splitlines() if one.startswith("search [4711]")]
    assert " ".join(line.split()) == (
        "search [4711] 3 330 $1.7500 $0.2500 $0.5000 $2.00 (87.5 %), $20.00 shared by s*, $300.00 per agent 7"
    )
    assert "Of it $3.2500 is assumed" in out and "7 calls refused, which had asked $0.0700." in out
    terminal, code = shown(
        tmp_path, "report", "chargeback", "--month", "2025-10", "--ledger", url, "--namespace", NAMESPACE, columns=80
    )
    assert code == 0 and "(87.5 %)" in terminal.text
    assert max(len(one.rstrip()) for one in terminal.text.splitlines() if "Of it" not in one) <= 80


class Seen(HTMLParser):
    """The elements of a page, and their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def hostile() -> Iterator[Row]:
    for number, text in enumerate(HOSTILE):
        yield call(f"h{number}", "2025-10-02T00:00:00+02:00", text, text, text, 1)


def test_hostile_labels_stay_text_in_every_form(url: str, tmp_path: Path) -> None:
    texts = [one.info.labels["team"] for one in hostile()]
    owners = "".join(f"[[owner]]\nteam = {json.dumps(text)}\ncost_center = {json.dumps(text)}\n" for text in texts[:1])
    fill(tmp_path, url, *hostile(), policy=owners)
    out = {
        form: chargeback(tmp_path, url, "2025-10", "--format", form).out
        for form in ("table", "csv", "json", "markdown", "html", "focus")
    }
    for form, text in out.items():
        bad = {c for c in text if not c.isprintable() and c != "\n"}
        assert not bad and "\u202e" not in text, (form, bad)
    assert {team["team"] for team in json.loads(out["json"])["teams"]} == {*texts, None}
    for form in ("csv", "focus"):
        cells = [cell for line in csv.reader(io.StringIO(out[form])) for cell in line]
        starts = [c for c in cells if c.startswith(("=", "+", "-", "@", "\t", "\r"))]
        assert starts == [], (form, starts)
    tags = [json.loads(one["Tags"])["team"] for one in csv.DictReader(io.StringIO(out["focus"]))]
    assert set(tags) == set(texts), "as they are"
    seen = Seen(out["html"])
    assert not seen.tags & {"script", "img", "b", "iframe", "a"} and not {
        n for n in seen.attributes if n.startswith("on")
    }
    assert "<script" not in out["markdown"].replace("\\<", "") and "default-src 'none'" in out["html"]
    named = [one["team"] for one in csv.DictReader(io.StringIO(out["csv"])) if one["line"] == "team"]
    assert named.count("(unallocated)") == 1 and '"(unallocated)"' in named and '"(total)"' in named


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ("--month", "2999-01", "--close"),
            "--close: 2999-01 has not ended: its statement can be closed from 2999-02-01",
        ),
        (("--month", "2025-13"), "--month: expected a month such as 2026-11, not '2025-13'"),
        (("--month", "november", "--close"), "expected a month such as 2026-11"),
        (("--month", "2025-10", "--timezone", "Europe/Belrin"), "did you mean Europe/Berlin?"),
        ((), "Missing option '--month'"),
    ],
)
def test_what_cannot_be_told_is_said_and_freezes_nothing(
    url: str, tmp_path: Path, more: tuple[str, ...], said: str
) -> None:
    fill(tmp_path, url, *OCTOBER)
    done = command(tmp_path, "report", "chargeback", "--ledger", url, *more)
    assert (done.code, done.out, said in done.err) == (2, "", True), done.err
    assert rows(tmp_path / "ledger.db", "SELECT count(*) FROM closings") == [(0,)]


def test_a_month_of_a_stores_own_ledger_can_be_closed_and_no_ledger_is_made(tmp_path: Path) -> None:
    done = command(tmp_path, "report", "chargeback", "--month", "2025-10", "--close", "--ledger", "sqlite:///none.db")
    assert (done.code, (tmp_path / "none.db").exists()) == (2, False)

    async def made() -> None:
        store = SQLiteStore(str(tmp_path / "s.db"), NAMESPACE)
        await store.open()
        await store.aclose()

    asyncio.run(made())
    fill(tmp_path, f"sqlite:///{tmp_path / 's.db'}", *OCTOBER, policy=POLICY + STORE)
    for said in ("is closed from now on", "was closed already"):
        done = command(tmp_path, "report", "chargeback", "--month", "2025-10", "--close")
        assert done.code == 0 and said in done.err and "$4.7500" in done.out
    assert rows(tmp_path / "s.db", "SELECT month, zone FROM closings") == [("2025-10", "Europe/Berlin")]


def test_budgets_of_a_team_are_those_that_speak_of_teams_and_may_count_it() -> None:
    policy = parse_policy(
        """
        [[budget]]
        name = "own"
        where = { team = "a" }
        limits = ["$5/month", "$1/day", "$9/rolling 30 days"]
        [[budget]]
        name = "each"
        per = ["team"]
        limits = ["$7/month"]
        [[budget]]
        name = "part"
        where = { team = "a", env = "prod" }
        limits = ["$3/month"]
        [[budget]]
        name = "fleet"
        limits = ["$99/month"]
        """,
        "b.toml", {}, Path(),
    )  # fmt: skip
    found = {team: [(one.name, one.whole) for one in month_budgets(policy, team)] for team in ("a", "b", "")}
    assert found == {"a": [("own", True), ("each", True), ("part", False)], "b": [("each", True)], "": [("each", True)]}
