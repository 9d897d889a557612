"""The ledger of a Redis store: its outbox, drained by the command as a platform team would run it."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import openai
import pytest
from cli_kit import COMMAND, DEADLINE_S, Ended, command, environment
from daemon_kit import wait_until
from drain_kit import books
from redis_kit import RedisServer, key_prefix
from store_kit import LEASE_MS, NOON_MS, Plan, amounts, ask, claims, expire, plan, release, reserve, rows, settle

import budgetguard as bg
from budgetguard.core.machine import FORGOTTEN_REVISIONS
from budgetguard.stores import open_store
from budgetguard.testing import FakeClock, FakeProvider, ProviderPrice

MODEL = "acme-1"
PRICE = bg.Price(MODEL, {"input": "0.15", "output": "0.6"})
KNOWN = bg.LabelRules(known=("team", "agent", "tenant"))
PROVIDER_PRICES = {MODEL: ProviderPrice(150_000_000, 600_000_000)}


def drain(folder: Path, url: str, namespace: str, *more: str) -> Ended:
    """`budgetguard ledger drain` into ledger.db in the folder."""
    where = ("--to", "sqlite:///ledger.db", "--store", url, "--namespace", namespace)
    return command(folder, "ledger", "drain", *where, *more)


def waiting(server: RedisServer, namespace: str) -> int:
    """How many entries the outbox has."""
    return int(server.ask("XLEN", f"{key_prefix(namespace)}outbox"))


async def settled(store: Any, *ids: str, tokens: int = 5) -> None:
    """Let these calls end, which the store had not heard of."""
    now_ms = await store.open()
    of = plan("9999999 tokens/total", now_ms=now_ms)
    ops = [settle(id, of, amounts(tokens), admitted_ms=now_ms, tried_since_ms=now_ms) for id in ids]
    assert {answer.word for answer in await ask(store, *ops)} == {"late"}


def settle_now(url: str, namespace: str, *ids: str) -> None:
    async def scenario() -> None:
        store = open_store(url, namespace, 5_000)
        await settled(store, *ids)
        await store.aclose()

    asyncio.run(scenario())


async def call(guard: bg.Guard, client: openai.AsyncOpenAI, number: int) -> None:
    messages: Any = [{"role": "user", "content": "word" * (number + 1)}]
    labels: Any = {"team": "search", "agent": f"agent-{number % 3}", "labels": {"tenant": f"\u00e9-{number % 2}"}}
    async with guard.reserve(**labels, model=MODEL, estimate=bg.Usage(100, 300)) as hold:
        headers = {"x-request-id": hold.id, "x-output-tokens": str(7 * number)}
        response = await client.chat.completions.create(model=MODEL, messages=messages, extra_headers=headers)
        hold.record(response)


def test_guarded_calls_on_redis_stand_in_the_ledger_as_the_provider_billed_them(
    tmp_path: Path, redis_server: RedisServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Call by call, to the nano-dollar, with drains before, amid and after them."""

    async def scenario() -> list[Any]:
        async with FakeProvider(PROVIDER_PRICES) as provider:
            client = openai.AsyncOpenAI(base_url=provider.base_url, api_key="any", max_retries=0)
            store = bg.StoreSettings(url=redis_server.url, namespace=namespace)
            guard = bg.Guard("$5/day", "20 concurrent", store=store, prices=[PRICE], labels=KNOWN)
            async with client, guard:
                for first in (0, 12):
                    await asyncio.gather(*(call(guard, client, number) for number in range(first, first + 12)))
                    done = await asyncio.to_thread(drain, tmp_path, redis_server.url, namespace)
                    assert (done.out, done.err, done.code) == ("12 rows moved into sqlite:///ledger.db\n", "", 0)
            return list(provider.bill)

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert drain(tmp_path, redis_server.url, namespace).out == "0 rows moved into sqlite:///ledger.db\n"
    bill = asyncio.run(scenario())
    assert len(bill) == 24
    query = "SELECT reservation_id, prompt_tokens, completion_tokens, cost_nanousd FROM token_usage WHERE namespace = ?"
    found = sorted(rows(tmp_path / "ledger.db", query, namespace))
    assert found == sorted((b.request_id, b.input_tokens, b.output_tokens, b.cost_nanousd) for b in bill)
    by_label = "SELECT agent, labels, count(*) FROM token_usage GROUP BY 1, 2 ORDER BY 1, 2"
    assert rows(tmp_path / "ledger.db", by_label) == [
        (f"agent-{n}", f'{{"tenant":"\u00e9-{tenant}"}}', 4) for n in range(3) for tenant in (0, 1)
    ]
    assert waiting(redis_server, namespace) == 0
    assert (drain(tmp_path, redis_server.url, namespace).code, len(books(tmp_path / "ledger.db"))) == (0, 24)


