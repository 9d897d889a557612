"""The command line on Redis: it says what it says on SQLite, makes nothing where it looks, and shows no password."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_kit import COMMAND, DEADLINE_S, POLICY, Ended, command, environment, fill
from daemon_kit import free_port
from guard_kit import until
from redis_kit import MISSING, RedisServer, has_redis, key_prefix
from redis_world import RedisWorld
from test_cli import CHANGED

import budgetguard as bg
from budgetguard.cli.app import run
from budgetguard.cli.sources import shown_store
from budgetguard.core.verbs import Release
from budgetguard.policy import StoreSettings
from budgetguard.stores import open_spool

pytestmark = pytest.mark.skipif(not has_redis(), reason=MISSING)
SQLITE_LINE = 'url = "sqlite:///budgets.db"'
NAMESPACE = "prod"


def on(url: str, policy: str = POLICY, timeout: str = "30s") -> str:
    """The policy on a Redis."""
    return policy.replace(SQLITE_LINE, f'url = "{url}"\nnamespace = "{NAMESPACE}"\ntimeout = "{timeout}"')


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(requirepass="s3cret") as server:
        yield server


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, server: RedisServer) -> tuple[Path, Path]:
    """A folder with a policy and a store in SQLite, and one with the same in Redis; nobody changes them."""
    return fill(tmp_path_factory.mktemp("sqlite")), fill(tmp_path_factory.mktemp("redis"), on(server.url))


def said(place: Path, *args: str) -> Any:
    """What a command prints, without times and the store's place."""
    done = command(place, *args)
    assert (done.err, done.code) == ("", 0)
    if "json" not in args:
        return done.out
    found = json.loads(done.out)
    for record in found if isinstance(found, list) else [found]:
        for key in ("admitted_ms", "lease_end_ms", "age_ms", "lease_left_ms", "store", "namespace"):
            record.pop(key, None)
    return found


@pytest.mark.parametrize(
    "args",
    [
        ("status",),
        ("status", "--format", "csv", "--label", "agent=cr*"),
        ("holds", "--format", "json"),
        ("check", "--format", "json"),
    ],
)
def test_it_says_what_it_says_on_sqlite(places: tuple[Path, Path], args: tuple[str, ...]) -> None:
    on_sqlite, on_redis = (said(place, *args) for place in places)
    assert on_redis == on_sqlite
    assert len(on_redis) > 0


def test_check_says_what_a_change_starts_at_zero(places: tuple[Path, Path], server: RedisServer) -> None:
    found = []
    for place, policy in zip(places, (CHANGED, on(server.url, CHANGED)), strict=True):
        (place / "changed.toml").write_text(policy, encoding="utf-8")
        found.append(said(place, "check", "-c", "changed.toml", "--format", "json")["resets"])
    assert sorted(found[0]) == sorted(found[1])
    assert len(found[1]) == 6


def test_without_a_policy_status_shows_what_stands_in_the_namespace_that_is_the_default(
    places: tuple[Path, Path], tmp_path: Path, server: RedisServer
) -> None:
    policy = on(server.url).replace(f'namespace = "{NAMESPACE}"', "")
    fill(tmp_path, policy)
    (tmp_path / "budgetguard.toml").unlink()
    found = said(tmp_path, "status", "--format", "json", "--store", server.url)
    assert found == said(tmp_path, "status", "--format", "json", "--store", f"sqlite:///{places[0] / 'budgets.db'}")
    assert {row["limit"] for row in found} == {None}


