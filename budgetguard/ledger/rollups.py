"""`usage_rollups`: sums of the ledger for each stretch of time, so that questions need not read every row.

Triggers on `token_usage` keep them: whoever writes a row keeps them, and a revision applies the difference. A call
counts in the stretches (of 5 minutes, of an hour) in which it was admitted. Labels that it lacks are ''.
What was released is no call. `errors` are calls that failed, those apart that their caller cancelled.

`latency_class` is a class of a logarithmic scale: class n is what took above 2^((n-1)/4) and at most 2^(n/4) ms, so
that the middle of a class is within 10 % of all in it; -1 is what took no time that was measured.
"""

from __future__ import annotations

from math import log

WIDTHS_MS = (300_000, 3_600_000)
"""Each a multiple of the one before."""
KEY = ("namespace", "width_ms", "start_ms", "team", "agent", "task_type", "model", "provider", "latency_class")
SUMS = ("calls", "errors", "prompt_tokens", "completion_tokens", "cost_nanousd", "unpriced_calls")
LABELS = KEY[3:8]
_PLACES = ", ".join(str(place) for place in range(1, len(KEY) + 1))


def _table(integer: str, ending: str) -> str:
    return f"""
CREATE TABLE usage_rollups (
    namespace TEXT NOT NULL, width_ms {integer} NOT NULL, start_ms {integer} NOT NULL,
    {", ".join(f"{name} TEXT NOT NULL" for name in LABELS)}, latency_class {integer} NOT NULL,
    {", ".join(f"{name} {integer} NOT NULL" for name in SUMS)},
    PRIMARY KEY ({", ".join(KEY)})
){ending};
"""


def _key(row: str, width_ms: str, at_s: str) -> str:
    """The values of `KEY` that a row of `token_usage` counts under. `at_s` is its timestamp in seconds."""
    labels = ", ".join(f"coalesce({row}{name}, '')" for name in LABELS)
    return f"{row}namespace, {width_ms}, {at_s} * 1000 / {width_ms} * {width_ms}, {labels}, {latency_class_of(row)}"


def latency_class_of(row: str) -> str:
    """The class of a row of `token_usage`, in SQL. `row` is what its columns are named with: "NEW.", or nothing."""
    # A power of two stays in its class, though its logarithm comes out a little larger.
    slow = f"CAST(ceil(ln({row}latency_ms) * {4 / log(2)!r} - 0.000000001) AS INTEGER)"
    return f"CASE WHEN {row}latency_ms > 0 THEN {slow} ELSE -1 END"


def sums_of(row: str) -> list[str]:
    """What a row of `token_usage` adds to each of `SUMS`, in SQL."""
    return [
        "1", f"CAST({row}error_type IS NOT NULL AND {row}status <> 'cancelled' AS INTEGER)", f"{row}prompt_tokens",
        f"{row}completion_tokens", f"coalesce({row}cost_nanousd, 0)", f"CAST({row}cost_nanousd IS NULL AS INTEGER)",
    ]  # fmt: skip


def _fill(width_ms: int) -> str:
    sums = ", ".join(f"sum({term})" for term in sums_of(""))
    return (
        f"INSERT INTO usage_rollups SELECT {_key('', str(width_ms), 'unixepoch(timestamp)')}, {sums} "  # noqa: S608 - of constants
        f"FROM token_usage WHERE status <> 'released' GROUP BY {_PLACES};"
    )


def _step(row: str, width_ms: int, sign: str) -> str:
    sums = ", ".join(sign + term for term in sums_of(row))
    added = ", ".join(f"{name} = {name} + excluded.{name}" for name in SUMS)
    return (
        f"INSERT INTO usage_rollups SELECT {_key(row, str(width_ms), f'unixepoch({row}timestamp)')}, {sums} "
        f"WHERE {row}status <> 'released' ON CONFLICT DO UPDATE SET {added};"
    )


def _steps(row: str, sign: str) -> str:
    return "\n    ".join(_step(row, width_ms, sign) for width_ms in WIDTHS_MS)


SQLITE = f"""
{_table("INTEGER", " WITHOUT ROWID")}
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
"""The table, and what keeps it."""
PRUNE = "DELETE FROM usage_rollups WHERE namespace = ? AND start_ms < ? AND calls = 0"
"""Once the rows before an instant are gone: what sums nothing any more."""
FILL = "\n".join(_fill(width_ms) for width_ms in WIDTHS_MS)
"""Of SQLite: counts the rows that were there before the triggers."""


def _part(rows: str, sign: str) -> str:
    key = _key("", "width_ms", "CAST(floor(extract(epoch FROM timestamp)) AS BIGINT)")
    sums = ", ".join(f"{sign}sum({term})" for term in sums_of(""))
    widths = ", ".join(f"(CAST({width_ms} AS BIGINT))" for width_ms in WIDTHS_MS)
    return (
        f"SELECT {key}, {sums} FROM {rows} CROSS JOIN (VALUES {widths}) AS widths (width_ms) "  # noqa: S608 - of constants
        f"WHERE status <> 'released' GROUP BY {_PLACES}"
    )


def _trigger(name: str, event: str, tables: str, *parts: str) -> str:
    """One for a whole statement, whatever number of rows it writes."""
    added = ", ".join(f"{column} = usage_rollups.{column} + excluded.{column}" for column in SUMS)
    whole = ", ".join(f"sum({column})" for column in SUMS)
    union = " UNION ALL ".join(parts)
    return f"""
CREATE FUNCTION usage_rollups_{name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO usage_rollups SELECT {", ".join(KEY)}, {whole}
    FROM ({union}) AS parts ({", ".join((*KEY, *SUMS))}) GROUP BY {_PLACES}
    ON CONFLICT ({", ".join(KEY)}) DO UPDATE SET {added};
    RETURN NULL;
END $$;
CREATE TRIGGER usage_rollups_{name} AFTER {event} ON token_usage REFERENCING {tables}
    FOR EACH STATEMENT EXECUTE FUNCTION usage_rollups_{name}();
"""  # noqa: S608 - of constants


POSTGRES = (
    _table("BIGINT", "")
    + _trigger("added", "INSERT", "NEW TABLE AS added", _part("added", ""))
    + _trigger(
        "changed", "UPDATE", "OLD TABLE AS dropped NEW TABLE AS added", _part("added", ""), _part("dropped", "-")
    )
    + _trigger("dropped", "DELETE", "OLD TABLE AS dropped", _part("dropped", "-"))
)
