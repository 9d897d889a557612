"""`budgetguard simulate` with several estimates: what each admits of what an oracle would, and what it overspends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from budgetguard.cli.output import Column, Record, amount_fields
from budgetguard.core.amounts import format_usd
from budgetguard.core.grammar import format_limit
from budgetguard.refusal import escaped

if TYPE_CHECKING:
    from budgetguard.simulation import LimitFigures, Report

ORACLE = "oracle"
KEYS = (
    "estimate", "budget", "unit", "period", "limit", "limit_usd", "admitted", "would_fit", "cut", "spent", "spent_usd",
    "of_oracle", "overspend", "overspend_usd", "overspend_of_limit",
)  # fmt: skip
COLUMNS = (
    Column("budget", lambda record: escaped(record["budget"])),
    Column("limit", lambda record: record["limit_text"]),
    Column("estimate", lambda record: record["estimate"]),
    Column("admitted", lambda record: f"{record['admitted']:,}", right=True),
    Column("would fit", lambda record: f"{record['would_fit']:,}", right=True),
    Column("cut", lambda record: f"{record['cut']:,}", right=True),
    Column("spent", lambda record: _amount(record), right=True),
    Column("of oracle's", lambda record: _share(record["of_oracle"]), right=True),
    Column("overspend", lambda record: _share(record["overspend_of_limit"]), right=True),
)


def compared(reports: Mapping[str, Report]) -> list[Record]:
    """A record for each limit and estimate. `admitted`, `would_fit` and `cut` are calls, of the whole policy.

    `of_oracle` is what was spent over what the oracle spent, None without one or where that is nothing.
    `overspend_of_limit` is the overspend over the limit, of all windows that admitted a call together.
    """
    oracle = reports.get(ORACLE)
    records = []
    for place in range(len(next(iter(reports.values())).limits)):
        most = None if oracle is None else oracle.limits[place].spent
        records += [_record(name, report, report.limits[place], most) for name, report in reports.items()]
    return records


def _record(name: str, report: Report, figures: LimitFigures, most: int | None) -> Record:
    limit = figures.limit
    room = limit.amount * figures.windows
    record: dict[str, Any] = {
        "estimate": name, "budget": figures.budget, "unit": limit.unit, "period": limit.period.label,
        "limit_text": format_limit(limit), "admitted": report.admitted, "would_fit": report.would_fit,
        "cut": report.cut, "of_oracle": round(figures.spent / most, 6) if most else None,
        "overspend_of_limit": round(figures.overspend / room, 6) if room else 0.0,
    }  # fmt: skip
    for key, amount in {"limit": limit.amount, "spent": figures.spent, "overspend": figures.overspend}.items():
        record |= amount_fields(key, limit.unit, amount)
    return record


def _share(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _amount(record: Record) -> str:
    return format_usd(record["spent"]) if record["unit"] == "usd" else f"{record['spent']:,}"
