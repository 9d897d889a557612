"""PostgreSQL's rollups: what triggers do that run once for a statement, whatever number of rows it writes."""

from __future__ import annotations

from budgetguard.ledger import rollups
from budgetguard.ledger.rollups import ADD, COUNTED, GROUP, HOUR_MS, INTO, LABELS, QUARTER_MS, WIDER_MS

ONE_AT_A_TIME = "pg_advisory_xact_lock(hashtext('budgetguard ledger'), hashtext(current_schema()))"
"""Those who write a ledger wait for each other: they add to the same sums, and would else wait in a circle."""
_AT_MS = "CAST(floor(extract(epoch FROM timestamp)) AS BIGINT) * 1000 AS at_ms"
_NAMED = ", ".join(("latency_band", *COUNTED))
_SUMMED = ", ".join(f"sum({name})" for name in COUNTED)


def _noted(rows: str, sign: str) -> str:
    """Rows of `token_usage`: their group, instant, and what each adds."""
    labels = ", ".join(f"coalesce({name}, '') AS {name}" for name in LABELS)
    values = rollups.counted("latency_class", rollups.sums_of(""), sign)
    return f"""
    SELECT namespace, {labels}, {_AT_MS}, {values}
    FROM (SELECT *, {rollups.latency_class_of("")} AS latency_class FROM {rows} OFFSET 0) AS timed
    WHERE status <> 'released'"""  # noqa: S608 - of constants


def _trigger(name: str, event: str, tables: str, *parts: str) -> str:
    noted = f"({' UNION ALL '.join(parts)}) AS noted ({', '.join((*GROUP, 'at_ms', _NAMED))})"
    group = " AND ".join(f"usage_groups.{column} = noted.{column}" for column in GROUP)
    return f"""
CREATE FUNCTION usage_rollups_{name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM {ONE_AT_A_TIME};
    INSERT INTO usage_groups ({", ".join(GROUP)}) SELECT DISTINCT {", ".join(GROUP)} FROM {noted}
    WHERE NOT EXISTS (SELECT 1 FROM usage_groups WHERE {group});
    {INTO} SELECT noted.namespace, {QUARTER_MS}, at_ms / {QUARTER_MS} * {QUARTER_MS}, id, latency_band, {_SUMMED}
    FROM {noted} JOIN usage_groups ON {group} GROUP BY 1, 2, 3, 4, 5 {ADD}
    {INTO} SELECT noted.namespace, width_ms, start_ms, id, latency_band, {_SUMMED}
    FROM {noted} JOIN usage_groups ON {group} JOIN usage_stretches
    ON usage_stretches.namespace = noted.namespace AND width_ms IN ({", ".join(map(str, WIDER_MS))})
    AND start_ms = at_ms / width_ms * width_ms AND is_summed = 1 GROUP BY 1, 2, 3, 4, 5 {ADD}
    INSERT INTO usage_stretches SELECT DISTINCT namespace, {HOUR_MS}, at_ms / {HOUR_MS} * {HOUR_MS}, 0
    FROM {noted} ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER usage_rollups_{name} AFTER {event} ON token_usage REFERENCING {tables}
    FOR EACH STATEMENT EXECUTE FUNCTION usage_rollups_{name}();
"""  # noqa: S608 - of constants


_ADDED, _DROPPED = _noted("added", ""), _noted("dropped", "-")
TABLES = (
    rollups.tables("BIGINT", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "")
    + f"""
CREATE FUNCTION usage_rollups_begun() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
{rollups.BEGUN}
    RETURN NULL;
END $$;
CREATE TRIGGER usage_rollups_begun AFTER INSERT ON usage_stretches
    FOR EACH ROW WHEN (NEW.width_ms = {HOUR_MS}) EXECUTE FUNCTION usage_rollups_begun();
"""
    + _trigger("added", "INSERT", "NEW TABLE AS added", _ADDED)
    + _trigger("changed", "UPDATE", "OLD TABLE AS dropped NEW TABLE AS added", _ADDED, _DROPPED)
    + _trigger("dropped", "DELETE", "OLD TABLE AS dropped", _DROPPED)
)
"""And what keeps them."""
