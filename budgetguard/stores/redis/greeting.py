"""The first round trip of a connection: log in, choose the database, and see that this server may hold budgets."""

from __future__ import annotations

from typing import Any

from budgetguard.stores.redis.address import Address, Endpoint
from budgetguard.stores.redis.errors import Remedy, ReplyError, Trouble, trouble_of
from budgetguard.stores.redis.wire import Command, Wire

NOEVICTION = b"noeviction"
_POLICY = b"maxmemory_policy:"


async def greeted(endpoint: Endpoint, address: Address, allow_eviction: bool) -> Wire:
    """A connection over which commands may be asked. Nothing of it stays open if it cannot be had.

    Raises:
        WireLost: the server cannot be reached.
        Trouble: it does not serve: who asks may not, it evicts, or it is no primary.
    """
    # INFO is asked even of a server that may evict: a server without a place for one more client says so in the
    # first reply, which must not stand where the reply to a caller's command is awaited.
    commands: list[Command] = [("INFO", "memory")]
    if address.db:
        commands.insert(0, ("SELECT", address.db))
    if address.kind == "sentinel":
        commands.append(("ROLE",))
    wire = await Wire.connect(endpoint, address.tls)
    try:
        replies = await logged_in(wire, address, commands)
        if not allow_eviction:
            _must_not_evict(replies[1 if address.db else 0])
        if address.kind == "sentinel" and replies[-1][0] != b"master":
            raise Trouble(f"the sentinels name {endpoint}, which is not (yet) a master")
    except BaseException:
        wire.drop()
        raise
    return wire


async def logged_in(wire: Wire, address: Address, commands: list[Command], *, of_sentinel: bool = False) -> list[Any]:
    """Log in on a fresh connection and return the replies to these commands, in the same round trip.

    Raises:
        WireLost: the connection ended.
        Trouble: an error was among the replies.
    """
    login = address.sentinel_login if of_sentinel else address.login
    auth: list[Command] = []
    if login:
        auth = [("AUTH", login.username, login.password) if login.username else ("AUTH", login.password)]
    # A server without a place for one more client says so once, and closes.
    replies, lost = await wire.round_trip([*auth, *commands])
    for place, reply in enumerate(replies):
        if isinstance(reply, ReplyError):
            if auth and place == 0 and reply.remedy is Remedy.RETURN:  # a line that may quote the password
                raise Trouble("it does not know AUTH, and the store's URL has a password", Remedy.OPERATOR)
            raise trouble_of(reply, address, in_greeting=True, of_sentinel=of_sentinel)
    if lost is not None:
        raise lost
    return replies[len(auth) :]


def _must_not_evict(info: bytes) -> None:
    policy = info.partition(_POLICY)[2].partition(b"\r\n")[0]
    if policy != NOEVICTION:
        said = policy.decode(errors="replace") or "unknown: is it a sentinel?"
        raise Trouble(
            f"it may evict what was spent (maxmemory-policy {said}): set maxmemory-policy noeviction there, or "
            "allow_eviction = true under [store] here",
            Remedy.STOP,
        )
