"""`budgetguard simulate`: what a policy would have done with a real trace."""

from __future__ import annotations

import gc
import json
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from budgetguard.cli import comparing
from budgetguard.cli.options import ConfigOption, Format, FormatOption
from budgetguard.cli.output import Column, Record, amount_fields, emit, note
from budgetguard.cli.sources import label_globs, policy_of, store_url
from budgetguard.core.amounts import Unit, format_amount, format_usd
from budgetguard.refusal import escaped

if TYPE_CHECKING:
    from budgetguard.simulation import LimitFigures, Report

MOST_TOKENS = 10**9
NO_LIMITS = "the policy has no limits"
KEYS = (
    "budget", "on_exceed", "unit", "period", "limit", "limit_usd", "accounts", "windows", "spent", "spent_usd",
    "utilisation", "overspend", "overspend_usd", "overage", "overage_usd", "refused", "would_refuse", "delayed",
    "mean_wait_s", "max_wait_s",
)  # fmt: skip
COLUMNS = (
    Column("budget", lambda record: escaped(record["budget"])),
    Column("limit", lambda record: _limit(record), right=True),
    Column("beyond it", lambda record: record["on_exceed"]),
    Column("windows", lambda record: f"{record['windows']:,}", right=True),
    Column("spent", lambda record: _amount(record, "spent"), right=True),
    Column("utilisation", lambda record: f"{100 * record['utilisation']:.1f} %", right=True),
    Column("overspend", lambda record: _amount(record, "overspend"), right=True),
    Column("overage", lambda record: _amount(record, "overage"), right=True),
    Column("refused", lambda record: f"{record['refused']:,}", right=True),
)


TraceArgument = Annotated[
    Path,
    typer.Argument(
        metavar="TRACE.csv",
        help="timestamp_s,model,prompt_tokens,completion_tokens, and where it is "
        "known team,agent,task,run,user; may be .gz. Or the CSV of `budgetguard ledger export`.",
    ),
]
ReplayStoreOption = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="Where to replay, in a namespace of its own. [default: in memory]"),
]
HoldOption = Annotated[
    int | None,
    typer.Option(
        "--hold-output", metavar="N", min=0, max=MOST_TOKENS,
        help="Output tokens that bound each call. [default: those of the trace's largest completion]",
    ),
]  # fmt: skip
ConstantOption = Annotated[
    list[str], typer.Option("--label", metavar="NAME=VALUE", help="A label of every call; repeatable.")
]


class Method(StrEnum):
    """`simulation.Method`, as typer takes it in a list."""

    learned = "learned"
    ceiling = "ceiling"
    oracle = "oracle"


MethodOption = Annotated[
    list[Method],
    typer.Option(
        "--estimate",
        metavar="<learned|ceiling|oracle>",
        help="What each call's output is estimated by: learned, by calls before it; ceiling, by its bound; oracle, by "
        "what it will write. Repeat it to compare. [default: as the policy says]",
    ),
]
InjectOption = Annotated[
    bool, typer.Option("--inject-max-tokens", help="A call ends where its estimate does: nothing is overspent.")
]


def simulate(
    trace: TraceArgument,
    config: ConfigOption = None,
    store: ReplayStoreOption = None,
    format: FormatOption = "table",
    hold_output: HoldOption = None,
    label: ConstantOption = [],  # noqa: B006 - typer copies it
    estimate: MethodOption = [],  # noqa: B006 - typer copies it
    inject_max_tokens: InjectOption = False,
) -> None:
    """Replay a trace of calls against a policy, on the trace's clock, as fast as it goes.

    A call takes 0.3 s and 20 ms per output token. The trace begins on Monday 2026-01-05 at midnight in the policy's
    time zone, or on the first Monday on which all prices are valid.

    Utilisation is what was spent of a limit in the windows that admitted a call; of rolling periods and of open calls
    it is the most that counted at once. Overspend is what was spent above limits, those of shadow budgets too; overage
    is what calls took above their estimates. A refused call would have fit if there was room for it beside what all
    calls admitted before it took in the end.
    """
    from budgetguard import simulation

    policy, labels, url = policy_of(config, None), label_globs({}, label), store_url(store)
    calls = simulation.read_trace(trace)
    # The trace stays until the end, and what comes after it makes no cycles: looking for some would take a third.
    gc.freeze()
    gc.set_threshold(100_000)
    reports: dict[str, Report] = {}
    for method in dict.fromkeys(estimate or [Method(policy.estimate.output)]):
        namespace = f"simulation-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
        with _progress(len(calls)) as progress:
            reports[method.value] = simulation.simulate(
                policy, calls, labels=labels, hold_output=hold_output, estimate=method.value, inject=inject_max_tokens,
                store_url=url or simulation.IN_MEMORY, namespace=namespace, progress=progress,
            )  # fmt: skip
        if url is not None:
            note(_left_behind(url, namespace))
    _tell(reports, format)


