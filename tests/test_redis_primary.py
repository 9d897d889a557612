"""The primary is found where sentinels or a cluster say that it is, again whenever it moves."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from daemon_kit import free_port
from redis_ask_kit import SHORT_MS, connected, echo, ends_in_time, unusable
from redis_cluster_kit import Cluster
from redis_kit import RedisServer
from redis_sentinel_kit import NAME, SentinelFleet

from budgetguard.errors import StoreAway, StoreUnusable

KEY, LATE = "bg:{prod}:meta", "bg:{late}:meta"
COUNT = "local count = (redis.call('GET', KEYS[1]) or 0) + 1; redis.call('SET', KEYS[1], count); return count"
PATIENCE_MS = 15_000


def in_cluster(url: str) -> str:
    """The URL of a server, as one of a cluster's node."""
    return url.replace("redis", "redis+cluster", 1)


def bump(key: str = KEY) -> tuple[str, str, int, str]:
    """A script that counts in this key."""
    return ("EVAL", COUNT, 1, key)


@pytest.fixture
def cluster(redis_cluster: Cluster) -> Iterator[Cluster]:
    yield redis_cluster
    redis_cluster.owner(redis_cluster.slot_of(KEY)).ask("DEL", KEY)


def test_the_node_that_has_the_slot_is_found_from_any_other(cluster: Cluster) -> None:
    async def run() -> None:
        for count, node in enumerate(cluster.nodes, start=1):
            async with connected(in_cluster(node.url), slot_key=KEY.encode()) as server:
                assert await server.ask([bump(), ("GET", KEY)]) == [count, str(count).encode()]

    asyncio.run(run())


def test_a_slot_that_moves_is_followed(cluster: Cluster) -> None:
    slot = cluster.slot_of(KEY)

    async def run() -> None:
        async with connected(cluster.url, slot_key=KEY.encode()) as server:
            assert await server.ask([bump()]) == [1]
            for count, node in enumerate([node for node in cluster.nodes if not node.serves(slot)], start=2):
                cluster.move_slot(slot, node)
                assert await server.ask([bump()]) == [count]
                assert node.ask("GET", KEY) == str(count).encode()

    asyncio.run(run())


def test_a_slot_on_its_way_is_waited_for(cluster: Cluster) -> None:
    slot = cluster.slot_of(KEY)

    async def run() -> None:
        async with connected(cluster.url, slot_key=KEY.encode()) as server:
            assert await server.ask([bump()]) == [1]
            source = cluster.owner(slot)
            move = cluster.begin_move(slot, next(node for node in cluster.nodes if node is not source))
            assert await server.ask([bump()]) == [2]
            move.keys()
            waiting = asyncio.create_task(server.ask([bump()]))
            error = await ends_in_time(server.ask([bump()], asyncio.get_running_loop().time() + 0.2), 200)
            assert isinstance(error, StoreAway)
            assert "ASK" in str(error)
            move.finish()
            assert await waiting == [3]

    asyncio.run(run())


