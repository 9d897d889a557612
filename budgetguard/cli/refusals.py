"""`budgetguard refusals`: how many calls were refused, whose, and by which limits."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from budgetguard.cli.ledger_books import LedgerOption, NamespaceOption
from budgetguard.cli.options import (
    AgentOption,
    ConfigOption,
    FormatOption,
    LabelOption,
    SessionOption,
    StoreOption,
    TaskOption,
    TeamOption,
    UserOption,
)
from budgetguard.cli.output import Column, Record, emit, note, usd_text
from budgetguard.cli.report_options import Asked
from budgetguard.cli.sources import label_globs
from budgetguard.cli.stretches import LastOption, SinceOption, TimezoneOption, UntilOption
from budgetguard.core.amounts import UNITS, format_amount
from budgetguard.core.model import NO_LABEL
from budgetguard.errors import ConfigError
from budgetguard.refusal import escaped

if TYPE_CHECKING:
    from budgetguard.ledger.refusal_sums import RefusalSum

LAST = "24h"
"""What is shown without --last, --since and --until."""
ASKED = {unit: "asked_cost_nanousd" if unit == "usd" else f"asked_{unit}" for unit in UNITS}
KEYS = ("calls", *ASKED.values(), "asked_cost_usd", "last")
EMPTY = "no call was refused"
EMPTY_SHADOW = "no call would have been refused"


def refusals(
    by: Annotated[
        str,
        typer.Option("--by", metavar="NAMES", help="Labels, model, budget, unit, period, reason, hour, day ..."),
    ] = "team,budget",
    last: LastOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    timezone: TimezoneOption = None,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Instead: calls that shadow budgets, or shadow mode, would have refused.")
    ] = False,
    team: TeamOption = None,
    agent: AgentOption = None,
    session: SessionOption = None,
    task: TaskOption = None,
    user: UserOption = None,
    label: LabelOption = [],  # noqa: B006 - typer copies it
    format: FormatOption = "table",
    ledger: LedgerOption = None,
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
    store: StoreOption = None,
) -> None:
    """Tell how many calls were refused, and what they asked: of the last 24 hours, by team and budget.

    A call that several limits refuse counts once in a group, and in the group of each. What no budget refused has its
    error as the reason (LabelRequired, PriceUnknown). Guards tell their refusals each minute: the last one may be
    missing yet.
    """
    globs = label_globs({"team": team, "agent": agent, "session": session, "task": task, "user": user}, label)
    anything = last is None and since is None and until is None
    asked = Asked(since, until, LAST if anything else last, timezone, globs, ledger, namespace, config, store)
    records = _found(asked, names := _names(by), shadow)
    emit(format, records, [*map(_key, names), *KEYS], _columns(names, shadow), EMPTY_SHADOW if shadow else EMPTY)
    if format == "table" and records and anything:
        note(f"of the last {LAST}; --last 7d shows more")


def _found(asked: Asked, names: list[str], shadow: bool) -> list[Record]:
    """The most often refused first; by times, in their order."""
    from budgetguard.reports.folding import TIMES, asked_of_book

    with asked.opened() as (book, stretch, zone):
        found = book.refusals(stretch, asked_of_book(names), asked.globs, shadow)
    times = not set(TIMES).isdisjoint(names)
    if times:
        found = _folded(found, names, zone)
    found.sort(key=lambda one: (0 if times else -one.calls, one.group))
    return [_record(names, one, ZoneInfo(zone)) for one in found]


def _folded(found: list[RefusalSum], names: list[str], zone: str) -> list[RefusalSum]:
    """Groups by labels and quarters of an hour, as groups by labels and the hours, days ... of a zone."""
    from budgetguard.ledger.refusal_sums import RefusalSum
    from budgetguard.ledger.sums import SLOT_MS
    from budgetguard.reports.folding import TIMES, LocalTimes

    times = {name: LocalTimes(name, zone) for name in names if name in TIMES}
    sums: dict[tuple[str, ...], RefusalSum] = {}
    for one in found:
        *labels, slot = one.group
        left = iter(labels)
        at_ms = int(slot) * SLOT_MS
        group = tuple(times[name].text(at_ms) if name in times else next(left) for name in names)
        sums.setdefault(group, RefusalSum(group)).add(one.calls, one.asked.items(), one.last_ms)
    return list(sums.values())


def _names(by: str) -> list[str]:
    names = [name.strip() for name in by.split(",")]
    if not all(names) or len({*names}) < len(names):
        raise ConfigError("--by", ["write names, each once, with a comma between: team,budget"])
    return names


def _key(name: str) -> str:
    """Under which a record has the value of a label."""
    return f"label_{name}" if name in (*KEYS, "last_ms") else name


def _record(names: list[str], found: RefusalSum, zone: ZoneInfo) -> Record:
    record: dict[str, Any] = {_key(name): value or None for name, value in zip(names, found.group, strict=True)}
    record |= {"calls": found.calls} | {key: found.asked.get(unit, 0) for unit, key in ASKED.items()}
    last = datetime.fromtimestamp(found.last_ms / 1000, zone)
    return record | {"asked_cost_usd": usd_text(found.asked.get("usd", 0)), "last": last.isoformat(timespec="minutes")}


def _columns(names: list[str], shadow: bool) -> list[Column]:
    return [
        *(Column(escaped(name), partial(_named, name)) for name in names),
        Column("would refuse" if shadow else "refused", lambda r: f"{r['calls']:,}", right=True),
        Column("asked", asked_text, right=True),
        Column("last", lambda r: str(r["last"])[:16].replace("T", " "), right=True, extra=True),
    ]


def _named(name: str, record: Record) -> str:
    missing = "-" if name in ("budget", "unit", "period", "reason") else NO_LABEL
    return escaped(record[_key(name)] or missing)


def asked_text(record: Record) -> str:
    """What was asked, in every unit of which something was."""
    amounts = [(unit, record[key]) for unit, key in ASKED.items() if record[key]]
    return ", ".join(format_amount(unit, amount) for unit, amount in amounts) or "-"
