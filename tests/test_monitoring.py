"""The alert rules and the dashboard that are shipped: against the metrics that exist, and in a real Prometheus."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cli_kit import CHECKOUT
from daemon_kit import wait_until
from guard_kit import ESTIMATE, MODEL, USAGE
from metrics_kit import Served
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_kit import MISSING, PrometheusServer, has_prometheus
from redis_kit import RedisServer

import budgetguard as bg
from budgetguard.core.model import Account
from budgetguard.core.periods import Period
from budgetguard.metrics import Prometheus
from budgetguard.metrics_accounts import MOST_ACCOUNTS, Standing, families
from budgetguard.store import AccountRow, Backlog

MONITORING = CHECKOUT / "budgetguard" / "monitoring"
RULES = MONITORING / "rules.yml"
RULES_TEST = CHECKOUT / "tests" / "data" / "monitoring" / "rules_test.yml"
needs_prometheus = pytest.mark.skipif(not has_prometheus(), reason=MISSING)
HOSTILE = 'x"} 1\nbudgetguard_calls_total{team="\\\x00\x1b[31m\u202e\'} 9'
POLICY = f"""
[store]
url = "STORE"
namespace = "NAMESPACE"
[[budget]]
name = "tiny"
where = {{ team = "tiny" }}
limits = ["2 requests/day", "$1/day", "5k tokens/day"]
[[budget]]
name = "trial"
limits = ["1 requests/day"]
on_exceed = "shadow"
[[budget]]
name = "each"
per = ["agent"]
limits = ["$5/day", "1M tokens/day", "9k requests/rolling 10 minutes"]
[[price]]
model = "{MODEL}"
usd_per_mtok = {{ input = "1", output = "2" }}
"""


def dashboard() -> Any:
    return json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))


def dashboard_expressions() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]


def metrics_that_exist() -> dict[str, set[str]]:
    """The name of every metric as Prometheus stores it, with the labels that it can have."""
    registry = CollectorRegistry()
    Prometheus(registry=registry)
    found: dict[str, set[str]] = {}
    for metric in registry._collector_to_names:
        name, labels = metric._name, set(metric._labelnames)  # type: ignore[attr-defined]
        if metric._type == "histogram":  # type: ignore[attr-defined]
            found |= {f"{name}_sum": labels, f"{name}_count": labels, f"{name}_bucket": {*labels, "le"}}
        else:
            found[name + ("_total" if metric._type == "counter" else "")] = labels  # type: ignore[attr-defined]
    row = AccountRow(Account("b", (("team", "x"), ("agent", "y")), "usd", Period("total")), 1, 1, 1)
    for family in families(Standing([(row, 9)], Backlog(1, 9))):
        found.setdefault(family.name, set()).update(*[sample.labels for sample in family.samples])
    return found


def faults_of(expression: str) -> list[str]:
    """The metrics and labels of an expression that do not exist."""
    known = metrics_that_exist()
    usual = {"job", "instance", "team", "agent", "budget", "unit", "period"}
    faults = []
    for name, matchers in re.findall(r"(budgetguard_\w+)(?:\{([^}]*)\})?", expression):
        if name not in known:
            faults.append(f"no metric {name}")
            continue
        labels = known[name] or usual
        wanted = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        faults += [f"{name} has no label {label}" for label in wanted - {*labels, *usual, "le"}]
        by = [label for labels in re.findall(r"by \(([^)]*)\)", expression) for label in re.split(r",\s*", labels)]
        faults += [f"{name} cannot be summed by {label}" for label in by if label not in {*labels, "job", "le"}]
    return faults


def test_rules_and_dashboard_name_only_metrics_and_labels_that_exist() -> None:
    rules = RULES.read_text(encoding="utf-8")
    alerts = re.split(r"- alert: ", rules)[1:]
    assert len(alerts) == 15
    variables = [item["definition"] for item in dashboard()["templating"]["list"] if "definition" in item]
    for expression in [*alerts, *dashboard_expressions(), *variables]:
        assert re.search("budgetguard_", expression), expression
        assert faults_of(expression.split("annotations:")[0]) == [], expression


def test_every_metric_is_shown_by_the_dashboard() -> None:
    shown = " ".join(dashboard_expressions())
    parts = re.compile("_(sum|count|bucket)$")
    assert {name for name in metrics_that_exist() if parts.sub("", name) not in shown} == set()


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("rate(budgetguard_call_total[5m])", "no metric budgetguard_call_total"),
        ('budgetguard_tokens_total{kind="input"}', "budgetguard_tokens_total has no label kind"),
        ("sum by (reason) (budgetguard_tokens_total)", "budgetguard_tokens_total cannot be summed by reason"),
    ],
)
def test_the_check_sees_what_does_not_exist(expression: str, fault: str) -> None:
    assert faults_of(expression) == [fault]


def test_the_panels_lie_side_by_side_and_have_numbers_of_their_own() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for spot in (panel["gridPos"] for panel in panels)
        for x in range(spot["x"], spot["x"] + spot["w"])
        for y in range(spot["y"], spot["y"] + spot["h"])
    ]
    assert len(set(cells)) == len(cells) and max(x for x, _ in cells) == 23


def promtool(folder: Path, *args: str) -> None:
    done = subprocess.run(["promtool", *args], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_prometheus
def test_every_alert_fires_where_it_should_and_not_where_it_should_not(tmp_path: Path) -> None:
    for file in (RULES, RULES_TEST):
        shutil.copy(file, tmp_path)
    promtool(tmp_path, "check", "rules", "--lint-fatal", "rules.yml")
    promtool(tmp_path, "test", "rules", "rules_test.yml")
    alerts = set(re.findall(r"- alert: (\w+)", RULES.read_text(encoding="utf-8")))
    fires = re.findall(r"alertname: (\w+)\n *eval_time: \w+\n *exp_alerts:\n", RULES_TEST.read_text(encoding="utf-8"))
    assert set(fires) == alerts, "each alert has a test in which it fires"


async def spend(guard: bg.Guard) -> None:
    """Something of everything that the metrics tell."""
    for team in ("tiny", HOSTILE):
        await (await guard.reserve(team=team, model=MODEL, estimate=ESTIMATE)).settle(USAGE)
        await (await guard.reserve(team=team, model=MODEL, estimate=ESTIMATE)).settle(bg.Usage(900, 0, 300, 100))
    with pytest.raises(bg.BudgetExceeded):
        await guard.reserve(team="tiny", model=MODEL, estimate=ESTIMATE)
    await (await guard.reserve(model=MODEL, estimate=ESTIMATE)).settle()
    await (await guard.reserve(model=MODEL, estimate=ESTIMATE)).release()


async def many_agents(guard: bg.Guard) -> None:
    async def call(number: int) -> None:
        await (await guard.reserve(agent=f"a{number}", model=MODEL, estimate=ESTIMATE)).settle(USAGE)

    await asyncio.gather(*map(call, range(MOST_ACCOUNTS + 5)))


@pytest.fixture
def place(tmp_path: Path, redis_server: RedisServer, namespace: str, state_home: None) -> Path:
    text = POLICY.replace("STORE", redis_server.url).replace("NAMESPACE", namespace)
    (tmp_path / "budgetguard.toml").write_text(text, encoding="utf-8")
    return tmp_path


@needs_prometheus
def test_a_prometheus_scrapes_the_endpoints_evaluates_the_rules_and_answers_every_panel(place: Path) -> None:
    registry = CollectorRegistry()
    observer = Prometheus(registry=registry)
    worker, thread = start_http_server(0, "127.0.0.1", registry)
    served = Served(place)
    try:
        jobs = {"app": (worker.server_port, "1s"), "store": (served.port, "2s")}
        with PrometheusServer(jobs, RULES) as prometheus:
            asyncio.run(scraped_while_spending(place, observer, prometheus))
            hold_to_what_was_spent(prometheus)
    finally:
        served.end()
        worker.shutdown()
        thread.join()
        worker.server_close()


async def scraped_while_spending(place: Path, observer: Prometheus, prometheus: PrometheusServer) -> None:
    """Two rounds of calls, and a scrape between them: from the second on there are rates."""
    async with bg.Guard.from_toml(place / "budgetguard.toml", observers=[observer]) as guard:
        await spend(guard)
        wait_until(lambda: prometheus.query('budgetguard_calls_total{status="settled"}'), "the calls are scraped")
        await many_agents(guard)
        with pytest.raises(bg.BudgetExceeded):
            await guard.reserve(team="tiny", model=MODEL, estimate=ESTIMATE)
        await (await guard.reserve(model=MODEL, estimate=ESTIMATE)).release()
        await (await guard.reserve(model=MODEL, estimate=ESTIMATE)).settle(bg.Usage(900, 0))
    wait_until(lambda: sum(prometheus.query("budgetguard_accounts_left_out > 0").values()), "all is scraped")
    refused = 'rate(budgetguard_refusals_total{mode="enforce",budget="tiny"}[1m]) > 0'
    wait_until(lambda: prometheus.query(refused), "the rates are there")


def hold_to_what_was_spent(prometheus: PrometheusServer) -> None:
    tokens = shown(prometheus, 'sum by (type) (budgetguard_tokens_total{team=~"tiny"})')
    assert {dict(of)["type"]: amount for of, amount in tokens.items()} == {
        "input": 1_000, "output": 100, "cache_read": 300, "cache_write": 100
    }  # fmt: skip
    teams = shown(prometheus, "sum by (team) (budgetguard_calls_total)")
    assert {dict(of).get("team") for of in teams} == {"tiny", HOSTILE, None}
    (tiny,) = shown(prometheus, 'budgetguard_account_spent_requests{budget="tiny"}').values()
    assert tiny == 2
    wait_until(lambda: "BudgetguardBudgetSpent" in firing(prometheus), "the alert of the spent budget fires")
    groups = prometheus.ask("rules")["groups"]
    health = {rule["name"]: (rule["health"], rule.get("lastError", "")) for group in groups for rule in group["rules"]}
    assert len(health) == 15 and set(health.values()) == {("ok", "")}
    for expression in dashboard_expressions():
        for name, value in (("$job", ".*"), ("$team", ".*"), ("$__rate_interval", "1m"), ("$__range", "1m")):
            expression = expression.replace(name, value)
        shown(prometheus, expression)


def shown(prometheus: PrometheusServer, expression: str) -> Mapping[frozenset[tuple[str, str]], float]:
    """What an expression says as soon as it says something: on a busy machine a scrape may come too late."""
    found: Mapping[frozenset[tuple[str, str]], float] = wait_until(lambda: prometheus.query(expression), expression)
    return found


def firing(prometheus: PrometheusServer) -> dict[str, str]:
    """The alerts that fire, and the budget of each."""
    alerts = prometheus.ask("alerts")["alerts"]
    return {a["labels"]["alertname"]: a["labels"].get("budget", "") for a in alerts if a["state"] == "firing"}