def test_what_is_drained_from_redis_is_what_sqlite_writes_for_the_same_calls(
    tmp_path: Path, redis_url: str, namespace: str
) -> None:
    """Every column of every row: settled, assumed, late after an expiry, released after one, in shadow, of a gone
    window; drained between the revisions."""

    async def scenario() -> None:
        for url in (f"sqlite:///{tmp_path / 'store.db'}", redis_url):
            clock = FakeClock(NOON_MS)
            store: Any = open_store(url, namespace, 5_000, clock)
            await store.open()
            for part in history(clock):
                for ops in part:
                    await ask(store, *ops)
                if url == redis_url:
                    done = await asyncio.to_thread(drain, tmp_path, url, namespace)
                    assert (done.err, done.code) == ("", 0)
            await store.aclose()

    asyncio.run(scenario())
    query = "SELECT * FROM token_usage ORDER BY reservation_id"
    own, drained = rows(tmp_path / "store.db", query), rows(tmp_path / "ledger.db", query)
    # Which rows a forgotten id has had Redis cannot look up: the new one outranks them all.
    outranking = {row[0] for row in drained if row[2] == FORGOTTEN_REVISIONS + 1}
    assert outranking == {"again", "no plan", "unheard of"}
    assert [row if row[0] not in outranking else (*row[:2], 1, *row[3:]) for row in drained] == own
    statuses = "SELECT status, max(revision), count(*) FROM token_usage GROUP BY 1 ORDER BY 1"
    assert rows(tmp_path / "store.db", statuses) == [
        ("assumed", 1, 1), ("cancelled", 1, 1), ("expired", 1, 1), ("late", 2, 4), ("released", 2, 1),
        ("settled", 2, 2),
    ]  # fmt: skip


def history(clock: FakeClock) -> Iterator[list[list[Any]]]:
    """Operations in two parts; `clock` is moved meanwhile."""
    shadow = claims("shadow", ("1 tokens/hour",), NOON_MS, enforced=False)
    of = Plan(plan("99999 tokens/hour", "$5/rolling 10 minutes", "50 concurrent").claims + shadow)
    asked, actual = amounts(40, 2, 9_000), amounts(30, 2, 7_001)
    ids = ["expired", "found", "guess", "in time", "late", "released", "truth"]
    labels = {"team": "t\u00e9am", "tenant": "x\u0000\u202e", "model": "m", "provider": "p"}
    yield [
        [reserve(id, of, asked, **labels) for id in ids],
        [settle("in time", of, actual, asked, **labels), settle("unheard of", of, actual, **labels)],
        [settle("guess", of, asked, asked, "assumed", **labels), settle("truth", of, asked, asked, "assumed")],
        [settle("found", of, actual._replace(tokens=31, input_tokens=29), asked, "cancelled", **labels)],
    ]
    clock.advance(LEASE_MS)
    yield [
        [expire(id) for id in ("expired", "late", "released")],
        [settle("truth", of, actual, asked, **labels)],
        [settle("no plan", Plan(()), actual, **labels), settle("again", of, actual)],
    ]
    clock.advance(36 * 3_600_000)
    yield [
        [settle("late", of, actual, asked, "error", tried_since_ms=clock.now_ms(), **labels), release("released")],
        [settle("again", of, actual, tried_since_ms=clock.now_ms())],
    ]


NOT_ROWS = [
    {"row": b""},
    {"row": b"\xc1"},
    {"row": msgpack.packb([1, 2, 3])},
    {"row": msgpack.packb("settled")},
    {"row": msgpack.packb({"id": "x"})},
    {"row": msgpack.packb([["x"]] * 15)},
    {"row": msgpack.packb([None] * 15)},
    {"row": msgpack.packb([7] * 15)},
    {"another": b"field"},
]


@pytest.mark.parametrize("format", ["table", "json", "csv"])
def test_entries_that_are_no_rows_stay_are_named_and_hold_up_no_other(
    tmp_path: Path, redis_server: RedisServer, namespace: str, format: str
) -> None:
    outbox, bad = f"{key_prefix(namespace)}outbox", []
    for number, fields in enumerate(NOT_ROWS):
        settle_now(redis_server.url, namespace, f"r{number}")
        ((name, value),) = fields.items()
        bad.append(redis_server.ask("XADD", outbox, "*", name, value).decode())
    for moved in (len(NOT_ROWS), 0):
        done = drain(tmp_path, redis_server.url, namespace, "--format", format)
        assert done.code == 1
        assert [line.split()[1] for line in done.err.splitlines()] == bad
        told = {
            "store": f"redis://***@127.0.0.1:{redis_server.port}/0", "namespace": namespace,
            "ledger": "sqlite:///ledger.db", "rows": moved, "unreadable": bad,
        }  # fmt: skip
        if format == "json":
            assert json.loads(done.out) == [told]
        elif format == "csv":
            expected = {key: json.dumps(value) if key == "unreadable" else str(value) for key, value in told.items()}
            assert list(csv.DictReader(io.StringIO(done.out))) == [expected]
        else:
            assert done.out == f"{moved} rows moved into sqlite:///ledger.db\n"
    assert [entry_id.decode() for entry_id, _ in redis_server.ask("XRANGE", outbox, "-", "+")] == bad
    assert {id for _, id in books(tmp_path / "ledger.db")} == {f"r{number}" for number in range(len(NOT_ROWS))}


