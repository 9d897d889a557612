"""`budgetguard estimates`: what calls are known to write, by model, agent and task, and how far estimates were off."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated

import typer

from budgetguard.cli.options import AgentOption, ConfigOption, FormatOption, StoreOption, TaskOption
from budgetguard.cli.output import Column, Record, emit
from budgetguard.cli.sources import looked_at, policy_or_store
from budgetguard.core.amounts import MAX_AMOUNT
from budgetguard.refusal import escaped, span
from budgetguard.reports.charts import short_count

if TYPE_CHECKING:
    from budgetguard.learning.sketch import Sketch, Spread
    from budgetguard.store import OutputSet

EMPTY = "nothing was learned yet: requests of wrapped clients teach what calls like them write"
MOST = 1_000
ERRORS = (
    "estimated", "too_low", "too_low_share", "too_low_by", "too_high", "too_high_share", "too_high_by",
)  # fmt: skip
KEYS = (
    "model", "agent", "task", "half_life_ms", "calls", "p50", "p95", "p99", "most", "open_mean", *ERRORS,
    "input_percent", *(f"input_{key}" for key in ERRORS), "written_ms",
)  # fmt: skip
NO_INPUTS: Record = dict.fromkeys(("input_percent", *(f"input_{key}" for key in ERRORS)))
COLUMNS = (
    Column("model", lambda record: escaped(record["model"]) or "-"),
    Column("agent", lambda record: escaped(record["agent"] or "-")),
    Column("task", lambda record: escaped(record["task"] or "-")),
    Column("calls", lambda record: f"{record['calls']:,}", right=True, extra=True),
    Column("p50", lambda record: f"{record['p50']:,}", right=True, extra=True),
    Column("p95", lambda record: f"{record['p95']:,}", right=True),
    Column("p99", lambda record: f"{record['p99']:,}", right=True, extra=True),
    Column("too low", lambda record: _off(record, "too_low"), right=True),
    Column("too high", lambda record: _off(record, "too_high"), right=True),
    Column("input", lambda record: _percent(record["input_percent"]), right=True, extra=True),
    Column("in low", lambda record: _off(record, "input_too_low"), right=True, extra=True),
    Column("in high", lambda record: _off(record, "input_too_high"), right=True, extra=True),
    Column("half-life", lambda record: span(record["half_life_ms"]), right=True, extra=True),
)


def estimates(
    config: ConfigOption = None,
    store: StoreOption = None,
    format: FormatOption = "table",
    agent: AgentOption = None,
    task: TaskOption = None,
    model: Annotated[str | None, typer.Option("--model", metavar="GLOB", help="Only of these models.")] = None,
) -> None:
    """Show what calls are known to write, in output tokens, and how far their estimates were off.

    Of the 1,000 sets of calls that were written last. "too low": how many of the calls wrote more than was held for
    them, and how many tokens more on average; "too high": the same of those that wrote less. "input" is what an input
    is taken to be (p95) of what its bytes weigh; "in low" and "in high" are how far that was off.
    """
    globs = {name: glob for name, glob in (("model", model), ("agent", agent), ("task", task)) if glob is not None}
    _, settings = policy_or_store(config, store)

    async def look() -> list[Record]:
        async with looked_at(settings, store) as found:
            now_ms = await found.open()
            return _records(await found.read_outputs(None, MOST), globs, now_ms)

    emit(format, asyncio.run(look()), KEYS, COLUMNS, EMPTY)


def _records(found: list[OutputSet], globs: Mapping[str, str], now_ms: int) -> list[Record]:
    from budgetguard.learning.unsent import said_by

    records, inputs = [], dict[tuple[str, ...], Record]()
    for one in found:
        said = said_by(one.words)
        if said is not None and 0 < said[0] <= MAX_AMOUNT:
            half_life_ms, (kind, *names) = said
            if kind == "in":
                inputs[str(half_life_ms), *names] = _inputs(one, half_life_ms, now_ms)
            else:
                records.append(_record(one, half_life_ms, names, now_ms))
    for place, record in enumerate(records):
        agent = () if record["agent"] is None else ("agent", record["agent"])
        key = (str(record["half_life_ms"]), record["model"], *agent)
        records[place] = {**record, **(NO_INPUTS if record["task"] is not None else inputs.get(key, NO_INPUTS))}
    matching = [
        record
        for record in records
        if all(record[name] is not None and fnmatchcase(record[name], glob) for name, glob in globs.items())
    ]
    return sorted(matching, key=lambda record: tuple(record[name] or "" for name in ("model", "agent", "task")))


def _inputs(one: OutputSet, half_life_ms: int, now_ms: int) -> Record:
    from budgetguard.learning.learned import WHOLE

    spread = _sketch(one, half_life_ms, now_ms).spread(now_ms / half_life_ms)
    errors = {f"input_{key}": value for key, value in _errors(one).items()}
    return {"input_percent": round(100 * _quantile(spread, 0.95) / WHOLE), **errors}


def _sketch(one: OutputSet, half_life_ms: int, now_ms: int) -> Sketch:
    from budgetguard.learning.sketch import EDGES, Sketch

    sketch = Sketch()
    sketch.merge([count for count in one.counts if count[1] < len(EDGES)], now_ms // half_life_ms)
    return sketch


def _record(one: OutputSet, half_life_ms: int, names: list[str], now_ms: int) -> Record:
    model, *rest = names
    labels = dict(zip(rest[::2], rest[1::2], strict=False))
    sketch = _sketch(one, half_life_ms, now_ms)
    spread = sketch.spread(now_ms / half_life_ms)
    return {
        "model": model,
        "agent": labels.get("agent"),
        "task": labels.get("task"),
        "half_life_ms": half_life_ms,
        "calls": sketch.calls,
        "p50": _quantile(spread, 0.5),
        "p95": _quantile(spread, 0.95),
        "p99": _quantile(spread, 0.99),
        "most": spread.most,
        "open_mean": round(spread.open_mean),
        **_errors(one),
        "written_ms": one.written_ms,
    }


def _errors(one: OutputSet) -> Record:
    from budgetguard.learning.unsent import ASKED, EXACT, HIGH_TOKENS, LOW_TOKENS, TOO_LOW

    sums = Counter[int]()
    for _, place, number in one.counts:
        sums[place] += number
    asked, low = sums[ASKED], min(sums[TOO_LOW], sums[ASKED])
    high = max(0, asked - low - sums[EXACT])
    return {
        "estimated": asked,
        "too_low": low,
        "too_low_share": round(low / asked, 4) if asked else None,
        "too_low_by": round(sums[LOW_TOKENS] / low) if low else None,
        "too_high": high,
        "too_high_share": round(high / asked, 4) if asked else None,
        "too_high_by": round(sums[HIGH_TOKENS] / high) if high else None,
    }


def _quantile(spread: Spread, share: float) -> int:
    """At most 5 % too high, and never too low; 0 without a call."""
    from budgetguard.learning.sketch import EDGES

    if not spread.places:
        return 0
    place = min(bisect_left(spread.upto, share * spread.weight), len(spread.places) - 1)
    return EDGES[spread.places[place]]


def _off(record: Record, key: str) -> str:
    """`4.1% 1.5k`: how often, and by how many tokens."""
    share, by = record[f"{key}_share"], record[f"{key}_by"]
    return "-" if share is None else f"{share:.1%} {'' if by is None else short_count(by)}".rstrip()


def _percent(percent: int | None) -> str:
    return "-" if percent is None else f"{percent}%"
