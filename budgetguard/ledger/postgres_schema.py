"""PostgreSQL's `token_usage`: its tables, and the statements that write it."""

from __future__ import annotations

from budgetguard.ledger import refusals, rollups, rollups_postgres
from budgetguard.ledger.closing_schema import POSTGRES as CLOSINGS
from budgetguard.ledger.forgotten import POSTGRES as FORGOTTEN
from budgetguard.ledger.table import COLUMNS

SCHEMA = 1
_TABLE = """
CREATE TABLE token_usage (
    reservation_id TEXT NOT NULL, namespace TEXT NOT NULL, revision BIGINT NOT NULL,
    timestamp TIMESTAMPTZ NOT NULL, settled_at TIMESTAMPTZ NOT NULL,
    team TEXT, agent TEXT, session_id TEXT, task_type TEXT, "user" TEXT, labels JSONB NOT NULL,
    provider TEXT, model TEXT,
    prompt_tokens BIGINT NOT NULL, completion_tokens BIGINT NOT NULL, cache_read_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL, reasoning_tokens BIGINT NOT NULL, total_tokens BIGINT NOT NULL,
    cost_nanousd BIGINT, cost NUMERIC(20, 9) GENERATED ALWAYS AS (cost_nanousd * 0.000000001) STORED,
    estimated_tokens BIGINT NOT NULL, estimated_cost_nanousd BIGINT NOT NULL,
    latency_ms BIGINT NOT NULL, status TEXT NOT NULL, error_type TEXT, price_source TEXT NOT NULL,
    usage_source TEXT NOT NULL, operation_id TEXT NOT NULL,
    accounts JSONB NOT NULL, would_refuse JSONB NOT NULL, host TEXT NOT NULL,
    expired_tokens BIGINT NOT NULL, expired_cost_nanousd BIGINT NOT NULL, slot_ms BIGINT NOT NULL,
    attempt BIGINT NOT NULL, streamed BOOLEAN NOT NULL, first_token_ms BIGINT, prompt_hash TEXT,
    process TEXT NOT NULL, library_version TEXT NOT NULL,
    PRIMARY KEY (reservation_id, namespace)
);
CREATE INDEX token_usage_by_time ON token_usage (namespace, timestamp);
"""
_REFUSALS = f"""
CREATE TABLE refusals (
    flush_id TEXT NOT NULL, namespace TEXT NOT NULL, place BIGINT NOT NULL,
    timestamp TIMESTAMPTZ NOT NULL, mode TEXT NOT NULL, cause TEXT NOT NULL, limits JSONB NOT NULL,
    team TEXT, agent TEXT, session_id TEXT, task_type TEXT, "user" TEXT, labels JSONB NOT NULL,
    provider TEXT, model TEXT,
    calls BIGINT NOT NULL, {", ".join(f"{name} BIGINT NOT NULL" for name in refusals.ASKED)},
    PRIMARY KEY (flush_id, namespace, place)
);
CREATE INDEX refusals_by_time ON refusals (namespace, timestamp);
"""
MIGRATIONS = {0: _TABLE + FORGOTTEN + CLOSINGS + rollups_postgres.TABLES + _REFUSALS}
"""By the schema that each leads from; 0 is a database without a ledger."""
MAKE_VERSION = "CREATE TABLE IF NOT EXISTS budgetguard_ledger (version INTEGER NOT NULL)"
READ_VERSION = "SELECT version FROM budgetguard_ledger"
HAS_VERSION = "SELECT to_regclass('budgetguard_ledger') IS NOT NULL"
FORGET_VERSION = "DELETE FROM budgetguard_ledger"
WRITE_VERSION = "INSERT INTO budgetguard_ledger (version) VALUES (%s)"
ONE_AT_A_TIME = f"SELECT {rollups_postgres.ONE_AT_A_TIME}"
DURABLE = """
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"""

_NAMES = ", ".join(f'"{name}"' for name in COLUMNS)
PRUNE_ROWS = """
DELETE FROM token_usage WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM token_usage WHERE namespace = %s AND timestamp < %s LIMIT %s))"""
ADD_REFUSALS = refusals.ADD_ROW.replace("?", "%s")
PRUNE_REFUSALS = """
DELETE FROM refusals WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM refusals WHERE namespace = %s AND timestamp < %s LIMIT %s))"""
PRUNE_SUMS = rollups.PRUNE_SUMS.replace("?", "%s")
PRUNE_STRETCHES = rollups.PRUNE_STRETCHES.replace("?", "%s")
PRUNE_GROUPS = rollups.PRUNE_GROUPS.replace("?", "%s")
INCOMING = f"""
CREATE TEMPORARY TABLE IF NOT EXISTS incoming ON COMMIT DELETE ROWS AS
SELECT {_NAMES} FROM token_usage LIMIT 0"""  # noqa: S608 - of constants
COPY_ROWS = f"COPY incoming ({_NAMES}) FROM STDIN"
# Of a row that comes twice in one batch only the highest revision: one statement writes no row twice.
WRITE_ROWS = f"""
INSERT INTO token_usage AS standing ({_NAMES})
SELECT DISTINCT ON (reservation_id, namespace) {_NAMES} FROM incoming
ORDER BY reservation_id, namespace, revision DESC
ON CONFLICT (reservation_id, namespace)
DO UPDATE SET {", ".join(f'"{name}" = excluded."{name}"' for name in COLUMNS[2:])}
WHERE excluded.revision > standing.revision"""  # noqa: S608 - of constants
