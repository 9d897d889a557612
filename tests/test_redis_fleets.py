"""The tests' own cluster and sentinels do what the tests of the store rely on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from redis.cluster import RedisCluster
from redis.sentinel import Sentinel
from redis_cluster_kit import Cluster, Node
from redis_kit import MISSING, has_redis
from redis_sentinel_kit import NAME, SentinelFleet

pytestmark = pytest.mark.skipif(not has_redis(), reason=MISSING)
KEYS = [f"{{moved}}:{number}" for number in range(10)]


@pytest.fixture
def moved(redis_cluster: Cluster) -> Iterator[tuple[Cluster, int, Node, Node]]:
    """The cluster, a slot with ten keys in it, the node that has it, and another."""
    slot = redis_cluster.slot_of(KEYS[0])
    source = redis_cluster.owner(slot)
    for key in KEYS:
        source.ask("SET", key, key)
    yield redis_cluster, slot, source, next(node for node in redis_cluster.nodes if node is not source)
    redis_cluster.owner(slot).ask("DEL", *KEYS)


def test_a_cluster_serves_every_slot(redis_cluster: Cluster) -> None:
    with RedisCluster.from_url(redis_cluster.nodes[0].admin_url) as client:
        for number in range(50):
            assert client.set(f"any:{number}", number) and client.delete(f"any:{number}")


def test_a_slot_moves_with_its_keys(moved: tuple[Cluster, int, Node, Node]) -> None:
    cluster, slot, source, target = moved
    cluster.move_slot(slot, target)
    assert cluster.owner(slot) is target
    assert [target.ask("GET", key).decode() for key in KEYS] == KEYS
    with pytest.raises(redis.exceptions.MovedError):
        source.ask("GET", KEYS[0])


def test_half_way_a_slot_answers_ask_and_tryagain(moved: tuple[Cluster, int, Node, Node]) -> None:
    cluster, slot, source, target = moved
    move = cluster.begin_move(slot, target)
    assert move.keys(4) == 4
    gone = [key for key in KEYS if not exists(source, key)]
    assert len(gone) == 4
    here = next(key for key in KEYS if key not in gone)
    with pytest.raises(redis.exceptions.AskError):
        source.ask("GET", gone[0])
    with pytest.raises(redis.exceptions.TryAgainError):
        source.ask("MGET", gone[0], here)
    move.finish()
    assert cluster.owner(slot) is target


def exists(node: Node, key: str) -> bool:
    """Whether the key stands on this node, whose slot is on its way."""
    return key.encode() in node.cluster("GETKEYSINSLOT", node.cluster("KEYSLOT", key), 100)


def test_sentinels_replace_a_killed_primary_and_lose_what_its_replica_had_not_got() -> None:
    with SentinelFleet() as fleet:
        first = fleet.primary
        first.ask("SET", "kept", "1")
        assert first.ask("WAIT", 1, 5_000) == 1
        fleet.pause_replica()
        first.ask("SET", "lost", "1")
        fleet.kill_primary()
        now = fleet.wait_for_new_primary()
        assert now is fleet.primary is not first
        assert now.keys() == ["kept"]
        with Sentinel([("127.0.0.1", each.port) for each in fleet.sentinels]).master_for(NAME) as client:
            assert client.set("more", "1")
        assert now.keys() == ["kept", "more"]
