"""`usage_rollups`: sums of the ledger for each stretch of time, so that questions need not read every row.

Triggers on `token_usage` keep them: whoever writes a row keeps them, and a revision applies the difference. A call
counts in the stretches in which it was admitted: its quarter of an hour; and its hour, its quarter of a day and its
day (of UTC) once these are summed, which they are from narrower ones when they have been over for an hour
(`usage_stretches` says which are). So a row costs one step, and a late one some more. Labels that it lacks are ''.
What was released is no call. `errors` are calls that failed, those apart that their caller cancelled; `operations`
are first attempts.

Class n of latencies is what took above 2^((n-1)/4) and at most 2^(n/4) ms, so that the middle of a class is within
10 % of all in it; -1 is what took no time that was measured. Calls of class n are counted in the row of
`latency_band` floor(n / 16), in its column `latency_<n mod 16>`: those of most groups stand in one row or two.

`usage_rollups` is a view: `usage_groups` has the labels, `usage_sums` the sums, with two classes in each column of
`PAIRS`, the second of them times 2^32: what a question costs is the columns that it adds up.
"""

from __future__ import annotations

from itertools import pairwise
from math import log

QUARTER_MS, HOUR_MS = 900_000, 3_600_000
WIDER_MS = (HOUR_MS, 21_600_000, 86_400_000)
WIDTHS_MS = (QUARTER_MS, *WIDER_MS)
"""Each a multiple of the one before."""
LABELS = ("team", "agent", "task_type", "model", "provider")
SUMS = ("calls", "errors", "prompt_tokens", "completion_tokens", "cost_nanousd", "unpriced_calls", "operations")
BAND = 16
PAIR = 2**32
PAIRS = tuple(f"latencies_{place}_{place + 1}" for place in range(0, BAND, 2))
COUNTED = (*SUMS, *PAIRS)
KEY = ("namespace", "width_ms", "start_ms", "group_id", "latency_band")
GROUP = ("namespace", *LABELS)
# First what differs most: what stands last is then seldom looked at.
_GROUP_KEY = ("agent", "task_type", "model", "team", "provider", "namespace")
INTO = f"INSERT INTO usage_sums ({', '.join((*KEY, *COUNTED))})"
ADD = f"""ON CONFLICT ({", ".join(KEY)}) DO UPDATE SET {
    ", ".join(f"{name} = usage_sums.{name} + excluded.{name}" for name in COUNTED)
};"""


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
        f"CAST({row}attempt = 1 AS INTEGER)",
    ]  # fmt: skip


def tables(integer: str, id: str, ending: str) -> str:
    """What rollups are kept in, and the view of them."""
    latencies = [
        f"{name} % {PAIR} AS latency_{2 * place}, {name} / {PAIR} AS latency_{2 * place + 1}"
        for place, name in enumerate(PAIRS)
    ]
    return f"""
CREATE TABLE usage_groups (
    id {id}, {", ".join(f"{name} TEXT NOT NULL" for name in GROUP)}, UNIQUE ({", ".join(_GROUP_KEY)})
);
CREATE TABLE usage_stretches (
    namespace TEXT NOT NULL, width_ms {integer} NOT NULL, start_ms {integer} NOT NULL, is_summed {integer} NOT NULL,
    PRIMARY KEY (namespace, width_ms, start_ms)
){ending};
CREATE TABLE usage_sums (
    namespace TEXT NOT NULL, width_ms {integer} NOT NULL, start_ms {integer} NOT NULL, group_id {integer} NOT NULL,
    latency_band {integer} NOT NULL, {", ".join(f"{name} {integer} NOT NULL" for name in COUNTED)},
    PRIMARY KEY ({", ".join(KEY)})
){ending};
CREATE VIEW usage_rollups AS
SELECT usage_sums.namespace, width_ms, start_ms, {", ".join((*LABELS, "latency_band", *SUMS, *latencies))}
FROM usage_sums JOIN usage_groups ON id = group_id WHERE calls <> 0;
"""  # noqa: S608 - of constants


def counted(latency_class: str, sums: list[str], sign: str = "") -> str:
    """A row's `latency_band` and `COUNTED`, in SQL."""
    place = f"({latency_class} + {BAND})"
    calls = [
        f"CASE {place} % {BAND} WHEN {number} THEN {sign}1 WHEN {number + 1} THEN {sign}{PAIR} ELSE 0 END"
        for number in range(0, BAND, 2)
    ]
    values = zip((*(sign + term for term in sums), *calls), COUNTED, strict=True)
    return ", ".join([f"{place} / {BAND} - 1 AS latency_band", *(f"{value} AS {name}" for value, name in values)])


def _sum_up(width_ms: int, of_ms: int) -> str:
    """Sums stretches from narrower ones. One stays open for an hour: calls are settled after they were admitted."""
    over = f"start_ms <= NEW.start_ms - {width_ms + HOUR_MS}"
    due = f"namespace = NEW.namespace AND width_ms = {width_ms} AND {over} AND is_summed = 0"
    start = f"start_ms / {width_ms} * {width_ms}"
    first, end, each = (
        f"(SELECT {what} FROM usage_stretches WHERE {due})"  # noqa: S608 - of constants
        for what in ("min(start_ms)", f"max(start_ms) + {width_ms}", "start_ms")
    )
    # With the first and the end it is plain to a database that it need not read all of its sums.
    return f"""
    {INTO} SELECT namespace, {width_ms}, {start}, group_id, latency_band,
    {", ".join(f"CAST(sum({name}) AS BIGINT)" for name in COUNTED)}
    FROM usage_sums WHERE namespace = NEW.namespace AND width_ms = {of_ms}
    AND start_ms >= {first} AND start_ms < {end} AND {start} IN {each}
    GROUP BY namespace, {start}, group_id, latency_band;
    UPDATE usage_stretches SET is_summed = 1 WHERE {due};"""  # noqa: S608 - of constants


# Of every open hour, because PostgreSQL has begun all hours of a statement when the first of them comes here.
_BEGIN_WIDER = "".join(
    f"""
    INSERT INTO usage_stretches SELECT DISTINCT namespace, {width_ms}, start_ms / {width_ms} * {width_ms}, 0
    FROM usage_stretches WHERE namespace = NEW.namespace AND width_ms = {HOUR_MS} AND is_summed = 0
    ON CONFLICT DO NOTHING;"""  # noqa: S608 - of constants
    for width_ms in WIDER_MS[1:]
)
BEGUN = _BEGIN_WIDER + "".join(_sum_up(width_ms, of_ms) for of_ms, width_ms in pairwise(WIDTHS_MS))
"""What is done as soon as a row is the first of its hour."""
PRUNE_SUMS = "DELETE FROM usage_sums WHERE namespace = ? AND start_ms < ? AND calls = 0"
"""Once the rows before an instant are gone: what sums nothing any more, and then the rest of it."""
PRUNE_STRETCHES = "DELETE FROM usage_stretches WHERE namespace = ? AND start_ms + width_ms <= ?"
PRUNE_GROUPS = "DELETE FROM usage_groups WHERE namespace = ? AND id NOT IN (SELECT group_id FROM usage_sums)"
