"""Where the primary is: at a fixed place, where the sentinels say, or where a cluster has the namespace's slot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from redis.crc import key_slot

from budgetguard.stores.redis.address import Address, Endpoint
from budgetguard.stores.redis.errors import NO_ANSWER, Remedy, Trouble, WireLost
from budgetguard.stores.redis.greeting import logged_in
from budgetguard.stores.redis.wire import Command, Wire

THE_SAME_HOST = ("", "?")
"""What a cluster says for the host that was asked (MOVED and CLUSTER SLOTS, Redis 7)."""


class Primary(Protocol):
    """Finds the primary of one address, anew for every connection."""

    async def find(self, until: float) -> Endpoint:
        """Where it is now, as far as others know; `until` is when they must have told (the loop's time, seconds).

        Raises:
            Trouble: nobody tells.
        """

    def moved(self, text: str, told_by: Endpoint) -> None:
        """A server answered "MOVED <slot> <host>:<port>"."""

    def lost(self, endpoint: Endpoint) -> None:
        """It could not be reached there, or does not serve there."""


def primary_of(address: Address, slot_key: bytes) -> Primary:
    """What finds the primary; in a cluster the one that has the slot of `slot_key`."""
    if address.kind == "sentinel":
        return _BehindSentinels(address)
    return _InCluster(address, key_slot(slot_key)) if address.kind == "cluster" else _Fixed(address)


class _Fixed:
    def __init__(self, address: Address) -> None:
        self._endpoint = address.endpoints[0]

    async def find(self, until: float) -> Endpoint:
        return self._endpoint

    def moved(self, text: str, told_by: Endpoint) -> None:
        pass  # `trouble_of` says that the URL is of another kind

    def lost(self, endpoint: Endpoint) -> None:
        pass  # there is no other place


class _Circle:
    """Servers that may know where the primary is; who could not help is asked last the next time."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._members = list(address.endpoints)

    async def ask(self, command: Command, read: Callable[[Any, Endpoint], Endpoint], until: float) -> Endpoint:
        """What `read` makes of the first reply that it can."""
        told = []
        members = tuple(self._members)
        for place, endpoint in enumerate(members):
            share_s = (until - asyncio.get_running_loop().time()) / (len(members) - place + 1)
            try:
                async with asyncio.timeout(share_s):
                    return read(await self._asked(endpoint, command), endpoint)
            except (WireLost, TimeoutError) as error:
                trouble = Trouble(str(error) or NO_ANSWER)
            except Trouble as error:
                trouble = error
            told.append((endpoint, trouble))
            self.put_last(endpoint)
        for_operator = all(trouble.remedy is Remedy.OPERATOR for _, trouble in told)
        said = "; ".join(f"{endpoint}: {trouble}" for endpoint, trouble in told)
        raise Trouble(said, Remedy.OPERATOR if for_operator else Remedy.RETRY)

    def put_last(self, endpoint: Endpoint) -> None:
        """It could not help."""
        if endpoint in self._members:
            self._members.remove(endpoint)
            self._members.append(endpoint)

    def replace(self, known: Iterable[Endpoint]) -> None:
        """These are they now, and those of the URL."""
        now = dict.fromkeys([*known, *self._address.endpoints])
        new = [endpoint for endpoint in now if endpoint not in self._members]
        self._members = new + [endpoint for endpoint in self._members if endpoint in now]

    async def _asked(self, endpoint: Endpoint, command: Command) -> Any:
        wire = await Wire.connect(endpoint, self._address.tls)
        try:
            (reply,) = await logged_in(wire, self._address, [command], of_sentinel=self._address.kind == "sentinel")
            return reply
        finally:
            wire.drop()


class _BehindSentinels:
    def __init__(self, address: Address) -> None:
        self._circle = _Circle(address)
        self._master = address.master
        self._told_by = address.endpoints[0]

    async def find(self, until: float) -> Endpoint:
        return await self._circle.ask(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._master), self._read, until)

    def moved(self, text: str, told_by: Endpoint) -> None:
        pass  # as for a fixed place

    def lost(self, endpoint: Endpoint) -> None:
        self._circle.put_last(self._told_by)  # another sentinel may have heard of a new primary

    def _read(self, found: Any, told_by: Endpoint) -> Endpoint:
        if found is None:
            raise Trouble(f"it knows no master {self._master!r}", Remedy.OPERATOR)
        self._told_by = told_by
        return Endpoint(found[0].decode(), int(found[1]))


class _InCluster:
    def __init__(self, address: Address, slot: int) -> None:
        self._circle = _Circle(address)
        self._slot = slot
        self._owner: Endpoint | None = None

    async def find(self, until: float) -> Endpoint:
        if self._owner is None:
            self._owner = await self._circle.ask(("CLUSTER", "SLOTS"), self._read, until)
        return self._owner

    def moved(self, text: str, told_by: Endpoint) -> None:
        host, _, port = text.rpartition(" ")[2].rpartition(":")
        self._owner = _endpoint(host, int(port), told_by) if port.isdecimal() else None

    def lost(self, endpoint: Endpoint) -> None:
        self._owner = None
        self._circle.put_last(endpoint)

    def _read(self, ranges: Any, told_by: Endpoint) -> Endpoint:
        owner = None
        known = []
        for first, last, *nodes in ranges:
            places = [_endpoint((host or b"").decode(), port, told_by) for host, port, *_ in nodes]
            known += places
            if first <= self._slot <= last:
                owner = places[0]
        self._circle.replace(known)
        if owner is None:
            raise Trouble(f"no node of the cluster has the slot {self._slot}")
        return owner


def _endpoint(host: str, port: int, told_by: Endpoint) -> Endpoint:
    return Endpoint(told_by.host if host in THE_SAME_HOST else host, port)
