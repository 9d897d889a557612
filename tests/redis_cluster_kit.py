"""A real Redis cluster for the tests: three nodes without replicas, whose slots can be moved."""

from __future__ import annotations

from typing import Any

from daemon_kit import wait_until
from redis_kit import Option, RedisServer

SLOTS = 16_384
NODE_COUNT = 3
MOST_KEYS = 1_000


class Node(RedisServer):
    """One node, and the slots as it sees them."""

    def cluster(self, *command: Any) -> Any:
        """The reply to a CLUSTER command."""
        return self.ask("CLUSTER", *command)

    @property
    def id(self) -> str:
        return str(self.cluster("MYID").decode())

    def ready(self) -> bool:
        """Whether it knows every node, and that all slots are served."""
        info = self.cluster("INFO").decode().split()
        return {"cluster_state:ok", f"cluster_known_nodes:{NODE_COUNT}"} <= set(info)

    def serves(self, slot: int) -> bool:
        """Whether the slot is its own, as it sees it."""
        id = self.id.encode()
        return any(first <= slot <= last for first, last, primary, *_ in self.cluster("SLOTS") if primary[2] == id)


class Move:
    """A slot on its way from one node to another. Between its steps, keys of the slot stand on both."""

    def __init__(self, cluster: Cluster, slot: int, source: Node, target: Node) -> None:
        self.slot, self.source, self.target = slot, source, target
        self._cluster = cluster
        target.cluster("SETSLOT", slot, "IMPORTING", source.id)
        source.cluster("SETSLOT", slot, "MIGRATING", target.id)

    def keys(self, most: int = MOST_KEYS) -> int:
        """Move at most so many keys. How many that were."""
        keys = self.source.cluster("GETKEYSINSLOT", self.slot, most)
        if keys:
            login = ["AUTH", self.source.password] if self.source.password else []
            self.source.ask("MIGRATE", "127.0.0.1", self.target.port, "", 0, 5_000, "REPLACE", *login, "KEYS", *keys)
        return len(keys)

    def finish(self) -> None:
        """Move the keys that are left, then give the slot to its new node."""
        while self.keys():
            pass
        for node in (self.target, self.source, *self._cluster.nodes):
            node.cluster("SETSLOT", self.slot, "NODE", self.target.id)


class Cluster:
    """Three nodes that serve all slots between them. Options are those of each `RedisServer`."""

    def __init__(self, **options: Option) -> None:
        self.nodes: list[Node] = []
        try:
            for _ in range(NODE_COUNT):
                self.nodes.append(
                    Node(
                        cluster_enabled="yes", cluster_config_file="nodes.conf", cluster_node_timeout="2000", **options
                    )
                )
            self._join()
        except BaseException:
            self.close()
            raise

    def _join(self) -> None:
        share = -(-SLOTS // NODE_COUNT)
        for number, node in enumerate(self.nodes):
            node.cluster("SET-CONFIG-EPOCH", number + 1)
            node.cluster("ADDSLOTSRANGE", number * share, min((number + 1) * share, SLOTS) - 1)
            for other in self.nodes[:number]:
                node.cluster("MEET", "127.0.0.1", other.port)
        wait_until(lambda: all(node.ready() for node in self.nodes), "the cluster to serve all its slots")

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            for node in self.nodes:
                node.__exit__(*error)
        finally:
            self.close()

    @property
    def url(self) -> str:
        login = self.nodes[0].login
        return f"redis+cluster://{login}{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}"

    def slot_of(self, key: str) -> int:
        """The slot of a key."""
        return int(self.nodes[0].cluster("KEYSLOT", key))

    def owner(self, slot: int) -> Node:
        """The node that says that it serves the slot."""
        return next(node for node in self.nodes if node.serves(slot))

    def move_slot(self, slot: int, target: Node) -> None:
        """Give a slot, with its keys, to another node."""
        self.begin_move(slot, target).finish()

    def begin_move(self, slot: int, target: Node) -> Move:
        """The first step of that: the source sends who asks for keys it no longer has to the target."""
        return Move(self, slot, self.owner(slot), target)

    def close(self) -> None:
        """End every node."""
        for node in self.nodes:
            node.close()
