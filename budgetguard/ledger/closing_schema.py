"""`closings` and `billed_lines`: the months whose statements are frozen, and what they billed.

A line of a month is of that month, or of an earlier one that was closed already: an adjustment. Under `FORGOTTEN` in
place of a month stands what of a closed month was pruned from `token_usage`: triggers keep it, so that forgetting rows
changes no statement.
"""

from __future__ import annotations

from budgetguard.ledger.sums import AMOUNTS, TERMS
from budgetguard.ledger.table import COLUMNS

GROUP = ("team", "agent", "model", "provider")
"""What is billed apart; a label that a call lacks is ''."""
KEY = ("namespace", "month", "of_month", *GROUP)
LINE = (*KEY, *AMOUNTS)
CLOSING = ("month", "zone", "since_ms", "until_ms", "closed_ms", "facts")
FORGOTTEN = ""
_PLACES = ", ".join(str(place) for place in range(1, len(KEY) + 1))


def _tables(integer: str) -> str:
    return f"""
CREATE TABLE closings (
    namespace TEXT NOT NULL, month TEXT NOT NULL, zone TEXT NOT NULL, since_ms {integer} NOT NULL,
    until_ms {integer} NOT NULL, closed_ms {integer} NOT NULL, facts TEXT NOT NULL, PRIMARY KEY (namespace, month)
);
CREATE TABLE billed_lines (
    {", ".join(f"{name} TEXT NOT NULL" for name in KEY)},
    {", ".join(f"{name} {integer} NOT NULL" for name in AMOUNTS)},
    PRIMARY KEY ({", ".join(KEY)})
);
"""


def _keep(rows: str, at_s: str) -> str:
    """What is forgotten of closed months, added to what was before."""
    labels = ", ".join(f"coalesce(gone.{name}, '')" for name in GROUP)
    added = ", ".join(f"{name} = billed_lines.{name} + excluded.{name}" for name in AMOUNTS)
    return (
        f"INSERT INTO billed_lines SELECT gone.namespace, CAST('{FORGOTTEN}' AS TEXT), closings.month, {labels}, "  # noqa: S608 - of constants
        f"{', '.join(f'sum({term})' for term in TERMS)} FROM {rows} AS gone JOIN closings "
        f"ON closings.namespace = gone.namespace AND {at_s} * 1000 >= since_ms AND {at_s} * 1000 < until_ms "
        f"WHERE gone.status <> 'released' GROUP BY {_PLACES} ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET {added};"
    )


SQLITE = f"""
{_tables("INTEGER")}
CREATE TRIGGER billed_lines_kept AFTER DELETE ON token_usage BEGIN
    {_keep(f"(SELECT {', '.join(f'OLD.{name} AS {name}' for name in COLUMNS)})", "unixepoch(gone.timestamp)")}
END;
"""
"""The tables, and what keeps them."""
POSTGRES = f"""
{_tables("BIGINT")}
CREATE FUNCTION billed_lines_kept() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    {_keep("dropped", "CAST(floor(extract(epoch FROM gone.timestamp)) AS BIGINT)")}
    RETURN NULL;
END $$;
CREATE TRIGGER billed_lines_kept AFTER DELETE ON token_usage REFERENCING OLD TABLE AS dropped
    FOR EACH STATEMENT EXECUTE FUNCTION billed_lines_kept();
"""

READ_CLOSINGS = f"SELECT {', '.join(CLOSING)} FROM closings WHERE namespace = ? ORDER BY month"  # noqa: S608 - of constants
WRITE_CLOSING = f"INSERT INTO closings (namespace, {', '.join(CLOSING)}) VALUES ({', '.join('?' * (len(CLOSING) + 1))})"  # noqa: S608 - of constants
READ_LINES = f"SELECT {', '.join(LINE[1:])} FROM billed_lines WHERE namespace = ?"  # noqa: S608 - of constants
WRITE_LINE = f"INSERT INTO billed_lines ({', '.join(LINE)}) VALUES ({', '.join('?' * len(LINE))})"  # noqa: S608 - of constants
