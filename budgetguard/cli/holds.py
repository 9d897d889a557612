"""`budgetguard holds`: the open reservations, and a way to return one whose holder will never do it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

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
from budgetguard.cli.output import Column, Record, emit, labels_text, short_amount, usd_text
from budgetguard.cli.sources import label_globs, looked_at, policy_or_store
from budgetguard.core.verbs import Release
from budgetguard.policy import GuardSettings, StoreSettings
from budgetguard.refusal import escaped, span
from budgetguard.status import every

if TYPE_CHECKING:
    from budgetguard.store import HoldRow

EMPTY = "no open holds"
KEYS = (
    "id", "labels", "budgets", "host", "admitted_ms", "age_ms", "lease_end_ms", "lease_left_ms", "tokens",
    "input_tokens", "output_tokens", "cost_nanousd", "cost_usd", "requests", "concurrent",
)  # fmt: skip
COLUMNS = (
    Column("id", lambda record: escaped(record["id"])),
    Column("age", lambda record: span(record["age_ms"]), right=True),
    Column("host", lambda record: escaped(record["host"])),
    Column("labels", lambda record: labels_text(record["labels"]) or "-"),
    Column("tokens", lambda record: f"{record['tokens']:,}", right=True),
    Column("dollars", lambda record: short_amount("usd", record["cost_nanousd"]), right=True, extra=True),
    Column("lease ends", lambda record: _lease(record), right=True, extra=True),
    Column("budgets", lambda record: escaped(", ".join(record["budgets"])) or "-", extra=True),
)
commands = typer.Typer(rich_markup_mode=None)


@commands.callback(invoke_without_command=True)
def holds(
    context: typer.Context,
    config: ConfigOption = None,
    store: StoreOption = None,
    format: FormatOption = "table",
    team: TeamOption = None,
    agent: AgentOption = None,
    session: SessionOption = None,
    task: TaskOption = None,
    user: UserOption = None,
    label: LabelOption = [],  # noqa: B006 - typer copies it
) -> None:
    """Show the open holds, or release one.

    The oldest first: what they reserve, on which host, and when their lease ends.
    """
    context.obj = (config, store, format)
    if context.invoked_subcommand is None:
        usual = {"team": team, "agent": agent, "session": session, "task": task, "user": user}
        globs = label_globs(usual, label)
        policy, settings = policy_or_store(config, store)
        if policy is not None:
            policy.labels.check(globs)
        emit(format, asyncio.run(_open_holds(settings, store, globs)), KEYS, COLUMNS, EMPTY)


@commands.command()
def release(
    context: typer.Context,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="As `budgetguard holds` shows them.")],
    config: ConfigOption = None,
    store: StoreOption = None,
    format: FormatOption = "table",
) -> None:
    """Return what these holds reserve, as if their calls had never been made.

    A call that is still under way is charged all the same when it ends, and marked `late`. Exit code 1 if an id is not
    that of an open hold.
    """
    outer_config, outer_store, outer_format = context.obj
    config, store = config or outer_config, store or outer_store
    policy, settings = policy_or_store(config, store)
    keep_ms = (GuardSettings() if policy is None else policy.guard).replay_keep_ms
    words = asyncio.run(_release(settings, store, ids, keep_ms))
    records = [{"id": id, "answer": word} for id, word in words.items()]
    columns = (Column("id", lambda r: escaped(r["id"])), Column("answer", lambda r: r["answer"]))
    emit(format if format != "table" else outer_format, records, ("id", "answer"), columns)
    if any(word != "released" for word in words.values()):
        raise typer.Exit(1)


async def _open_holds(settings: StoreSettings, store: str | None, globs: dict[str, str]) -> list[Record]:
    async with looked_at(settings, store) as found:
        rows = [row async for row in every(found.read_holds, labels=globs)]
    return [_record(row) for row in sorted(rows, key=lambda row: row.admitted_ms)]


async def _release(settings: StoreSettings, store: str | None, ids: list[str], keep_ms: int) -> dict[str, str]:
    """What the store answers for each id; it is asked only for holds that are open."""
    async with looked_at(settings, store) as found:
        standing = {row.id async for row in every(found.read_holds)}
        asked = [id for id in dict.fromkeys(ids) if id in standing]
        answers = await found.release([Release(id, keep_ms) for id in asked]) if asked else []
    words = {id: str(answer.word) for id, answer in zip(asked, answers, strict=True)}
    return {id: words.get(id, "no open hold has this id") for id in ids}


def _record(row: HoldRow) -> Record:
    estimate = row.estimate
    return {
        "id": row.id,
        "labels": dict(row.labels),
        "budgets": list(dict.fromkeys(account.budget for account in row.accounts)),
        "host": row.host,
        "admitted_ms": row.admitted_ms,
        "age_ms": row.now_ms - row.admitted_ms,
        "lease_end_ms": row.lease_end_ms,
        "lease_left_ms": row.lease_end_ms - row.now_ms,
        "tokens": estimate.tokens,
        "input_tokens": estimate.input_tokens,
        "output_tokens": estimate.output_tokens,
        "cost_nanousd": estimate.usd,
        "cost_usd": usd_text(estimate.usd),
        "requests": estimate.requests,
        "concurrent": estimate.concurrent,
    }


def _lease(record: Record) -> str:
    left_ms = record["lease_left_ms"]
    return f"in {span(left_ms)}" if left_ms > 0 else f"ended {span(-left_ms)} ago"
