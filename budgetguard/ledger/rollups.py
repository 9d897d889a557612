"""`usage_rollups`: sums of the ledger for each stretch of time, so that questions need not read every row.

Triggers on `token_usage` keep them: whoever writes a row keeps them, and a revision applies the difference. A call
counts in the stretches (of 5 minutes, of an hour) in which it was admitted. Labels that it lacks are ''. What was
released is no call. `errors` are calls that failed, those apart that their caller cancelled.

`latency_class` is a class of a logarithmic scale: class n is what took above 2^((n-1)/4) and at most 2^(n/4) ms, so
that the middle of a class is within 10 % of all in it; -1 is what took no time that was measured.
"""

from __future__ import annotations

from math import log

WIDTHS_MS = (300_000, 3_600_000)
KEY = ("namespace", "width_ms", "start_ms", "team", "agent", "task_type", "model", "provider", "latency_class")
SUMS = ("calls", "errors", "prompt_tokens", "completion_tokens", "cost_nanousd", "unpriced_calls")
_LABELS = KEY[3:8]

_TABLE = f"""
CREATE TABLE usage_rollups (
    namespace TEXT NOT NULL, width_ms INTEGER NOT NULL, start_ms INTEGER NOT NULL,
    {" ".join(f"{name} TEXT NOT NULL," for name in _LABELS)}
    latency_class INTEGER NOT NULL,
    {" ".join(f"{name} INTEGER NOT NULL," for name in SUMS)}
    PRIMARY KEY ({", ".join(KEY)})
) WITHOUT ROWID;
"""


def _class_of(latency: str) -> str:
    """In SQL of both kinds. A power of two stays in its class, though its logarithm comes out a little larger."""
    return f"CAST(ceil(ln({latency}) * {4 / log(2)!r} - 0.000000001) AS INTEGER)"


def _key(row: str, width_ms: int) -> str:
    """The values of `KEY` that a row of `token_usage` counts under."""
    width_s = width_ms // 1000
    labels = ", ".join(f"ifnull({row}{name}, '')" for name in _LABELS)
    return (
        f"{row}namespace, {width_ms}, unixepoch({row}timestamp) / {width_s} * {width_ms}, {labels}, "
        f"CASE WHEN {row}latency_ms > 0 THEN {_class_of(f'{row}latency_ms')} ELSE -1 END"
    )


def _sums(row: str) -> list[str]:
    """What a row adds to each of `SUMS`."""
    return [
        "1", f"({row}error_type IS NOT NULL AND {row}status <> 'cancelled')", f"{row}prompt_tokens",
        f"{row}completion_tokens", f"ifnull({row}cost_nanousd, 0)", f"({row}cost_nanousd IS NULL)",
    ]  # fmt: skip


def _fill(width_ms: int) -> str:
    sums = ", ".join(f"sum({term})" for term in _sums(""))
    return (
        f"INSERT INTO usage_rollups SELECT {_key('', width_ms)}, {sums} "  # noqa: S608 - of constants
        f"FROM token_usage WHERE status <> 'released' GROUP BY {', '.join(map(str, range(1, len(KEY) + 1)))};"
    )


_ADDED = ", ".join(f"{name} = {name} + excluded.{name}" for name in SUMS)


def _step(row: str, width_ms: int, sign: str) -> str:
    sums = ", ".join(sign + term for term in _sums(row))
    return (
        f"INSERT INTO usage_rollups SELECT {_key(row, width_ms)}, {sums} "
        f"WHERE {row}status <> 'released' ON CONFLICT DO UPDATE SET {_ADDED};"
    )


def _steps(row: str, sign: str) -> str:
    return "\n    ".join(_step(row, width_ms, sign) for width_ms in WIDTHS_MS)


ROLLUPS = f"""
{_TABLE}
CREATE TRIGGER usage_rollups_added AFTER INSERT ON token_usage BEGIN
    {_steps("NEW.", "")}
END;
CREATE TRIGGER usage_rollups_changed AFTER UPDATE ON token_usage BEGIN
    {_steps("OLD.", "-")}
    {_steps("NEW.", "")}
END;
CREATE TRIGGER usage_rollups_dropped AFTER DELETE ON token_usage BEGIN
    {_steps("OLD.", "-")}
END;
"""
"""Of SQLite: the table, and what keeps it."""
FILL = "\n".join(_fill(width_ms) for width_ms in WIDTHS_MS)
"""Counts the rows that were there before the triggers."""
