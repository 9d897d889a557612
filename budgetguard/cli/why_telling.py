"""What `budgetguard why` prints: a few short tables for people, or all of it as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import typer

from budgetguard.cli.output import Column, Record, amount_fields, emit, labels_text, note, short_amount
from budgetguard.cli.why_finding import Found, Standing
from budgetguard.core.amounts import Unit, format_amount
from budgetguard.core.grammar import format_limit
from budgetguard.core.model import NO_LABEL, Limit
from budgetguard.core.periods import zone_of
from budgetguard.refusal import escaped, span

MOST_SHOWN = 10
"""Lines of a table; JSON has all."""
SPENDERS = (
    Column("agent", lambda record: escaped(record["agent"])),
    Column("model", lambda record: escaped(record["model"])),
    Column("calls", lambda record: f"{record['calls']:,}", right=True),
    Column("spent", lambda record: short_amount(record["unit"], record["spent"]), right=True),
    Column("share", lambda record: f"{record['percent']} %", right=True),
    Column("7-day mean", lambda record: short_amount(record["unit"], record["usual"]), right=True),
    Column("against it", lambda record: _times(record["spent"], record["usual"]), right=True, extra=True),
)
HOLDS = (
    Column("id", lambda record: escaped(record["id"])),
    Column("age", lambda record: span(record["age_ms"]), right=True),
    Column("host", lambda record: escaped(record["host"])),
    Column("holds", lambda record: short_amount(record["unit"], record["amount"]), right=True),
    Column("labels", lambda record: labels_text(record["labels"]) or "-", extra=True),
)
REFUSALS = (
    Column("team", lambda record: escaped(record["team"])),
    Column("agent", lambda record: escaped(record["agent"])),
    Column("reason", lambda record: escaped(record["reason"])),
    Column("calls", lambda record: f"{record['calls']:,}", right=True),
    Column("asked", lambda record: short_amount(record["unit"], record["asked"]), right=True),
    Column("last", lambda record: f"{span(record['ago_ms'])} ago", right=True, extra=True),
)
OTHERS = (
    Column("budget", lambda record: escaped(record["budget"])),
    Column("subject", lambda record: labels_text(record["subject"]) or "-"),
    Column("limit", lambda record: escaped(record["limit_text"])),
    Column("available", lambda record: short_amount(record["unit"], record["available"], down=True), right=True),
    Column("refused", lambda record: f"{record['refused_calls']:,}", right=True, extra=True),
    Column("resets", lambda record: record["resets"], right=True, extra=True),
)


def tell(found: Found, format: Literal["table", "json"]) -> None:
    """Print it; notes go to stderr."""
    if format == "json":
        typer.echo(json.dumps(_whole(found), indent=2))
        return
    if found.reservation is not None and found.reservation["state"] != "unknown":
        typer.echo(_reservation_text(found) + "\n")
    if found.binding is None:
        typer.echo("no budget has counted such calls")
    else:
        _tell_binding(found, found.binding)
    for text in found.notes:
        note(text)


def _tell_binding(found: Found, binding: Standing) -> None:
    typer.echo(_headline(binding))
    typer.echo(_figures(found, binding))
    whole = _whole(found)
    if found.stretch is not None and binding.account.unit != "concurrent":
        _section(f"spent {_since(found, binding)}, beside the mean of as long in the 7 days before",
                 whole["spenders"], SPENDERS, "nothing that the ledger knows of")  # fmt: skip
    _section("open holds on it, the oldest first", whole["holds"], HOLDS, "none")
    if found.stretch is not None:
        _section(
            "calls that it refused in the last 24 hours",
            whole["refusals"],
            REFUSALS,
            "none that guards have told of yet",
        )
    if len(whole["accounts"]) > 1:
        _section("the other limits of such calls, the tightest first", whole["accounts"][1:], OTHERS)


def _section(title: str, records: Sequence[Record], columns: Sequence[Column], empty: str = "") -> None:
    typer.echo(f"\n{title}:")
    emit("table", records[:MOST_SHOWN], (), columns, f"  {empty}")
    if len(records) > MOST_SHOWN:
        typer.echo(f"  and {len(records) - MOST_SHOWN:,} more (--format json has all)")


def _headline(one: Standing) -> str:
    limit = _limit_text(one)
    calls_are = f"calls {'are' if one.claim.enforced else 'would be'} refused"
    if not one.claim.limit:
        said = f"{limit} is a block: {calls_are}"
    elif one.available <= 0:
        filled = "spent" if one.spent >= one.claim.limit else "held by open calls"
        said = f"{limit} is {filled}: {calls_are}"
    elif one.refused:
        calls = f"{one.refused:,} call{'s' if one.refused > 1 else ''}"
        left = format_amount(one.account.unit, one.available)
        said = f"{limit} has {left} left, and has refused {calls} in the last 24 hours"
    else:
        said = f"nothing is full; the least room is left by {limit}"
    return f"{escaped(one.account.budget)}{_subject_text(one)}: {said}"


def _subject_text(one: Standing) -> str:
    return f" ({labels_text(one.account.subject)})" if one.account.per else ""


def _limit_text(one: Standing) -> str:
    return format_limit(Limit(one.claim.limit, one.account.unit, one.account.period))


def _figures(found: Found, one: Standing) -> str:
    def short(amount: int, down: bool = False) -> str:
        return short_amount(one.account.unit, amount, down)

    return (
        f"  limit {short(one.claim.limit)} = spent {short(one.spent)} + reserved {short(one.reserved)} "
        f"+ available {short(one.available, down=True)} | {_resets(found, one)}"
    )


def _resets(found: Found, one: Standing) -> str:
    account = one.account
    if not one.claim.limit:
        return "no window has any"
    if account.window_end_ms is not None:
        at = datetime.fromtimestamp(account.window_end_ms / 1000, zone_of(account.period.zone))
        return f"resets {at:%Y-%m-%d %H:%M %Z} (in {span(account.window_end_ms - found.now_ms)})"
    return {
        "rolling": f"each call leaves it {span(account.period.span_ms)} after its admission",
        "total": "never resets",
        "concurrent": "room comes when calls end",
    }[account.period.kind]


def _since(found: Found, one: Standing) -> str:
    if found.stretch is None or found.stretch.kind == "day":
        return "in the last 24 hours"
    if found.stretch.kind == "rolling":
        return f"in the last {span(one.account.period.span_ms)}"
    since = datetime.fromtimestamp(found.stretch.since_ms / 1000, zone_of(one.account.period.zone))
    return f"since {since:%Y-%m-%d %H:%M %Z}"


def _times(spent: int, usual: int) -> str:
    return f"{spent / usual:.1f} times" if usual else "new"


def _reservation_text(found: Found) -> str:
    known = found.reservation or {}
    id, state = escaped(str(known["id"])), known["state"]
    if state == "held":
        lease_ms = known["lease_end_ms"] - found.now_ms
        lease = f"ends in {span(lease_ms)}" if lease_ms > 0 else f"ended {span(-lease_ms)} ago"
        age = span(found.now_ms - known["made_ms"])
        return f"{id} was admitted and is open: {age} old, on {escaped(known['host'])}, its lease {lease}"
    cost = known["cost_nanousd"]
    paid = "at a cost that nobody knows" if cost is None else format_amount("usd", cost)
    return (
        f"{id} was admitted {str(known['timestamp'])[:19]} UTC and is {escaped(state)}: "
        f"{known['total_tokens']:,} tokens, {paid}"
    )


def _whole(found: Found) -> dict[str, Any]:
    binding = found.binding
    unit: Unit = "tokens" if binding is None else binding.account.unit
    total = sum(one.spent for one in found.spenders)
    return {
        "at_ms": found.now_ms,
        "labels": dict(found.labels),
        "reservation": found.reservation,
        "accounts": [_account(one) for one in found.standings],
        "spent_since_ms": None if found.stretch is None else found.stretch.since_ms,
        "spenders": [
            {
                "agent": one.agent, "model": one.model, "calls": one.calls, "unit": unit, "spent": one.spent,
                "percent": 100 * one.spent // total if total else 0, "usual": one.usual,
            }
            for one in found.spenders
        ],
        "holds": [
            {
                "id": row.id, "labels": dict(row.labels), "host": row.host, "age_ms": row.now_ms - row.admitted_ms,
                "lease_left_ms": row.lease_end_ms - row.now_ms, "unit": unit, "amount": getattr(row.estimate, unit),
            }
            for row in found.holds
        ],
        "refusals": [
            {
                "team": one.group[0] or NO_LABEL, "agent": one.group[1] or NO_LABEL, "reason": one.group[2],
                "calls": one.calls, "unit": unit, "asked": one.asked.get(unit, 0), "last_ms": one.last_ms,
                "ago_ms": found.now_ms - one.last_ms,
            }
            for one in found.refusals
        ],
        "notes": found.notes,
    }  # fmt: skip


def _account(one: Standing) -> dict[str, Any]:
    account = one.account
    record: dict[str, Any] = {
        "budget": account.budget, "subject": account.subject, "unit": account.unit, "period": account.period.label,
        "limit_text": _limit_text(one), "enforced": one.claim.enforced,
    }  # fmt: skip
    amounts = {"limit": one.claim.limit, "spent": one.spent, "reserved": one.reserved, "available": one.available}
    for key, amount in amounts.items():
        record |= amount_fields(key, account.unit, amount)
    end_ms = account.window_end_ms
    at = None if end_ms is None else datetime.fromtimestamp(end_ms / 1000, zone_of(account.period.zone))
    return record | {
        "refused_calls": one.refused, "last_refused_ms": one.last_refused_ms or None,
        "resets_at": None if at is None else at.isoformat(), "resets": "-" if at is None else f"{at:%m-%d %H:%M %Z}",
    }  # fmt: skip
