"""What calls wrote, in sets: added by `lua/learn.lua`, read as it stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from budgetguard.errors import StoreUnusable
from budgetguard.store import MOST_OUTPUT_SETS, OutputSet
from budgetguard.stores.outputs import Sums, checked, is_slice
from budgetguard.stores.redis import calls
from budgetguard.stores.redis.keys import digest_of
from budgetguard.stores.redis.plans import unpack
from budgetguard.stores.redis.scripting import Scripting
from budgetguard.stores.redis.server import Server

SETS = 64
"""Of one script, and of one look: while it is at work nobody else is served."""


class Outputs:
    """Those of one namespace."""

    def __init__(self, scripting: Scripting) -> None:
        self._scripting = scripting
        self._keys = scripting.keys

    async def note(self, server: Server, flush_id: str, slice_ms: int, sums: Sums) -> None:
        """Add these, unless this flush has been added before, and forget what is beyond the most."""
        sets = [[digest_of(words), words, *_flat(of_set)] for words, of_set in sums.items()]
        for first in range(0, len(sets), SETS):
            some = sets[first : first + SETS]
            old = await self._learn(server, f"{flush_id} {first}", slice_ms, some, [])
            while old:
                old = await self._learn(server, "", slice_ms, [], old)

    async def _learn(
        self, server: Server, flush_id: str, slice_ms: int, sets: Sequence[Sequence[Any]], forgotten: Sequence[bytes]
    ) -> Sequence[bytes]:
        _, old = await self._scripting.one(
            server,
            lambda caller: calls.learn(
                caller=caller, flush_id=flush_id, slice_ms=slice_ms, most=MOST_OUTPUT_SETS, sets=sets,
                forgotten=forgotten,
            ),
        )  # fmt: skip
        return list(old)

    async def read(self, server: Server, words: Sequence[str] | None, most: int) -> list[OutputSet]:
        """As `Store.read_outputs`."""
        if words is None:
            last = ("ZRANGEBYSCORE", self._keys.outputs, "-inf", "+inf", "LIMIT", 0, most)
            digests = list(await self._ask(server, last))
        else:
            digests = [digest_of(each) for each in words]
        found = []
        for first in range(0, len(digests), SETS):
            records = await self._ask(server, ("MGET", *map(self._keys.output, digests[first : first + SETS])))
            found += [one for record in records if record is not None and (one := _readable(record)) is not None]
        return sorted(found, key=lambda one: -one.written_ms)

    async def _ask(self, server: Server, command: Sequence[Any]) -> Any:
        (reply,) = await server.ask([command])
        if isinstance(reply, Exception):
            raise StoreUnusable(f"the namespace {self._keys.prefix} cannot be read: {reply}")
        return reply


def _flat(of_set: dict[int, int]) -> list[int]:
    return [number for pair in of_set.items() for number in pair]


def _readable(packed: bytes) -> OutputSet | None:
    """A record as `lua/lib/outputs.lua` writes it; None for what somebody else has written.

    A slice that cannot be read is left out: the script copies those of before now as they stand.
    """
    try:
        words, written_ms, *slices = unpack(packed)
        name = words.decode()
    except Exception:  # noqa: BLE001 - msgpack has many; whatever it is, this is no record
        return None
    if type(written_ms) is not int:
        return None
    counts = [count for slice, flat in zip(slices[::2], slices[1::2], strict=False) for count in _counts(slice, flat)]
    return OutputSet(name, tuple(counts), written_ms)


def _counts(slice: object, packed: Any) -> list[tuple[int, int, int]]:
    try:
        counts = list(checked(unpack(packed)))
    except Exception:  # noqa: BLE001 - likewise
        return []
    return [(slice, place, number) for place, number in counts] if is_slice(slice) else []