def _tell(reports: Mapping[str, Report], format: Format) -> None:
    """One simulation, or several beside each other."""
    if len(reports) > 1:
        emit(format, comparing.compared(reports), comparing.KEYS, comparing.COLUMNS, NO_LIMITS)
        return
    (report,) = reports.values()
    records = [_record(report, figures) for figures in report.limits]
    if format == "json":
        typer.echo(json.dumps(_totals(report) | {"budgets": records}, indent=2))
        return
    if format == "table":
        typer.echo(_summary(report))
    emit(format, records, KEYS, COLUMNS, NO_LIMITS)


def _left_behind(url: str, namespace: str) -> str:
    """What the store has of the simulation."""
    from budgetguard.stores import SQLITE

    if url.startswith(SQLITE):
        return f"accounts and ledger are in the namespace {namespace}"
    return f"the accounts are in the namespace {namespace}, and go within a day; no ledger was kept"


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Shows a bar on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("calls", total=total)
        yield lambda done: bar.update(task, completed=done)


def _totals(report: Report) -> dict[str, Any]:
    """Of the whole policy: overspend is 0 where no limit was overspent, overage is in LLM tokens."""
    return {
        "calls": report.calls, "admitted": report.admitted, "refused": report.refused, "delayed": report.delayed,
        "overspend": report.overspend, "overage": report.overage.tokens, "would_fit": report.would_fit,
        "cut": report.cut,
    }  # fmt: skip


def _record(report: Report, figures: LimitFigures) -> Record:
    limit, unit = figures.limit, figures.limit.unit
    waits = report.delayed_by.get(figures.budget)
    record: dict[str, Any] = {
        "budget": figures.budget, "on_exceed": figures.on_exceed, "unit": unit, "period": limit.period.label,
        "accounts": figures.accounts, "windows": figures.windows, "utilisation": round(figures.utilisation, 6),
        "refused": figures.refused, "would_refuse": report.would_refuse.get(figures.budget, 0),
        "delayed": waits.calls if waits else 0,
        "mean_wait_s": round(waits.mean_s, 3) if waits else 0.0,
        "max_wait_s": waits.longest_ms / 1000 if waits else 0.0,
    }  # fmt: skip
    amounts = {"limit": limit.amount, "spent": figures.spent}
    amounts |= {"overspend": figures.overspend, "overage": figures.overage}
    for key, amount in amounts.items():
        record |= amount_fields(key, unit, amount)
    return {key: record[key] for key in KEYS}


def _summary(report: Report) -> str:
    waits = report.waits
    lines = [
        f"{report.calls:,} calls: {report.admitted:,} admitted, {report.refused:,} refused",
        f"refused by: {_by_name(report.refused_by)}",
        f"refused for what was held in vain: {report.would_fit:,} would have fit",
        f"delayed: {waits.calls:,} of those admitted"
        + (f", on average {waits.mean_s:.3f} s, at most {waits.longest_ms / 1000:.3f} s" if waits.calls else ""),
    ]
    if report.cut:
        lines.append(f"cut where their estimate ended: {report.cut:,} of those admitted")
    if report.would_refuse:
        lines.append(f"shadow budgets would have refused: {_by_name(report.would_refuse)}")
    overspend: Counter[Unit] = Counter()
    for figures in report.limits:
        overspend[figures.limit.unit] += figures.overspend
    lines.append(f"overspend: {_by_unit(overspend)}")
    lines.append(f"overage: {_by_unit({'tokens': report.overage.tokens, 'usd': report.overage.usd})}")
    return "\n".join(lines) + "\n"


def _by_name(calls: Any) -> str:
    return ", ".join(f"{escaped(name)} {count:,}" for name, count in calls.items()) or "nobody"


def _by_unit(amounts: Any) -> str:
    return ", ".join(format_amount(unit, amount) for unit, amount in amounts.items() if amount) or "none"


def _amount(record: Record, key: str) -> str:
    return format_usd(record[key]) if record["unit"] == "usd" else f"{record[key]:,}"


def _limit(record: Record) -> str:
    unit = "" if record["unit"] == "usd" else f" {record['unit'].replace('_', ' ')}"
    period = f"/{record['period']}" if record["period"] else ""
    return f"{_amount(record, 'limit')}{unit}{period}"
