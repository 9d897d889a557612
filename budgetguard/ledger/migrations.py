"""How a database of an older schema becomes one of this version's: one step after the other, each from its number."""

from __future__ import annotations

from collections.abc import Mapping

from budgetguard.errors import StoreUnusable
from budgetguard.ledger import closing_schema, forgotten, refusals, rollups_sqlite

SECOND_USAGE_TABLE = f"""
ALTER TABLE token_usage ADD COLUMN attempt INTEGER NOT NULL DEFAULT 1;
ALTER TABLE token_usage ADD COLUMN streamed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE token_usage ADD COLUMN first_token_ms INTEGER;
ALTER TABLE token_usage ADD COLUMN prompt_hash TEXT;
ALTER TABLE token_usage ADD COLUMN process TEXT NOT NULL DEFAULT '';
ALTER TABLE token_usage ADD COLUMN library_version TEXT NOT NULL DEFAULT '';
CREATE INDEX token_usage_by_time ON token_usage (namespace, timestamp);
{rollups_sqlite.TABLES}
{rollups_sqlite.FILL}
{refusals.TABLE}
{closing_schema.SQLITE}
{forgotten.SQLITE}
"""
"""What the second version of a ledger in SQLite has more than the first."""


def steps_between(what: str, version: int, schema: int, steps: Mapping[int, str]) -> list[tuple[str, int]]:
    """The SQL that leads from a version to the schema, in order, each with the version that it makes.

    Args:
        what: how an error calls the database.
        steps: by the number that each leads from.

    Raises:
        StoreUnusable: it is newer, or so old that nothing leads from it; it is to stay as it is.
    """
    numbers = range(version, schema)
    if version > schema or not all(number in steps for number in numbers):
        raise StoreUnusable(
            f"{what} has schema {version} and this budgetguard reads schema {schema}: "
            "use the version that wrote it, or another file"
        )
    return [(steps[number], number + 1) for number in numbers]
