"""A Redis user of few permissions: those that the README lists are enough, and each of them is needed and named."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cli_kit import POLICY, fill
from guard_kit import ESTIMATE, PATIENT_MS
from redis_acl import CLUSTER, COMMANDS, DATABASE, EVERY_NAMESPACE, OF_SENTINELS, PASSWORD, SENTINEL, rules
from redis_ask_kit import LONG_MS, SHORT_MS, told_unusable
from redis_cluster_kit import Cluster
from redis_kit import MISSING, RedisServer, has_redis, key_prefix
from redis_sentinel_kit import NAME
from redis_world import RedisWorld
from store_kit import DAY_MS, NOON_MS, amounts, ask_one, expire, extend, grow, plan, release, reserve, settle

from budgetguard.cli.app import run
from budgetguard.store import Cause, OutputCount, RefusalCount
from budgetguard.stores import open_store, store_exists
from budgetguard.stores.redis import RedisStore
from budgetguard.stores.redis.namespaces import let_lapse
from budgetguard.stores.redis.outbox import RedisOutbox
from budgetguard.stores.scripts import commands
from budgetguard.testing import FakeClock

pytestmark = pytest.mark.skipif(not has_redis(), reason=MISSING)
README = Path(__file__).parents[1] / "README.md"
ESTIMATED = amounts(100, 50)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as made:
        yield made


def login(server: RedisServer, name: str, permitted: Iterable[str], pattern: str = EVERY_NAMESPACE) -> str:
    """The URL of a user who may do this and nothing else."""
    server.ask("ACL", "SETUSER", name, "reset", *rules(permitted, pattern))
    return f"redis://{name}:{quote(PASSWORD, safe='')}@127.0.0.1:{server.port}"


async def every_verb(store: RedisStore) -> None:
    """Each does something; one reserve is refused, one finds the outbox read for its length."""
    now_ms = await store.open()
    of = plan("200 tokens/total", "500 tokens/rolling 10 minutes", now_ms=now_ms, alert_levels=(1,))
    for id, lease_ms in (("a", 60_000), ("b", 1)):
        asked = reserve(id, of, ESTIMATED, tried_since_ms=now_ms, lease_ms=lease_ms)
        answer = await ask_one(store, asked._replace(estimate=amounts(50, 10)))
        assert answer.word == "granted"
    assert (await ask_one(store, reserve("c", of, ESTIMATED, tried_since_ms=now_ms))).word == "refused"
    assert (await ask_one(store, grow("a", of, amounts(60, 10)))).word == "granted"
    assert (await ask_one(store, extend("a", 90_000))).word == "extended"
    ended = settle("a", of, amounts(60, 5), ESTIMATED, admitted_ms=now_ms, tried_since_ms=now_ms)
    assert (await ask_one(store, ended)).word == "settled"
    assert (await ask_one(store, release("b"))).word == "released"
    assert (await ask_one(store, expire("d"))).word == "unknown"
    assert await store.announce([(of.claims[0].account, 60)]) == [True]
    assert await store.first_to_tell([Cause("a cause", 60_000, "i")]) == [True]
    await store.note_refusals("f", [RefusalCount(now_ms, False, "LabelRequired", (), {}, 1, amounts(1))])
    await store.note_outputs("f", 60_000, [OutputCount("a set", 7, 1)])
    assert [row.words for row in await store.read_outputs()] == ["a set"]


async def every_look(url: str, namespace: str, store: RedisStore, timeout_ms: int) -> None:
    """What commands that look and drain ask, and what forgets what is old."""
    now_ms = await store.open()
    held = plan("9k tokens/total", now_ms=now_ms)
    assert (await ask_one(store, reserve("held", held, ESTIMATED, tried_since_ms=now_ms))).word == "granted"
    assert (await store.read_accounts()).rows and (await store.read_holds()).rows
    assert [row.spent for row in await store.read_balances([held.claims[0].account])]
    assert await store.backlog()
    assert await store_exists(url, namespace, timeout_ms)
    async with aclosing(RedisOutbox(url, namespace, timeout_ms)) as outbox:
        await outbox.drop([entry.entry_id for entry in await outbox.read(100)])


async def everything(url: str, namespace: str, timeout_ms: int = PATIENT_MS) -> None:
    """Whatever budgetguard asks of a Redis at a fixed place."""
    clock = FakeClock(NOON_MS)
    for name, store in (
        (namespace, RedisStore(url, namespace, timeout_ms)),
        (f"{namespace}-then", RedisStore(url, f"{namespace}-then", timeout_ms, clock)),
    ):
        async with aclosing(store):
            await every_verb(store)
            await every_look(url, name, store, timeout_ms)
            for _ in range(3):
                clock.advance(500 * DAY_MS)
                await store.due(10)
            await let_lapse(url, name, timeout_ms)


def end_of(url: str, namespace: str) -> str:
    """What whoever lacks a permission is told; with no secret in it."""
    # Each time in a namespace of its own: there may be something in the first.
    asked = told_unusable(lambda timeout_ms: everything(url, namespace + "-" * (timeout_ms != SHORT_MS), timeout_ms))
    said = str(asyncio.run(asked))
    assert "give its user what the ACL in budgetguard's README lists" in said
    assert PASSWORD not in said and quote(PASSWORD, safe="") not in said
    return said.lower()


def test_the_readme_lists_what_the_tests_may_do() -> None:
    text = README.read_text(encoding="utf-8")
    (line,) = re.findall(r"^ACL SETUSER budgetguard on >PASSWORD (.+)$", text, re.MULTILINE)
    assert line.split() == rules(COMMANDS, "~bg:{prod}:*")[2:]
    for more in (DATABASE, SENTINEL, CLUSTER, OF_SENTINELS):
        assert f"`+{more}`" in text
    assert set(map(str.lower, commands())) <= set(COMMANDS)


def test_a_user_of_one_namespace_does_everything_there_and_nothing_elsewhere(server: RedisServer) -> None:
    url = login(server, "one", COMMANDS, "~bg:{one}:*")
    login(server, "then", COMMANDS, "~bg:{one-then}:*")
    server.ask("ACL", "SETUSER", "one", "~bg:{one-then}:*")
    server.ask("SCRIPT", "FLUSH")
    asyncio.run(everything(url, "one"))
    assert server.refused("one") == set()
    for other in ("two", "on", "one2", "one}:meta"):
        assert "keys" in end_of(url, other)
        assert server.keys(f"{key_prefix(other)}*") == []


def test_the_pattern_has_the_namespace_percent_encoded(server: RedisServer) -> None:
    url = login(server, "odd", COMMANDS, "~bg:{search%20t%C3%A9am%2A}:*")

    async def main(namespace: str, timeout_ms: int = PATIENT_MS) -> None:
        async with aclosing(open_store(url, namespace, timeout_ms)) as store:
            await store.open()

    asyncio.run(main("search téam*"))
    assert "keys" in str(asyncio.run(told_unusable(lambda timeout_ms: main("search téam%2A", timeout_ms))))


@pytest.mark.parametrize("missing", COMMANDS)
def test_a_command_taken_away_is_named_and_needed(server: RedisServer, missing: str) -> None:
    """What scripts need is told when the store is opened, before a call is admitted that could not be recorded."""
    url = login(server, "less", [name for name in COMMANDS if name != missing])
    server.ask("SCRIPT", "FLUSH")
    said = end_of(url, f"less-{missing}")
    assert re.search(rf"\b{missing}\b", said.partition("lists (")[2])
    if missing.upper() in commands():
        assert server.keys(f"bg:{{less-{missing}}}:*") == []


def test_all_that_scripts_lack_is_told_at_once_to_a_guard_that_admits_nothing(
    server: RedisServer, state_home: None
) -> None:
    world = RedisWorld(server, "some", login(server, "some", ["eval", "evalsha", "info", "hget", "hset"]))

    async def main(timeout_ms: int) -> None:
        async with aclosing(world.guard("9k tokens/total", timeout_ms=timeout_ms)) as guard:
            await guard.reserve(estimate=ESTIMATE)

    said = str(asyncio.run(told_unusable(main)))
    lacking = set(commands()) - {"HGET", "HSET"}
    assert set(re.findall("[A-Z]{3,}", said.partition("lists (")[2])) == lacking
    assert server.keys(key_prefix("some") + "*") == []


async def asked_of(stores: dict[int, RedisStore], op: Any, timeout_ms: int) -> None:
    await ask_one(stores[timeout_ms], op)


@pytest.mark.parametrize(
    ("missing", "told"),
    [("xadd", "XADD, which a script runs"), ("set", "SET, which"), ("hmget", "HMGET, which"), ("xlen", "")],
)
def test_a_permission_that_is_gone_for_a_while_is_told_and_counts_nothing_twice(
    server: RedisServer, missing: str, told: str
) -> None:
    world = RedisWorld(server, f"while-{missing}", login(server, "while", COMMANDS))

    async def main() -> None:
        async with world.opened() as store, world.opened(SHORT_MS) as hasty:
            of, now_ms = world.plan("9k tokens/total"), world.now_ms()
            ops = [reserve(id, of, ESTIMATED, tried_since_ms=now_ms) for id in "ab"]
            ended = settle("a", of, ESTIMATED, ESTIMATED, admitted_ms=now_ms, tried_since_ms=now_ms)
            assert (await ask_one(store, ops[0])).word == "granted"
            server.ask("ACL", "SETUSER", "while", f"-{missing}")
            for op in (ops[1], ended):
                if missing != ("xlen" if op is ended else "xadd"):
                    asked = partial(asked_of, {SHORT_MS: hasty, LONG_MS: store}, op)
                    said = str(await told_unusable(asked))
                    assert re.search(f"the ACL in budgetguard's README lists .{told}", said)
            server.ask("ACL", "SETUSER", "while", f"+{missing}")
            assert (await ask_one(store, ops[1])).word in ("granted", "replayed")
            assert (await ask_one(store, ended)).word == "settled"
        assert await world.stands() == {"all tokens/total": (150, 150)}
        assert {(row.id, row.status, row.revision) for row in world.rows()} == {("a", "settled", 1)}

    asyncio.run(main())


def test_sentinels_and_what_they_watch_need_one_command_more_each(server: RedisServer) -> None:
    with RedisServer(arguments=["--sentinel"], user="watcher on nopass") as sentinel:
        sentinel.ask("SENTINEL", "MONITOR", NAME, "127.0.0.1", server.port, 1)

        def url(of_sentinel: list[str], of_server: list[str]) -> str:
            sentinel.ask("ACL", "SETUSER", "watched", "reset", *rules(of_sentinel))
            user = login(server, "watched", of_server).removeprefix("redis://").partition("@")[0]
            watched = f"sentinel_username=watched&sentinel_password={quote(PASSWORD, safe='')}"
            return f"redis+sentinel://{user}@127.0.0.1:{sentinel.port}/{NAME}?{watched}"

        asyncio.run(everything(url([OF_SENTINELS], [*COMMANDS, SENTINEL]), "watched"))
        assert "'role'" in end_of(url([OF_SENTINELS], [*COMMANDS]), "unknown")
        assert f"'{OF_SENTINELS}'" in end_of(url([], [*COMMANDS, SENTINEL]), "unwatched")


def test_a_cluster_and_another_database_need_one_command_more(server: RedisServer, redis_cluster: Cluster) -> None:
    asyncio.run(everything(login(server, "in-db", [*COMMANDS, DATABASE]) + "/1", "in-db"))
    assert "'select'" in end_of(login(server, "in-db", COMMANDS) + "/1", "no-db")
    node = redis_cluster.nodes[0]
    try:
        url = login(node, "lost", COMMANDS).replace("redis", "redis+cluster", 1)
        assert f"'{CLUSTER}'" in end_of(url, "lost")
    finally:
        node.ask("ACL", "DELUSER", "lost")


def test_the_commands_work_as_a_user_of_one_namespace(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = login(server, "shell", COMMANDS, "~bg:{shell}:*")
    fill(tmp_path, POLICY.replace('url = "sqlite:///budgets.db"', f'url = "{url}"\nnamespace = "shell"'))

    monkeypatch.chdir(tmp_path)

    def said(*args: str) -> str:
        assert run([*args]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    assert "crawler" in said("status")
    assert "r-open" in said("holds")
    assert "1 open holds" in said("init", "--accept-loss")
    assert "2 rows moved" in said("ledger", "drain", "--to", "sqlite:///ledger.db")
    assert "each-agent" in said("check")
    assert server.refused("shell") == set()