ODD: list[Any] = [None, True, -1, 2**53, 2**64 - 1, 1.5, b"", b"\xff", b"x", b"1", [], [b"x"], {}, {b"a": 1}, [[]] * 3]


def test_an_entry_with_anything_in_any_place_stops_no_drain_and_spoils_no_column(
    tmp_path: Path, redis_server: RedisServer, namespace: str
) -> None:
    settle_now(redis_server.url, namespace, "pattern")
    outbox = f"{key_prefix(namespace)}outbox"
    ((_, fields),) = redis_server.ask("XRANGE", outbox, "-", "+")
    whole = msgpack.unpackb(fields[b"row"] if isinstance(fields, dict) else fields[1], raw=True)
    for place in range(len(whole)):
        for odd in ODD:
            spoiled = [f"{place}", *whole[1:]]
            spoiled[place] = odd
            redis_server.ask("XADD", outbox, "*", "row", msgpack.packb(spoiled, use_bin_type=False))
    settle_now(redis_server.url, namespace, "last")
    done = drain(tmp_path, redis_server.url, namespace, "--format", "json")
    (told,) = json.loads(done.out)
    assert done.code == 1
    assert len(told["unreadable"]) == done.err.count("\n") == waiting(redis_server, namespace) > 100
    ids = in_ledger(tmp_path)
    assert {"pattern", "last"} <= ids
    whole_columns = [
        "revision", "prompt_tokens", "completion_tokens", "cache_read_tokens", "cache_write_tokens",
        "reasoning_tokens", "total_tokens", "cost_nanousd", "estimated_tokens", "estimated_cost_nanousd",
        "latency_ms", "expired_tokens", "expired_cost_nanousd", "slot_ms",
    ]  # fmt: skip
    wrong = " OR ".join(f"typeof({name}) <> 'integer' OR {name} < 0" for name in whole_columns)
    assert rows(tmp_path / "ledger.db", f"SELECT * FROM token_usage WHERE {wrong}") == []
    texts = " OR ".join(
        f"typeof({name}) <> 'text'" for name in ("host", "status", "labels", "accounts", "price_source")
    )
    assert rows(tmp_path / "ledger.db", f"SELECT * FROM token_usage WHERE {texts}") == []


@contextmanager
def service(folder: Path, url: str, namespace: str) -> Iterator[subprocess.Popen[str]]:
    """`budgetguard ledger drain --follow` with a policy, when it is at work; killed if the test fails."""
    settings = f'[store]\nurl = "{url}"\nnamespace = "{namespace}"\ntimeout = "300ms"\n'
    (folder / "own.toml").write_text(settings, encoding="utf-8")
    where = ["--to", "sqlite:///ledger.db", "--config", "own.toml", "--format", "json"]
    with subprocess.Popen(
        [*COMMAND, "ledger", "drain", "--follow", *where], cwd=folder, env=environment(folder), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == "draining until Ctrl-C\n"
            yield process
        finally:
            process.kill()


def in_ledger(folder: Path) -> set[str]:
    return {id for _, id in books(folder / "ledger.db")}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_service_drains_until_it_is_ended_and_tells_how_much(
    tmp_path: Path, redis_server: RedisServer, namespace: str, how: signal.Signals
) -> None:
    settle_now(redis_server.url, namespace, "before")
    with service(tmp_path, redis_server.url, namespace) as process:
        wait_until(lambda: in_ledger(tmp_path) == {"before"}, "the first row")
        settle_now(redis_server.url, namespace, "a", "b")
        wait_until(lambda: in_ledger(tmp_path) == {"before", "a", "b"}, "the others")
        wait_until(lambda: waiting(redis_server, namespace) == 0, "they are dropped")
        process.send_signal(how)
        out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, err) == (0, "")
    (told,) = json.loads(out)
    assert (told["rows"], told["unreadable"]) == (3, [])


def test_a_service_waits_while_redis_is_away_and_names_an_unreadable_entry_once(tmp_path: Path) -> None:
    namespace = "prod"
    with RedisServer(appendonly="yes", appendfsync="always") as server:
        settle_now(server.url, namespace, "a")
        bad = server.ask("XADD", f"{key_prefix(namespace)}outbox", "*", "row", b"").decode()
        with service(tmp_path, server.url, namespace) as process:
            wait_until(lambda: in_ledger(tmp_path) == {"a"}, "the first row")
            wait_until(lambda: waiting(server, namespace) == 1, "it is dropped")
            server.kill()
            assert process.stderr is not None
            assert process.stderr.readline().startswith(f"entry {bad} stays in the outbox, for a version")
            assert "could not be reached" in process.stderr.readline()
            server.start()
            assert process.stderr.readline() == "draining again\n"
            settle_now(server.url, namespace, "b")
            wait_until(lambda: in_ledger(tmp_path) == {"a", "b"}, "the row after the restart")
            wait_until(lambda: waiting(server, namespace) == 1, "it is dropped")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, err) == (1, "")
    (told,) = json.loads(out)
    assert (told["rows"], told["unreadable"]) == (2, [bad])
