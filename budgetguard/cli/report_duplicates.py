"""`budgetguard report duplicates`: prompts that were asked again and again, and what that cost."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from budgetguard.cli.ledger_books import LedgerOption, NamespaceOption
from budgetguard.cli.options import (
    AgentOption,
    ConfigOption,
    FormatOption,
    SessionOption,
    StoreOption,
    TaskOption,
    TeamOption,
    UserOption,
)
from budgetguard.cli.output import Column, amount_fields, emit, note, short_amount
from budgetguard.cli.report_options import Asked, WhereOption
from budgetguard.cli.sources import label_globs
from budgetguard.cli.stretches import LastOption, SinceOption, TimezoneOption, UntilOption
from budgetguard.core.amounts import format_usd
from budgetguard.core.periods import zone_of
from budgetguard.errors import ConfigError
from budgetguard.refusal import escaped

if TYPE_CHECKING:
    from budgetguard.ledger.repeats import Repeat, Repeats

KEYS = (
    "prompt_hash", "times", "first_at", "last_at", "agents", "tokens", "cost", "cost_usd", "again_tokens", "again",
    "again_usd", "again_unpriced_calls",
)  # fmt: skip
COLUMNS = (
    Column("prompt hash", lambda record: escaped(record["prompt_hash"])),
    Column("times", lambda record: f"{record['times']:,}", right=True),
    Column("repeats cost", lambda record: short_amount("usd", record["again"]), right=True),
    Column("repeats' tokens", lambda record: f"{record['again_tokens']:,}", right=True, extra=True),
    Column("agents", lambda record: ", ".join(escaped(name) for name in record["agents"])),
    Column("first", lambda record: f"{record['first_at']:%Y-%m-%d %H:%M}", right=True, extra=True),
    Column("last", lambda record: f"{record['last_at']:%Y-%m-%d %H:%M}", right=True, extra=True),
)
NO_REPEATS = "no prompt was asked again"
NO_HASHES = (
    "none of these {calls} has a prompt hash, so nothing can be said. Set [ledger] prompt_key, a secret of at least "
    '16 bytes such as "${{BUDGETGUARD_PROMPT_KEY}}": from then on prompts are hashed, their texts are kept nowhere.'
)


def duplicates(
    since: SinceOption = None,
    until: UntilOption = None,
    last: LastOption = None,
    timezone: TimezoneOption = None,
    where: WhereOption = [],  # noqa: B006 - typer copies it
    team: TeamOption = None,
    agent: AgentOption = None,
    session: SessionOption = None,
    task: TaskOption = None,
    user: UserOption = None,
    top: Annotated[int, typer.Option("--top", metavar="N", help="The N whose repeats cost most.")] = 20,
    format: FormatOption = "table",
    ledger: LedgerOption = None,
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
    store: StoreOption = None,
) -> None:
    """Show prompts that were asked again and again, by their hashes, and what the repeats cost: all but the first.

    Needs [ledger] prompt_key, with which the prompts of calls are hashed. The attempts of one call are one asking.
    """
    if top < 1:
        raise ConfigError("--top", ["expected 1 or more prompts"])
    usual = {"team": team, "agent": agent, "session": session, "task": task, "user": user}
    asked = Asked(since, until, last, timezone, label_globs(usual, where), ledger, namespace, config, store)
    with asked.opened() as (book, stretch, zone):
        found = book.repeats(stretch, asked.globs, top)
    emit(format, [_record(one, zone, format) for one in found.told], KEYS, COLUMNS, _empty(found))
    if found.told or format != "table":
        note(_summary(found))


def _record(one: Repeat, zone: str, format: str) -> dict[str, Any]:
    first, last = (datetime.fromtimestamp(at_ms / 1000, zone_of(zone)) for at_ms in (one.first_ms, one.last_ms))
    plain = format == "table"
    return {
        **one._asdict(),
        "first_at": first if plain else first.isoformat(timespec="milliseconds"),
        "last_at": last if plain else last.isoformat(timespec="milliseconds"),
        "agents": [name or "(none)" for name in one.agents],
        **amount_fields("cost", "usd", one.cost_nanousd),
        **amount_fields("again", "usd", one.again_nanousd),
    }


def _summary(found: Repeats) -> str:
    if not found.told:
        return _empty(found)
    prompts = "1 prompt was" if found.prompts == 1 else f"{found.prompts:,} prompts were"
    times = "once" if found.again == 1 else f"{found.again:,} times"
    unknown = found.calls - found.hashed_calls
    rest = f" ({unknown:,} of {_calls(found.calls)} have no hash)" if unknown else ""
    unpriced = f" and {_calls(found.again_unpriced_calls)} without a known price" if found.again_unpriced_calls else ""
    return f"{prompts} asked again, {times}, for {format_usd(found.again_nanousd)}{unpriced}{rest}"


def _empty(found: Repeats) -> str:
    if found.calls and not found.hashed_calls:
        return NO_HASHES.format(calls=_calls(found.calls))
    return NO_REPEATS


def _calls(number: int) -> str:
    return "1 call" if number == 1 else f"{number:,} calls"
