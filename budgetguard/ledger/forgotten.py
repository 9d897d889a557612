"""`forgotten`: up to when rows of a namespace were deleted, by whomever. Triggers keep it.

So it can be told whether what is spent beyond the rows that are left is what others had charged.
"""

from __future__ import annotations

SQLITE = """
CREATE TABLE forgotten (namespace TEXT PRIMARY KEY, until TEXT NOT NULL) WITHOUT ROWID;
CREATE TRIGGER forgotten_kept AFTER DELETE ON token_usage BEGIN
    INSERT INTO forgotten VALUES (OLD.namespace, OLD.timestamp)
    ON CONFLICT DO UPDATE SET until = max(until, excluded.until);
END;
"""
"""`until` is the latest admission of what was deleted, as `token_usage` has it."""
POSTGRES = """
CREATE TABLE forgotten (namespace TEXT PRIMARY KEY, until TIMESTAMPTZ NOT NULL);
CREATE FUNCTION forgotten_kept() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO forgotten SELECT namespace, max(timestamp) FROM dropped GROUP BY namespace
    ON CONFLICT (namespace) DO UPDATE SET until = greatest(forgotten.until, excluded.until);
    RETURN NULL;
END $$;
CREATE TRIGGER forgotten_kept AFTER DELETE ON token_usage REFERENCING OLD TABLE AS dropped
    FOR EACH STATEMENT EXECUTE FUNCTION forgotten_kept();
"""
READ = "SELECT until FROM forgotten WHERE namespace = ?"
