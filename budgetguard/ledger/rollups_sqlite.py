"""SQLite's rollups: what triggers do that run for each row."""

from __future__ import annotations

from budgetguard.ledger import rollups
from budgetguard.ledger.rollups import ADD, GROUP, HOUR_MS, INTO, LABELS, QUARTER_MS, WIDER_MS


def _once(condition: str, row: str) -> str:
    """One row with the latency class, which is then reckoned once (LIMIT keeps SQLite from copying it everywhere)."""
    return f"(SELECT {rollups.latency_class_of(row)} AS latency_class WHERE {condition} LIMIT 1) AS timed"


def _start(row: str, width_ms: int) -> str:
    return f"unixepoch({row}timestamp) * 1000 / {width_ms} * {width_ms}"


def _count(row: str, sign: str) -> str:
    """Counts a row, or takes it away. For the first of its group the group is not found; it is made, and counted."""
    values = rollups.counted("latency_class", rollups.sums_of(row), sign)
    labels = [f"coalesce({row}{name}, '')" for name in LABELS]
    group = f"usage_groups.namespace = {row}namespace" + "".join(
        f" AND {name} = {value}" for name, value in zip(LABELS, labels, strict=True)
    )
    counts = f"{row}status <> 'released'"

    def quarter(condition: str) -> str:
        return (
            f"{INTO} SELECT {row}namespace, {QUARTER_MS}, {_start(row, QUARTER_MS)}, id, {values} "  # noqa: S608 - of constants
            f"FROM {_once(f'{counts} AND {condition}', row)} CROSS JOIN usage_groups WHERE {group} {ADD}"
        )

    def summed(width_ms: int) -> str:
        return (
            f"{INTO} SELECT {row}namespace, width_ms, start_ms, id, {values} "  # noqa: S608 - of constants
            f"FROM usage_stretches CROSS JOIN {_once(counts, row)} CROSS JOIN usage_groups "
            f"WHERE usage_stretches.namespace = {row}namespace AND width_ms = {width_ms} "
            f"AND start_ms = {_start(row, width_ms)} AND is_summed = 1 AND {group} {ADD}"
        )

    return f"""
    {quarter("true")}
    INSERT INTO usage_groups ({", ".join(GROUP)}) SELECT {row}namespace, {", ".join(labels)}
    WHERE changes() = 0 AND {counts};
    {quarter("changes() = 1")}
    {" ".join(summed(width_ms) for width_ms in WIDER_MS)}
    INSERT INTO usage_stretches SELECT {row}namespace, {HOUR_MS}, {_start(row, HOUR_MS)}, 0 WHERE {counts}
    ON CONFLICT DO NOTHING;"""


TABLES = f"""
{rollups.tables("INTEGER", "INTEGER PRIMARY KEY", " WITHOUT ROWID")}
CREATE TRIGGER usage_rollups_begun AFTER INSERT ON usage_stretches WHEN NEW.width_ms = {HOUR_MS} BEGIN
{rollups.BEGUN}
END;
CREATE TRIGGER usage_rollups_added AFTER INSERT ON token_usage BEGIN
    {_count("NEW.", "")}
END;
CREATE TRIGGER usage_rollups_changed AFTER UPDATE ON token_usage BEGIN
    {_count("OLD.", "-")}
    {_count("NEW.", "")}
END;
CREATE TRIGGER usage_rollups_dropped AFTER DELETE ON token_usage BEGIN
    {_count("OLD.", "-")}
END;
"""
"""And what keeps them."""
_START = f"unixepoch(timestamp) * 1000 / {QUARTER_MS} * {QUARTER_MS}"
_LABELS = ", ".join(f"coalesce({name}, '') AS {name}" for name in LABELS)
_COUNTED = rollups.counted("latency_class", rollups.sums_of(""))
_TIMED = f"(SELECT *, {rollups.latency_class_of('')} AS latency_class FROM token_usage LIMIT -1) AS timed"  # noqa: S608 - of constants
FILL = f"""
INSERT INTO usage_groups ({", ".join(GROUP)}) SELECT DISTINCT namespace, {_LABELS}
FROM token_usage WHERE status <> 'released';
{INTO} SELECT namespace, {QUARTER_MS}, {_START}, id, {_COUNTED}
FROM {_TIMED} JOIN usage_groups USING (namespace)
WHERE status <> 'released' {"".join(f" AND usage_groups.{name} = coalesce(timed.{name}, '')" for name in LABELS)}
{ADD}
INSERT INTO usage_stretches SELECT DISTINCT namespace, {HOUR_MS}, start_ms / {HOUR_MS} * {HOUR_MS}, 0 FROM usage_sums
ORDER BY 3;
"""  # noqa: S608 - of constants
"""Counts the rows that were there before the triggers."""
