"""The user as which the tests ask a Redis: it may do what the README says that budgetguard needs, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

USER, PASSWORD = "budgetguard", "kit/secret@1"
EVERY_NAMESPACE = "~bg:{*}:*"
COMMANDS = (
    "del", "eval", "evalsha", "exists", "get", "hdel", "hget", "hmget", "hscan", "hset", "info", "mget", "pexpire",
    "pttl", "set", "time", "xack", "xadd", "xautoclaim", "xdel", "xgroup|create", "xgroup|delconsumer", "xlen",
    "xrange", "xreadgroup", "zadd", "zrangebyscore", "zrem", "zscan",
)  # fmt: skip
DATABASE, SENTINEL, CLUSTER = "select", "role", "cluster|slots"
"""What other kinds of URLs need beside these."""
OF_SENTINELS = "sentinel|get-master-addr-by-name"
"""The only command that sentinels themselves are asked."""


def rules(
    commands: Iterable[str] = (*COMMANDS, DATABASE, SENTINEL, CLUSTER), pattern: str = EVERY_NAMESPACE
) -> list[str]:
    """Those of a user that may do this and no more, as ACL SETUSER takes them."""
    return ["on", f">{PASSWORD}", "resetkeys", pattern, "resetchannels", "-@all", *(f"+{name}" for name in commands)]
