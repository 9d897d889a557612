"""Calls of the scripts past the store: whatever a test packs, and what stands under the keys before and after."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from redis import Redis, ResponseError
from redis.exceptions import NoScriptError
from redis_kit import RedisServer
from store_kit import NOON_MS

from budgetguard.core.model import Plan
from budgetguard.stores.redis import calls
from budgetguard.stores.redis.calls import Call, Caller
from budgetguard.stores.redis.keys import Keys
from budgetguard.stores.redis.operations import operation
from budgetguard.stores.redis.plans import SentPlan, pack, unpack

Tree = Any
Path = tuple[int, ...]
LOOK = """
local found = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
  local kind = redis.call('TYPE', key).ok
  local value
  if ARGV[2] == 'dump' and kind ~= 'hash' then
    value = { redis.call('DUMP', key), redis.call('PEXPIRETIME', key) }
  elseif kind == 'string' then
    value = redis.call('GET', key)
  elseif kind == 'hash' then
    value = redis.call('HGETALL', key)
  elseif kind == 'zset' then
    value = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  else
    value = kind == 'stream' and redis.call('XRANGE', key, '-', '+') or redis.call('DUMP', key)
  end
  found[#found + 1] = { key, kind, value }
end
return found
"""


class Raw:
    """A namespace and a connection to it; the clock is the caller's and stands still."""

    def __init__(self, server: RedisServer, namespace: str) -> None:
        self.keys = Keys(namespace)
        self.caller = Caller(self.keys, b"raw", NOON_MS, 0)
        self.link = Redis(unix_socket_path=str(server.socket_path), protocol=2)
        self._glob = self.keys.prefix + "*"
        self._lasting = {self.keys.meta, self.keys.index, self.keys.outbox}
        self._start: list[tuple[bytes, bytes]] = []
        self._end_ms = (int(time.time()) + 10**6) * 1000

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.forget()
        self.link.close()

    def begin(self, plans: Sequence[Tree], operations: Sequence[Tree]) -> None:
        """From now on, `again` starts with what these operations leave behind."""
        self.forget()
        nobody = self.caller._replace(incarnation=b"")
        assert self.ask(calls.open_namespace(caller=nobody, begin_with=b"raw", accept_loss=False))[0] == b"ok"
        if operations:
            assert self.ask(self.batch(plans, operations))[0] == b"ok"
        self._start = [(key, self.link.dump(key)) for key in self.link.keys(self._glob)]

    def again(self) -> None:
        """Everything is as `begin` left it."""
        with self.link.pipeline(transaction=False) as line:
            line.eval("redis.call('DEL', 'x', unpack(redis.call('KEYS', ARGV[1])))", 0, self._glob)
            for key, dumped in self._start:
                line.restore(key, 0 if key in self._lasting else self._end_ms, dumped, absttl=key not in self._lasting)
            line.execute()

    def forget(self) -> None:
        """No key of the namespace stands."""
        self.link.delete("x", *self.link.keys(self._glob))

    def batch(self, plans: Sequence[Tree], operations: Sequence[Tree], touched: Sequence[bytes] = ()) -> Call:
        """The call for trees of `plan_tree` and `operation_tree`; `touched` if they no longer say what they touch."""
        return calls.batch(
            caller=self.caller, touched=touched or self.touched(plans, operations), outbox_most=100,
            outbox_bounded=True, plans=[packed_plan(plan) for plan in plans], operations=operations,
        )  # fmt: skip

    def touched(self, plans: Sequence[Tree], operations: Sequence[Tree]) -> list[bytes]:
        """The reservations of operations and the accounts of plans."""
        holds = [self.keys.hold(op[1]) for op in operations if isinstance(op[1], str)]
        return list(dict.fromkeys([*holds, *(self.keys.account(claim[0]) for plan in plans for claim in plan[0][2:])]))

    def ask(self, call: Call) -> Any:
        """What a script replies, or the error that it ends with."""
        try:
            try:
                return unpack(self.send("EVALSHA", call.of.sha, call.keys, call.argument))
            except NoScriptError:
                return unpack(self.send("EVAL", call.of.body, call.keys, call.argument))
        except ResponseError as error:
            return error

    def send(self, command: str, script: bytes, keys: Sequence[bytes], *arguments: bytes) -> Any:
        """The reply itself."""
        return self.link.execute_command(command, script, len(keys), *keys, *arguments)

    def dumps(self) -> dict[bytes, Any]:
        """Every key but `meta`, byte for byte, and when it ends; of a hash, which reads may reorder, its fields."""
        found = {}
        for key, kind, value in self.link.eval(LOOK, 0, self._glob, "dump"):
            if key != self.keys.meta:
                found[key] = dict(zip(value[::2], value[1::2], strict=True)) if kind == b"hash" else value
        return found

    def picture(self) -> dict[bytes, Any]:
        """Every key but `meta`, by content: the order of a hash and the ids of a stream are its own."""
        found = {}
        for key, kind, value in self.link.eval(LOOK, 0, self._glob, ""):
            if key != self.keys.meta:
                rows = [fields for _, fields in value] if kind == b"stream" else value
                found[key] = dict(zip(value[::2], value[1::2], strict=True)) if kind == b"hash" else rows
        return found


def plan_tree(of: Plan) -> Tree:
    """A plan as it is sent, its packed parts unpacked: the first is [charges, content, claim, ...]."""
    return [unpack(part) if isinstance(part, bytes) else part for part in SentPlan(of, Keys("n")).wire(whole=True)]


def packed_plan(tree: Tree) -> Tree:
    """The same, as far as it still is one, packed again."""
    return [pack(part) if isinstance(part, list) else part for part in tree] if isinstance(tree, list) else tree


def operation_tree(op: Any, plan_number: int) -> Tree:
    """An operation as it is sent, in lists."""
    sent = operation(op, lambda _: plan_number, whole=True)
    return [list(part) if isinstance(part, tuple) else part for part in sent]


def numbers_in(tree: Tree, path: Path = ()) -> Iterator[Path]:
    """The places of all whole numbers of a tree."""
    if isinstance(tree, list):
        for place, part in enumerate(tree):
            yield from numbers_in(part, (*path, place))
    elif type(tree) is int:
        yield path


def nodes_in(tree: Tree, path: Path = ()) -> Iterator[Path]:
    """All places of a tree, below its root."""
    if path:
        yield path
    if isinstance(tree, list):
        for place, part in enumerate(tree):
            yield from nodes_in(part, (*path, place))


def replaced(tree: Tree, path: Path, value: Any) -> Tree:
    """A copy with another value at a place."""
    if not path:
        return value
    return [replaced(part, path[1:], value) if place == path[0] else part for place, part in enumerate(tree)]


def changed(tree: Tree, dice: random.Random, values: Sequence[Any]) -> Tree:
    """A copy in which something was replaced, left out, doubled or put in the place of something else."""
    nodes = list(nodes_in(tree))
    if not nodes:
        return tree
    path = dice.choice(nodes)
    parent = at(tree, path[:-1])
    last = path[-1]
    how = dice.randrange(5)
    if how == 0:
        return replaced(tree, path[:-1], parent[:last] + parent[last + 1 :])
    if how == 1:
        return replaced(tree, path[:-1], parent[: last + 1] + parent[last:])
    if how == 2:
        return replaced(tree, path, at(tree, dice.choice(nodes)))
    return replaced(tree, path, dice.choice(values) if how == 3 else dice.randrange(2 ** dice.randrange(1, 64)))


def at(tree: Tree, path: Path) -> Tree:
    """What is at a place."""
    for place in path:
        tree = tree[place]
    return tree


def seed_of(request: pytest.FixtureRequest) -> int:
    """Of a random test; it is printed, and `--hypothesis-seed` sets it."""
    seed = int(request.config.getoption("hypothesis_seed") or random.randrange(2**32))
    print(f"\nrepeat with --hypothesis-seed={seed}")
    return seed