def test_nodes_that_are_gone_are_passed_over(cluster: Cluster) -> None:
    """The first cannot be reached, the second does not answer: the third is asked while there is time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hosts = [free_port(), silent.getsockname()[1], cluster.nodes[0].port]

        async def run() -> None:
            url = f"redis+cluster://{cluster.nodes[0].login}{','.join(f'127.0.0.1:{port}' for port in hosts)}"
            async with connected(url, 2_000, slot_key=KEY.encode()) as server:
                assert await server.ask([bump()]) == [1]

        asyncio.run(run())


def test_a_moved_without_a_host_means_the_same_one(cluster: Cluster) -> None:
    slot = cluster.slot_of(KEY)
    for node in cluster.nodes:
        node.ask("CONFIG", "SET", "cluster-preferred-endpoint-type", "unknown-endpoint")

    async def run() -> None:
        async with connected(cluster.url, slot_key=KEY.encode()) as server:
            assert await server.ask([bump()]) == [1]
            source = cluster.owner(slot)
            cluster.move_slot(slot, next(node for node in cluster.nodes if node is not source))
            assert await server.ask([bump()]) == [2]

    try:
        asyncio.run(run())
    finally:
        for node in cluster.nodes:
            node.ask("CONFIG", "SET", "cluster-preferred-endpoint-type", "ip")


def test_keys_of_two_slots_are_a_bug_that_is_told(cluster: Cluster) -> None:
    async def run() -> None:
        async with connected(cluster.url, 60_000, slot_key=KEY.encode()) as server:
            error = await ends_in_time(server.ask([("DEL", KEY, LATE)]), 20_000)
            assert isinstance(error, StoreUnusable)

    asyncio.run(run())


def test_urls_of_the_other_kind_are_told(cluster: Cluster, redis_server: RedisServer) -> None:
    other = next(node for node in cluster.nodes if not node.serves(cluster.slot_of(KEY)))

    async def run() -> None:
        assert "must begin with redis+cluster://" in str(await unusable(other.url, bump()))
        assert "must begin with redis://" in str(await unusable(in_cluster(redis_server.url), bump()))

    asyncio.run(run())


def test_a_slot_whose_node_died_is_found_where_the_other_nodes_say() -> None:
    with Cluster() as cluster:
        slot = cluster.slot_of(KEY)

        async def run() -> None:
            async with connected(cluster.url, PATIENCE_MS, slot_key=KEY.encode()) as server:
                assert await server.ask([bump()]) == [1]
                owner = cluster.owner(slot)
                others = [node for node in cluster.nodes if node is not owner]
                owner.kill()
                error = await ends_in_time(server.ask([bump()], asyncio.get_running_loop().time() + 0.3), 300)
                assert isinstance(error, StoreAway)
                for node in others:
                    node.cluster("SETSLOT", slot, "NODE", others[0].id)
                    node.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
                assert await server.ask([bump()]) == [1]
                assert others[0].ask("GET", KEY) == b"1"

        asyncio.run(run())


def test_sentinels_name_the_primary_and_its_successor() -> None:
    with SentinelFleet() as fleet:

        async def run() -> None:
            async with connected(fleet.url, PATIENCE_MS) as server, connected(fleet.url, PATIENCE_MS) as late:
                assert await server.ask([bump()]) == [1]
                fleet.sentinels[0].kill()  # the first that would be asked
                fleet.kill_primary()
                lost = server.ask([echo("x")], asyncio.get_running_loop().time() + 0.2)
                assert isinstance(await ends_in_time(lost, 200), StoreAway)
                assert await server.ask([echo("x")]) == [b"x"]
                assert await late.ask([bump(LATE)]) == [1]
                assert fleet.replica.ask("GET", LATE) == b"1"

        asyncio.run(run())


def test_what_sentinels_do_not_know_or_nobody_says_is_told() -> None:
    with RedisServer(arguments=["--sentinel"]) as sentinel, RedisServer(replicaof="127.0.0.1 1") as replica:

        async def end(url: str) -> Exception:
            async with connected(url, SHORT_MS) as server:
                return await ends_in_time(server.ask([echo("x")]), SHORT_MS)

        async def run() -> None:
            url = f"redis+sentinel://127.0.0.1:{sentinel.port}"
            assert f"it knows no master '{NAME}'" in str(await unusable(f"{url}/{NAME}"))
            assert isinstance(await end(f"{url},127.0.0.1:{free_port()}/{NAME}"), StoreAway)
            sentinel.ask("SENTINEL", "MONITOR", "stale", "127.0.0.1", replica.port, 1)
            stale = await end(f"{url}/stale")
            assert isinstance(stale, StoreAway)
            assert "is not (yet) a master" in str(stale)

        asyncio.run(run())


def test_a_sentinel_and_a_redis_are_told_apart(redis_server: RedisServer) -> None:
    with RedisServer(arguments=["--sentinel"]) as sentinel:
        ends = {
            f"redis://127.0.0.1:{sentinel.port}": "is it a sentinel?",
            f"redis+sentinel://127.0.0.1:{redis_server.port}/{NAME}": "it is no sentinel",
        }

        async def run() -> None:
            for url, said in ends.items():
                assert said in str(await unusable(url))

        asyncio.run(run())


def test_sentinels_have_logins_of_their_own(redis_server: RedisServer) -> None:
    with RedisServer(arguments=["--sentinel"], requirepass="sentinel-secret") as sentinel:
        sentinel.ask("SENTINEL", "MONITOR", NAME, "127.0.0.1", redis_server.port, 1)

        async def run() -> None:
            url = f"redis+sentinel://127.0.0.1:{sentinel.port}/{NAME}"
            async with connected(f"{url}?sentinel_password=sentinel-secret") as server:
                assert await server.ask([echo("x")]) == [b"x"]
            for query in ("", "?sentinel_password=wrong-secret"):
                said = str(await unusable(url + query))
                assert "sentinel_password" in said
                assert "secret" not in said

        asyncio.run(run())
