"""What is alerted, from which thresholds on, and where to: the tables `[alerts]` and `[[alert]]` of a policy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from budgetguard.alerts.causes import CAUSES
from budgetguard.core.amounts import shown
from budgetguard.errors import ConfigError
from budgetguard.policy_checks import (
    Check,
    a_count,
    a_flag,
    a_secret,
    is_number,
    key_path,
    label_values,
    one_of,
    quoted,
    table_faults,
)
from budgetguard.policy_settings import unknown_label

Kind = Literal["json", "slack", "teams"]
"""The shape of a webhook's body: our own, or that of Slack's incoming webhooks or Teams' Workflows."""
_URL = re.compile(r"https?://[^\s/?#]+[^\s]*", re.ASCII)
_MOST_SHARE = 1_000


@dataclass(frozen=True)
class AlertRoute:
    """A webhook that alerts go to.

    Args:
        url: where each alert is posted. Its path is a secret, and never shown.
        where: which alerts: every label must match its glob (as fnmatchcase); an alert without it does not. Nothing:
            all of them.
        kind: the shape of the body.
        secret: at least 16 bytes, with which each post is signed: the header `X-Budgetguard-Signature: t=<seconds
            since 1970>,v1=<hex>`, an HMAC-SHA256 over "<t>.<body>".
        causes: only these, of `budgetguard.alerts.causes.CAUSES`. Nothing: all of them.

    Raises:
        ConfigError: lists every fault by the field's path.
    """

    url: str = field(repr=False)
    where: Mapping[str, str] = field(default_factory=dict, hash=False)
    kind: Kind = "json"
    secret: str | None = field(default=None, repr=False)
    causes: Sequence[str] = ()

    def __post_init__(self) -> None:
        found = [f"alert.{fault}" for fault in route_faults(vars(self))]
        if found:
            raise ConfigError("alert", found)
        object.__setattr__(self, "where", dict(self.where))
        object.__setattr__(self, "causes", tuple(self.causes))

    def __str__(self) -> str:
        """For people: its kind and host, without what is secret."""
        host = re.split(r"[/?#]", self.url.partition("://")[2])[0].rpartition("@")[2]
        return f"{self.kind} {self.url.partition('://')[0]}://{host}"


@dataclass(frozen=True)
class AlertSettings:
    """From which thresholds on alerts are raised; False switches one off. Their rules: `budgetguard.alerts`.

    Args:
        burn_rate: accounts of which this share of the limit is spent, and that will be exhausted before their window
            ends (`burning`).
        request_tokens: a single request of more tokens (what is charged to one hold), or whose input alone is estimated
            at more.
        hourly_cost: what an agent cost in the last hour is more than so many 24ths of its daily budget (`spending`).
        task_tokens: a task's mean tokens per call this month are above last month's by this share (`spending`).
        error_share: of a model's calls of the last hour, as this process made them, more failed: ended in an error, or
            with nothing to charge.
        assumed_share: of the calls of the last hour, as this process made them, more were charged by guess.
        least_calls: fewer calls have no share and no mean.
        unknown_price: a model whose price nobody knows.
        outbox_rows: more ledger rows wait to be drained.
        drift: what is spent on an account is not what the ledger says of it (`drifting`).
        routes: where alerts go, beside the log: to each that matches.

    Raises:
        ConfigError: lists every fault by the field's path.
    """

    burn_rate: float | Literal[False] = 0.2
    request_tokens: int | Literal[False] = 8_000
    hourly_cost: float | Literal[False] = 1.0
    task_tokens: float | Literal[False] = 0.3
    error_share: float | Literal[False] = 0.2
    assumed_share: float | Literal[False] = 0.05
    least_calls: int = 20
    unknown_price: bool = True
    outbox_rows: int | Literal[False] = 100_000
    drift: bool = True
    routes: Sequence[AlertRoute] = ()

    def __post_init__(self) -> None:
        faults = [f"alerts.{fault}" for fault in _settings_faults(self)]
        if faults:
            raise ConfigError("alerts", faults)
        object.__setattr__(self, "routes", tuple(self.routes))


def _settings_faults(settings: AlertSettings) -> Iterator[str]:
    entry = dict(vars(settings))
    routes: Any = entry.pop("routes")
    yield from table_faults(entry, ALERT_CHECKS)
    if not isinstance(routes, (list, tuple)) or not all(isinstance(route, AlertRoute) for route in routes):
        yield f"routes must be a list of AlertRoute, not {shown(routes)}"


def route_faults(entry: Mapping[str, Any]) -> Iterator[str]:
    """Every fault of one `[[alert]]` table, each beginning with its key; without one, `AlertRoute(**entry)` is good."""
    yield from table_faults(entry, ROUTE_CHECKS, required=("url",))


def routes_faults(entries: Sequence[Any], names: Iterable[str]) -> Iterator[tuple[int, str]]:
    """The labels of routes that are none of `names`, so that no call could have them: the place, and the fault."""
    known = frozenset(names)
    for place, entry in enumerate(entries):
        where = entry.get("where") if isinstance(entry, Mapping) else None
        for name in where if isinstance(where, Mapping) else ():
            if name not in known:
                yield place, unknown_label(f"where.{key_path(name)}: {quoted(name)}", name, known)


def _off_or(check: Check) -> Check:
    """False, or what the check passes."""

    def either(path: str, value: Any) -> Iterator[str]:
        if value is not False:
            yield from (f"{fault} (or false: no such alert)" for fault in check(path, value))

    return either


def _a_share(path: str, value: Any) -> Iterator[str]:
    """A number above 0."""
    if not is_number(value) or not 0 < value <= _MOST_SHARE:
        yield f"{path} must be a number above 0 such as 0.3, and at most {_MOST_SHARE}, not {shown(value)}"


def _a_webhook(path: str, value: Any) -> Iterator[str]:
    """The URL of a webhook. Of a wrong one nothing is shown: it is a secret."""
    if not isinstance(value, str) or not _URL.fullmatch(value):
        yield f'{path} must be a URL such as "https://hooks.example.com/budgets" or "${{HOOK}}"'


def _causes(path: str, value: Any) -> Iterator[str]:
    """A list of causes."""
    if not isinstance(value, (list, tuple)):
        yield f'{path} must be a list of causes, such as ["burn_rate"], not {shown(value)}'
        return
    for number, cause in enumerate(value):
        yield from one_of(*CAUSES)(f"{path}[{number}]", cause)


ALERT_CHECKS: Mapping[str, Check] = {
    "burn_rate": _off_or(_a_share),
    "request_tokens": _off_or(a_count),
    "hourly_cost": _off_or(_a_share),
    "task_tokens": _off_or(_a_share),
    "error_share": _off_or(_a_share),
    "assumed_share": _off_or(_a_share),
    "least_calls": a_count,
    "unknown_price": a_flag,
    "outbox_rows": _off_or(a_count),
    "drift": a_flag,
}
ROUTE_CHECKS: Mapping[str, Check] = {
    "url": _a_webhook,
    "where": label_values,
    "kind": one_of(*get_args(Kind)),
    "secret": a_secret,
    "causes": _causes,
}
