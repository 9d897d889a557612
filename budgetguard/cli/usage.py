"""`budgetguard usage`: rolling metrics of agents, teams, tasks and models, up to now."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from budgetguard.cli.ledger_books import LedgerOption, NamespaceOption, asked_ledger
from budgetguard.cli.options import AgentOption, ConfigOption, FormatOption, StoreOption, TaskOption, TeamOption
from budgetguard.cli.output import Column, Record, emit, note, short_amount, usd_text
from budgetguard.cli.sources import label_globs
from budgetguard.core.model import NO_LABEL
from budgetguard.errors import ConfigError
from budgetguard.policy_checks import span_ms
from budgetguard.refusal import escaped

if TYPE_CHECKING:
    from budgetguard.ledger.totals import Total

COLUMN_OF = {"team": "team", "agent": "agent", "task": "task_type", "model": "model", "provider": "provider"}
KEYS = (
    "calls", "errors", "error_share", "operations", "prompt_tokens", "completion_tokens", "total_tokens",
    "cost_nanousd", "cost_usd", "unpriced_calls", "latency_p50_ms", "latency_p95_ms", "tokens_per_completion",
    "cost_per_task_nanousd", "cost_per_task_usd", "token_efficiency",
)  # fmt: skip
EMPTY = "no calls"


def usage(
    by: Annotated[
        str, typer.Option("--by", metavar="NAMES", help=f"Of {', '.join(COLUMN_OF)}: one, or several (team,agent).")
    ] = "agent",
    window: Annotated[
        str, typer.Option("--window", metavar="TIME", help="How long, until now: 1h, 24h, 7d, ...")
    ] = "24h",
    team: TeamOption = None,
    agent: AgentOption = None,
    task: TaskOption = None,
    model: Annotated[str | None, typer.Option("--model", metavar="GLOB", help="Only this model.")] = None,
    provider: Annotated[str | None, typer.Option("--provider", metavar="GLOB", help="Only this provider.")] = None,
    format: FormatOption = "table",
    ledger: LedgerOption = None,
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
    store: StoreOption = None,
) -> None:
    """Tell calls, tokens, cost, errors and latency of the last 24 hours, by agent: the dearest first.

    tokens/call is all tokens by calls; cost/task is the cost by operations: a call and its retries are one. out/in is
    the completion tokens for each prompt token. Latencies are within 10 %; all else is exact.
    """
    names = _names(by)
    globs = label_globs({"team": team, "agent": agent, "task": task, "model": model, "provider": provider}, ())
    totals = _totals(names, globs, window, asked_ledger(ledger, namespace, config, store)[:2])
    records = [_record(names, total) for total in sorted(totals, key=lambda one: (-one.cost_nanousd, one.group))]
    emit(format, records, [*names, *KEYS], _columns(names), EMPTY)
    unpriced = sum(total.unpriced_calls for total in totals)
    if unpriced and format == "table":
        note(f"of {unpriced:,} {'call' if unpriced == 1 else 'calls'} nobody knows the cost: counted as $0")


def _totals(names: list[str], globs: dict[str, str], window: str, named: tuple[str, str]) -> list[Total]:
    from budgetguard.ledger.books import open_book
    from budgetguard.ledger.reading import Stretch

    span = span_ms(window, "--window", 1)
    url, namespace = named
    # Up to the next ms: a call that is admitted now is among the last.
    until_ms = int(datetime.now(UTC).timestamp() * 1000) + 1
    where = {COLUMN_OF[name]: glob for name, glob in globs.items()}
    book = open_book(url)
    try:
        return book.totals(Stretch(namespace, until_ms - span, until_ms), [COLUMN_OF[name] for name in names], where)
    finally:
        book.close()


def _names(by: str) -> list[str]:
    names = [name.strip() for name in by.split(",")]
    unknown = [name for name in names if name not in COLUMN_OF]
    if unknown or len({*names}) < len(names):
        found = f", not {escaped(unknown[0])}; report --by takes any label" if unknown else ", each once"
        raise ConfigError("--by", [f"expected one or several of {', '.join(COLUMN_OF)}{found}"])
    return names


def _record(names: list[str], total: Total) -> Record:
    record: dict[str, Any] = {name: value or None for name, value in zip(names, total.group, strict=True)}
    record |= {key: getattr(total, key) for key in KEYS if hasattr(total, key)}
    per_task = total.cost_per_task_nanousd
    return record | {
        "error_share": _rounded(total.error_share, 6), "token_efficiency": _rounded(total.token_efficiency, 6),
        "tokens_per_completion": _rounded(total.tokens_per_completion, 3), "cost_usd": usd_text(total.cost_nanousd),
        "cost_per_task_usd": None if per_task is None else usd_text(per_task),
        "latency_p50_ms": total.latency_ms(50), "latency_p95_ms": total.latency_ms(95),
    }  # fmt: skip


def _rounded(value: float | None, places: int) -> float | None:
    return None if value is None else round(value, places)


def _columns(names: list[str]) -> list[Column]:
    return [
        *(Column(name, partial(_named, name)) for name in names),
        Column("calls", lambda record: f"{record['calls']:,}", right=True),
        Column("tokens", lambda record: f"{record['total_tokens']:,}", right=True),
        Column("cost", lambda record: short_amount("usd", record["cost_nanousd"]), right=True),
        Column("errors", lambda record: f"{100 * record['error_share']:.1f} %", right=True),
        Column("p50", partial(_time, "latency_p50_ms"), right=True),
        Column("p95", partial(_time, "latency_p95_ms"), right=True),
        Column("tokens/call", lambda record: f"{record['tokens_per_completion']:,.0f}", right=True, extra=True),
        Column("cost/task", _per_task, right=True, extra=True),
        Column("out/in", _efficiency, right=True, extra=True),
    ]


def _named(name: str, record: Record) -> str:
    return escaped(record[name] or NO_LABEL)


def _time(key: str, record: Record) -> str:
    ms = record[key]
    return "-" if ms is None else f"{ms} ms" if ms < 1_000 else f"{ms / 1_000:.1f} s"


def _per_task(record: Record) -> str:
    cost_nanousd = record["cost_per_task_nanousd"]
    return "-" if cost_nanousd is None else short_amount("usd", cost_nanousd)


def _efficiency(record: Record) -> str:
    return "-" if record["token_efficiency"] is None else f"{record['token_efficiency']:.2f}"
