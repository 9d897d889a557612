"""A report as JSON: numbers are whole, dollars also exact decimals as texts."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from budgetguard.core.periods import zone_of
from budgetguard.ledger.reading import FIRST_MS, LAST_MS
from budgetguard.reports.asking import Report
from budgetguard.reports.lines import AMOUNTS, Line, amount_of, lines


def json_text(report: Report) -> str:
    """`groups`, each with its labels under `group` (null where calls have none), the `others` (null if there are none),
    the `total`, and what was asked.
    """
    question = report.question
    found = list(lines(report))
    asked = {
        "namespace": question.stretch.namespace,
        "since": _instant(question.stretch.since_ms, question.zone),
        "until": _instant(question.stretch.until_ms, question.zone),
        "timezone": question.zone,
        "by": list(report.by),
        "where": dict(question.where),
    }
    groups = [
        {
            "group": {name: value or None for name, value in zip(report.by, line.sum.group, strict=True)},
            **_amounts(line),
        }
        for line in found
        if line.kind == "group"
    ]
    others = [{"groups": report.hidden, **_amounts(line)} for line in found if line.kind == "others"]
    whole = {**asked, "groups": groups, "others": others[0] if others else None, "total": _amounts(found[-1])}
    return json.dumps(whole, indent=2) + "\n"


def _amounts(line: Line) -> dict[str, Any]:
    return {amount: amount_of(line.sum, amount) for amount in AMOUNTS}


def _instant(at_ms: int, zone: str) -> str | None:
    """None where nothing bounds the stretch."""
    if at_ms in (FIRST_MS, LAST_MS):
        return None
    exact = "milliseconds" if at_ms % 1000 else "seconds"
    return datetime.fromtimestamp(at_ms / 1000, zone_of(zone)).isoformat(timespec=exact)
