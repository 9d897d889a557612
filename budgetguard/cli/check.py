"""`budgetguard check`: is the policy right, what does it say, and what would it start at zero?"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from budgetguard.cli.options import ConfigOption, Format, FormatOption, StoreOption
from budgetguard.cli.output import Column, Record, amount_fields, emit, labels_text, note
from budgetguard.cli.sources import policy_of, policy_path, shown_store, store_url
from budgetguard.core.grammar import format_limit
from budgetguard.errors import ConfigError, StoreError
from budgetguard.policy import Budget, Policy, changes
from budgetguard.refusal import escaped
from budgetguard.setup import env_labels

if TYPE_CHECKING:
    from budgetguard.core.model import Limit

KEYS = (
    "budget", "where", "per", "unit", "limit", "limit_usd", "period", "timezone", "on_exceed", "max_delay_ms",
    "alert_at",
)  # fmt: skip
COLUMNS = (
    Column("budget", lambda record: escaped(record["budget"])),
    Column("calls", lambda record: labels_text(record["where"]) or "all"),
    Column("per", lambda record: escaped(", ".join(record["per"])) or "-"),
    Column("limit", lambda record: record["text"], right=True),
    Column("when exceeded", lambda record: _on_exceed(record)),
    Column("timezone", lambda record: record["timezone"] or "-", extra=True),
    Column(
        "alerts at", lambda record: ", ".join(f"{share * 100:g} %" for share in record["alert_at"]) or "-", extra=True
    ),
)


def check(
    config: ConfigOption = None,
    store: StoreOption = None,
    format: FormatOption = "table",
    against: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The policy until now. [default: what stands in the store]")
    ] = None,
) -> None:
    """Say what the policy says, or what is wrong with it.

    Also what a change of it would start at zero. Exit code 1 if it is wrong.
    """
    path = policy_path(config)
    if not path.is_file():
        policy_of(config, store)  # says what is wrong with the path itself
    store_url(store)
    before = None if against is None else _policy_until_now(against)
    try:
        policy = policy_of(config, store)
        env_labels(policy)
        resets = _against_store(policy) if before is None else changes(before, policy)
    except ConfigError as error:
        if format == "json":
            typer.echo(json.dumps({"file": str(path), "valid": False, "faults": error.faults}, indent=2))
        else:
            note(str(error))
        raise typer.Exit(1) from None
    _show(format, path, policy, resets)
    if not policy.budgets:
        note("no budgets: nothing is held")


def _policy_until_now(path: Path) -> Policy:
    from budgetguard.policy_file import load_policy

    return load_policy(path, os.environ)


def _against_store(policy: Policy) -> list[str]:
    """What the policy would start at zero or no longer count, by the accounts that stand in its store.

    Raises:
        ConfigError: there is no such kind of store.
    """
    from budgetguard.cli.standing import resets

    try:
        return asyncio.run(resets(policy))
    except StoreError as error:
        note(f"the store was not looked at, so nothing is said of what would start at zero: {error}")
        return []


def _show(format: Format, path: Path, policy: Policy, resets: list[str]) -> None:
    records = [_record(budget, limit) for budget in policy.budgets for limit in budget.parsed_limits(policy.timezone)]
    summary: dict[str, Any] = {
        "file": str(path), "valid": True, "mode": policy.mode, "timezone": policy.timezone,
        "store": shown_store(policy.store), "namespace": policy.store.namespace,
    }  # fmt: skip
    if format == "json":
        limits = [{key: record[key] for key in KEYS} for record in records]
        typer.echo(json.dumps(summary | {"limits": limits, "resets": resets}, indent=2))
    elif format == "csv":
        emit(format, records, KEYS, COLUMNS)
        note("\n".join(resets))
    else:
        typer.echo(
            f"{escaped(str(path))} is valid: {len(policy.budgets)} budgets, {len(records)} limits; mode {policy.mode}; "
            f"store {escaped(summary['store'])}, namespace {policy.store.namespace}\n"
        )
        if records:
            emit(format, records, KEYS, COLUMNS)
        if resets:
            typer.echo("\n" + "\n".join(map(escaped, resets)))


def _record(budget: Budget, limit: Limit) -> Record:
    return {
        "budget": budget.name,
        "where": dict(budget.where),
        "per": list(budget.per),
        "unit": limit.unit,
        **amount_fields("limit", limit.unit, limit.amount),
        "period": limit.period.label,
        "timezone": limit.period.zone if limit.period.kind == "calendar" else None,
        "on_exceed": budget.on_exceed,
        "max_delay_ms": budget.max_delay_ms if budget.on_exceed == "delay" else None,
        "alert_at": list(budget.alert_at),
        "text": format_limit(limit),
    }


def _on_exceed(record: Record) -> str:
    delay_ms = record["max_delay_ms"]
    return str(record["on_exceed"]) if delay_ms is None else f"delay, up to {delay_ms / 1000:g} s"


def _percents(shares: list[float]) -> str:
    return ", ".join(f"{share * 100:g} %" for share in shares) or "-"