def test_who_only_looks_makes_nothing(
    tmp_path: Path, redis_server: RedisServer, namespace: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    policy = on(redis_server.url).replace(f'"{NAMESPACE}"', f'"{namespace}"')
    (tmp_path / "budgetguard.toml").write_text(policy, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    codes = [run(args.split()) for args in ("status", "holds", "check", "holds release r-open")]
    assert codes == [0, 0, 0, 1]
    out, err = capsys.readouterr()
    assert "5M tokens/total" in out
    assert "no open holds" in out
    assert err == ""
    assert redis_server.keys(f"{key_prefix(namespace)}*") == []


def test_watched_accounts_follow_and_a_hold_is_released_once(tmp_path: Path, server: RedisServer) -> None:
    fill(tmp_path, on(server.url).replace(f'"{NAMESPACE}"', '"watched"'))
    with subprocess.Popen(
        [*COMMAND, "status", "--watch", "--agent", "crawler", "--format", "csv"], cwd=tmp_path,
        env=environment(tmp_path), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        first = [process.stdout.readline() for _ in range(6)]
        done = command(tmp_path, "holds", "release", "r-open", "r-typo", "--format", "json")
        words = [record["answer"] for record in json.loads(done.out)]
        assert (words, done.code) == (["released", "no open hold has this id"], 1)
        second = [process.stdout.readline() for _ in range(6)]
        assert "120000,,100000,,280000" in first[4]
        assert "120000,,0,,380000" in second[4]
        process.send_signal(2)
        assert (process.stderr.read(), process.wait(DEADLINE_S)) == ("", 130)
    assert command(tmp_path, "holds", "release", "r-open").code == 1


# Redis is not there, or not as it must be


Said = Callable[[str], dict[str, Ended]]


@pytest.fixture
def wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Said:
    """What each command says of a store with this URL. It is not long that an absent one is asked."""
    monkeypatch.chdir(tmp_path)

    def said(url: str) -> dict[str, Ended]:
        (tmp_path / "budgetguard.toml").write_text(on(url, timeout="300ms"), encoding="utf-8")
        found = {}
        for name in ("status", "holds", "check", "init --accept-loss", "ledger drain --to sqlite:///ledger.db"):
            code = run(name.split())
            found[name] = Ended(*capsys.readouterr(), code)
        return found

    return said


def check_said(ended: dict[str, Ended], text: str) -> None:
    """All but `check` failed, in one line."""
    for name, done in ended.items():
        assert text in done.err, name
        assert done.err.count("\n") == 1, name
        assert done.code == (0 if name == "check" else 2), name
        assert "s3cret" not in done.out + done.err
    assert "the store was not looked at" in ended["check"].err
    assert "is valid" in ended["check"].out


def test_a_redis_that_is_not_there_is_one_line(wrong: Said) -> None:
    port = free_port()
    check_said(wrong(f"redis://app:s3cret@127.0.0.1:{port}/2"), f"redis://127.0.0.1:{port}/2 could not be reached")


def test_a_wrong_password_is_one_line(wrong: Said, server: RedisServer) -> None:
    text = "it does not accept user:password@ of the store's URL"
    check_said(wrong(f"redis://:s3cretive@127.0.0.1:{server.port}"), text)


def test_a_server_that_evicts_is_one_line(wrong: Said) -> None:
    with RedisServer(requirepass="s3cret", maxmemory_policy="allkeys-lru") as server:
        ended = wrong(server.url)
        drained = ended.pop("ledger drain --to sqlite:///ledger.db")
        check_said(ended, "set maxmemory-policy noeviction there, or allow_eviction = true under [store] here")
        assert (drained.code, drained.err) == (0, ""), "it takes what is still there"


@pytest.mark.parametrize(
    "url",
    [
        "redis://s3cret@/0",
        "redis://app:s3/cret@127.0.0.1:1/0",
        "redis+sentinel://app:s3cret@127.0.0.1:1",
        "redis://127.0.0.1:1/0?password=s3cret",
        "rediss+cluster://app:s3cret@127.0.0.1:1/7",
    ],
)
def test_a_url_of_no_redis_is_one_line(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("status", "holds", "init --accept-loss", "ledger drain --to sqlite:///l.db", "demo"):
        assert run([*name.split(), "--store", url]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1), err
        assert "cret" not in err
        assert "store.url" in err


def test_no_password_is_shown_of_any_url_that_is_right() -> None:
    for url in (
        "redis://app:s3cret@h:1/0", "unix://:s3cret@/run/redis.sock?db=1",
        "redis+sentinel://app:s3cret@h/m?sentinel_username=ops&sentinel_password=s3cret&db=1",
    ):  # fmt: skip
        shown = shown_store(StoreSettings(url=url))
        assert "s3cret" not in shown
        assert "***" in shown
    assert shown.endswith("@h/m?sentinel_username=ops&sentinel_password=***&db=1")


def test_the_spool_of_a_redis_is_the_same_after_its_password_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one login has spooled, the next one delivers."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    urls = ("redis://app:old@h:1/0", "redis://:new@h:1", "redis://h:1/1", "redis://h:2")
    open_spool(urls[0], "prod", None).put([Release("r-1", 900_000)])
    assert [len(open_spool(url, "prod", None)) for url in urls] == [1, 1, 0, 0]
    assert len(open_spool(urls[0], "test", None)) == 0


# State is lost


async def made(guard: bg.Guard) -> bg.Hold:
    return await guard.reserve(estimate=bg.Usage(100, 50))


@pytest.mark.parametrize("begun_anew", [False, True])
def test_after_a_flush_nothing_is_admitted_until_the_loss_is_accepted_and_then_all_go_on(
    tmp_path: Path, state_home: None, begun_anew: bool
) -> None:
    """Whether or not a new process has come meanwhile, which knows of no loss, and makes a new state."""

    async def accepted(server: RedisServer) -> Any:
        store = ("--store", server.url, "--format", "json")
        done = await asyncio.to_thread(command, tmp_path, "init", "--accept-loss", *store)
        assert (done.err, done.code) == ("", 0)
        (found,) = json.loads(done.out)
        return found

    async def main(server: RedisServer) -> None:
        world = RedisWorld(server, "default")
        async with world.guard("9k tokens/day") as one, world.guard("9k tokens/day") as other:
            holds = [await made(one), await made(other), await made(one)]
            await holds[0].settle(bg.Usage(100, 40))
            server.ask("FLUSHALL")
            if begun_anew:
                async with world.guard("9k tokens/day") as third:
                    await (await made(third)).settle(bg.Usage(100, 10))
            before = server.keys()
            assert (before == []) is not begun_anew
            for guard in (one, other, one):
                with pytest.raises(bg.StateLost, match="budgetguard init --accept-loss"):
                    await made(guard)
            await holds[1].settle(bg.Usage(100, 20))
            assert server.keys() == before, "nothing is admitted, and nothing written"
            found = await accepted(server)
            assert (found["new"], found["accounts"], found["open_holds"]) == (not begun_anew, int(begun_anew), 0)
            for guard in (one, other):
                await (await made(guard)).settle(bg.Usage(100, 1))
            await holds[2].settle(bg.Usage(100, 30))
        async with world.guard("9k tokens/day"):  # what was used meanwhile may be in the spool
            await until(lambda: [row.status for row in world.rows()].count("late") == 2, "what was used is delivered")
        spent = 2 * 101 + 120 + 130 + (110 if begun_anew else 0)
        assert list((await world.stands()).values()) == [(spent, 0)]
        rows = [(row.status, row.usage.completion_tokens) for row in world.rows()]
        assert sorted(rows)[:2] == [("late", 20), ("late", 30)], "what was used is charged"
        server.ask("FLUSHALL")
        async with RedisWorld(server, "default").guard("9k tokens/day") as new:
            await (await made(new)).release()

    with RedisServer() as server:
        asyncio.run(main(server))
