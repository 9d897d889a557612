"""What the tests of chargebacks share: the calls of a month, a policy, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cli_kit import Ended, command
from drain_kit import NAMESPACE, row
from store_kit import instant_ms

from budgetguard.core.amounts import Amounts
from budgetguard.core.model import CallInfo, UsageRow
from budgetguard.core.verbs import Row
from budgetguard.ledger import open_ledger
from budgetguard.ledger.refusals import Flush
from budgetguard.store import RefusalCount, RefusedBy

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
