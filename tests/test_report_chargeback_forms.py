"""A chargeback in each form: they say the same, add up to the nano-dollar, and labels stay text."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from chargeback_kit import LATE, OCTOBER, REFUSED, call, chargeback, fill, told
from cli_kit import shown
from drain_kit import NAMESPACE

from budgetguard.core.verbs import Row
from budgetguard.ledger.refusals import Flush
from budgetguard.reports.focus import COLUMNS

HOSTILE = (
    "=1+1", "-2", "+3", "@SUM(A1)", "\t=1", "\r=1", "<script>alert(1)</script><img src=x onerror=alert(2)>", "-->]]>",
    "a|b`c`**d**[e](http://evil.example/)\\", "\x1b[31mred\x07\u202eevil", "x" * 512, "\"'&amp;&lt;<b>", "{{7*7}} _u_",
    "line\nbreak\r\n\u2028more", "\x7f\x9b31m", "wide \u8868 \u00e9", "(unallocated)", "(total)",
)  # fmt: skip


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.db'}"


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
    for month, nanousd, unpriced, count in (("2025-10", 4_750_000_001, 1, 4), ("2025-11", 15, 0, 3)):
        focus = list(csv.DictReader(io.StringIO(chargeback(tmp_path, url, month, "--format", "focus").out)))
        assert tuple(focus[0]) == COLUMNS
        for column in ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"):
            assert sum(int(one[column].replace(".", "")) for one in focus) == nanousd
        assert (len(focus), sum(int(one["x_UnpricedCalls"]) for one in focus)) == (count, unpriced)
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
    assert lines[2:] == ["Team Cost Calls Tokens", "(unallocated) $0.0000 0 0", "(total) $0.0000 0 0"]
    assert "| Team | Cost | Calls | Tokens |" in forms["markdown"].out, "what nobody has is left out"
    assert len(chargeback(tmp_path, url, "2025-10", "--format", "focus").out.splitlines()) == 1


def test_the_table_has_budget_and_cost_center_beside_the_team(url: str, tmp_path: Path) -> None:
    fill(tmp_path, url, *OCTOBER, Flush("f", (REFUSED,)))
    out = chargeback(tmp_path, url, "2025-10").out
    assert out.startswith("Chargeback 2025-10: prod (Europe/Berlin), open\n\nTeam ")
    (line,) = [one for one in out.splitlines() if one.startswith("search [4711]")]
    assert " ".join(line.split()) == ("search [4711] $1.7500 $2.00 (87.5 %) 3 330 $0.2500 $0.5000 7")
    (line,) = [one for one in out.splitlines() if one.startswith("(unallocated)")]
    assert " ".join(line.split()) == "(unallocated) $0.0000 1 110 1", "of one call nobody knows the price"
    others = "team-agents, $300.00 per agent; s-teams, $20.00 shared by s*."
    assert f"Month budgets of some calls, or of several teams: {others}" in out.splitlines()
    assert "Of it $3.2500 is assumed" in out and "7 calls refused, which had asked $0.0700." in out
    total = (
        "| **(total)** |  | **$4.7500** | **5** | **550** | **1** | **$3.2500** | **$0.5000** |  | **7 ($0.0700)** |"
    )
    assert total in chargeback(tmp_path, url, "2025-10", "--format", "markdown").out.replace("\\", "")
    terminal, code = shown(
        tmp_path, "report", "chargeback", "--month", "2025-10", "--ledger", url, "--namespace", NAMESPACE, columns=80
    )
    assert code == 0 and "(87.5 %)" in terminal.text
    assert max(len(one) for one in terminal.text.partition("(total)")[0].splitlines()) <= 80


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
    assert f"and {len(HOSTILE) - 12} more teams" in out["html"] and "As the ledger stood at" in out["html"]
    named = [one["team"] for one in csv.DictReader(io.StringIO(out["csv"])) if one["line"] == "team"]
    assert named.count("(unallocated)") == 1 and '"(unallocated)"' in named and '"(total)"' in named
