"""The ledger in a real PostgreSQL: what SQLite's says, whatever comes again, and nothing lost while it is away."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest
from drain_kit import NAMESPACE, MemoryOutbox, row, said_by
from postgres_kit import PASSWORD, USER, Books, PostgresServer
from rollup_kit import rollups_in
from store_kit import NOON_MS, amounts, info, ledger, plan
from test_ledger_rollups import history

from budgetguard.core.model import UsageRow
from budgetguard.core.verbs import Row
from budgetguard.errors import ConfigError, StoreAway, StoreUnusable
from budgetguard.ledger import open_ledger
from budgetguard.ledger.drain import Drained, drain
from budgetguard.ledger.postgres import PostgresLedger
from budgetguard.ledger.sqlite import SQLiteLedger
from budgetguard.ledger.table import COLUMNS

TIMED = ("timestamp", "settled_at")
JSONS = ("labels", "accounts", "would_refuse")


def full() -> Row:
    """A row in which every column says something."""
    of = info(
        amounts(1), team="t", agent="a", session="s", task="k", user="u", model="m", provider="p", tenant="\u00e9"
    )
    return row(
        "full", usage=UsageRow(90, 70, 40, 30, 20, 1_234_567_890_123, "counted", True, 77), would_refuse=("w",),
        info=of, error_type="APIError", plan=plan("9 tokens/day", per=(("agent", 'a"\\'),)),
    )  # fmt: skip


def written(url: str, *rows: Row, timeout_ms: int = 30_000) -> None:
    found = PostgresLedger(url, timeout_ms)
    try:
        found.write([(NAMESPACE, one) for one in rows])
    finally:
        found.close()


def test_it_says_of_a_call_what_sqlite_says_of_it(postgres: Books, tmp_path: Path) -> None:
    made = [full(), row("plain", usage=UsageRow(5, 0, cost_nanousd=None))]
    written(postgres.url, *made)
    other = SQLiteLedger(str(tmp_path / "ledger.db"))
    other.write([(NAMESPACE, one) for one in made])
    other.close()
    names = [*COLUMNS, "cost"]
    quoted = ", ".join(f'"{name}"' for name in names)
    for id in ("full", "plain"):
        (found,) = postgres.ask(f"SELECT {quoted} FROM token_usage WHERE reservation_id = %s", id)
        told, expected = dict(zip(names, found, strict=True)), ledger(tmp_path / "ledger.db", id)
        assert expected is not None
        for name in TIMED:
            told[name] = told[name].astimezone(tz=None).strftime("%s")
            expected[name] = str(NOON_MS // 1000)
        expected |= {name: json.loads(expected[name]) for name in JSONS}
        told["cost"] = None if told["cost"] is None else float(told["cost"])
        assert told == expected
    ((cost,),) = postgres.ask("SELECT cost::text FROM token_usage WHERE reservation_id = 'full'")
    assert cost == "1234.567890123"


def test_rows_in_any_order_and_any_number_of_times_leave_the_truth_and_its_sums(postgres: Books) -> None:
    seed = random.randrange(2**32)
    print(f"\nseed {seed}")
    made, found = history(random.Random(seed)), PostgresLedger(postgres.url)
    for first in range(0, len(made), 90):
        found.write([(NAMESPACE, one) for one in made[first : first + 90]])
    found.write([("other", one) for one in made])
    found.close()
    expected = said_by(made) | said_by(made, "other")
    assert postgres.books() == expected
    assert rollups_in(postgres.ask)[0] == rollups_in(postgres.ask)[1]
    postgres.do("DELETE FROM token_usage WHERE reservation_id > 'r5'")
    assert rollups_in(postgres.ask)[0] == rollups_in(postgres.ask)[1] != {}


@pytest.mark.parametrize(
    "spoiled", [{"latency_ms": None}, {"latency_ms": 2**70}, {"info": None}, {"error_type": "\ud800"}], ids=str
)
def test_a_row_that_it_cannot_hold_is_found_among_the_others_and_stays(
    postgres: Books, spoiled: dict[str, Any]
) -> None:
    made = [row(f"r{n}") for n in range(9)]
    outbox, ledger = MemoryOutbox([*made[:4], row("bad", **spoiled), *made[4:]]), PostgresLedger(postgres.url)
    drained = asyncio.run(drain(outbox, ledger))
    ledger.close()
    assert (drained.rows, list(drained.unreadable), list(outbox.entries)) == (9, ["000005"], ["000005"])
    assert postgres.books() == said_by(made)


def test_labels_with_nul_are_written_with_what_stands_for_it(postgres: Books) -> None:
    """PostgreSQL holds no NUL in a text; a call whose label has one is recorded all the same."""
    odd = {"team": "a\0b", "tenant": "\\u0000\0", "x\0": "[\\u0000"}
    of = plan("9 tokens/day", per=(("team", "a\0b"),))
    written(postgres.url, row("r", info=info(amounts(1), **odd), plan=of))
    ((team, labels, accounts),) = postgres.ask("SELECT team, labels, accounts FROM token_usage")
    assert (team, labels) == ("a\ufffdb", {"tenant": "\\u0000\ufffd", "x\ufffd": "[\\u0000"})
    assert accounts[0][1] == [["team", "a\ufffdb"]]


def test_a_database_that_stops_loses_nothing_and_is_written_to_when_it_is_back(
    postgres: Books, postgres_server: PostgresServer
) -> None:
    made = [row(f"r{n}") for n in range(6)]
    outbox, ledger, drained = MemoryOutbox(made), PostgresLedger(postgres.url, 2_000), Drained()

    def stop_once(what: str) -> None:
        if what == "read" and drained.rows == 2 and postgres_server.running:
            postgres_server.stop()

    async def scenario() -> None:
        outbox.before = stop_once
        for _ in range(2):
            with pytest.raises(StoreAway, match="cannot be reached") as told:
                await drain(outbox, ledger, 2, drained)
            assert PASSWORD not in str(told.value) and postgres_server.shown_url in str(told.value)
        assert (drained.rows, len(outbox.entries)) == (2, 4)
        outbox.before = lambda what: None
        postgres_server.start()
        await drain(outbox, ledger, 2, drained)

    try:
        asyncio.run(scenario())
    finally:
        ledger.close()
        if not postgres_server.running:
            postgres_server.start()
    assert (drained.rows, outbox.entries, postgres.books()) == (6, {}, said_by(made))


def test_a_connection_that_is_cut_between_batches_is_made_anew(postgres: Books) -> None:
    ledger = PostgresLedger(postgres.url)
    ledger.write([(NAMESPACE, row("a"))])
    postgres.ask_as_admin(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{USER}'")
    with pytest.raises(StoreAway):
        ledger.write([(NAMESPACE, row("b"))])
    ledger.write([(NAMESPACE, row("b"))])
    ledger.close()
    assert postgres.books() == said_by([row("a"), row("b")])


def test_many_who_begin_at_once_and_write_the_same_calls_wait_for_each_other(postgres: Books) -> None:
    made = [row(f"r{n}", revision) for n in range(40) for revision in (1, 2)]
    faults: list[BaseException] = []

    def write(order: random.Random) -> None:
        try:
            for _ in range(3):
                written(postgres.url, *order.sample(made, len(made)))
        except BaseException as error:  # noqa: BLE001 - it is what the test asks about
            faults.append(error)

    threads = [threading.Thread(target=write, args=(random.Random(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert postgres.books() == said_by(made)
    assert rollups_in(postgres.ask)[0] == rollups_in(postgres.ask)[1]


def test_what_holds_it_for_longer_than_a_batch_may_take_makes_it_away(postgres: Books) -> None:
    written(postgres.url)
    with psycopg.connect(postgres.url) as other:
        other.execute("LOCK TABLE token_usage")
        with pytest.raises(StoreAway, match="statement timeout"):
            written(postgres.url, row("a"), timeout_ms=200)
    written(postgres.url, row("a"))
    assert postgres.books() == said_by([row("a")])


@pytest.mark.parametrize(
    ("made", "match"),
    [
        (
            "CREATE TABLE budgetguard_ledger (version INTEGER); INSERT INTO budgetguard_ledger VALUES (2)",
            "has schema 2",
        ),
        ("CREATE TABLE token_usage (mine INTEGER)", "already exists"),
    ],
)
def test_what_is_no_ledger_of_this_version_is_refused_and_stays(postgres: Books, made: str, match: str) -> None:
    tables = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()"
    postgres.do(made)
    before = sorted(postgres.ask(tables))
    for _ in range(2):
        with pytest.raises(StoreUnusable, match=match):
            written(postgres.url, row("a"))
    assert sorted(postgres.ask(tables)) == before


def test_a_user_who_may_not_make_tables_is_told_what_to_do(postgres: Books) -> None:
    postgres.ask_as_admin(f"REVOKE CREATE ON SCHEMA {postgres.schema} FROM {USER}")
    postgres.ask_as_admin(f"ALTER SCHEMA {postgres.schema} OWNER TO postgres")
    postgres.ask_as_admin(f"GRANT USAGE ON SCHEMA {postgres.schema} TO {USER}")
    with pytest.raises(StoreUnusable, match=r"permission denied .* let its user make and write tables") as told:
        written(postgres.url, row("a"))
    assert PASSWORD not in str(told.value)


def test_a_wrong_password_is_told_and_not_shown(postgres: Books) -> None:
    url = postgres.url.replace(":p%40ss", ":canary")
    with pytest.raises(StoreAway, match="password authentication failed") as told:
        written(url, row("a"))
    assert "canary" not in str(told.value) and "canary" not in repr(PostgresLedger(url))


@pytest.mark.parametrize(
    "url",
    [
        "postgres://h/db?canary=1", "postgresql://[canary", "postgresql://u:p@canary:x@h/db",
        "postgresql://u:12/canary@h/db", "postgresql://u:canary/x@h/db", "postgresql://h:canary/db",
    ],
)  # fmt: skip
def test_a_url_that_libpq_cannot_read_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="libpq cannot read this URL") as told:
        open_ledger(url)
    assert "canary" not in str(told.value)
