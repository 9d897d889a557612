"""The store of many machines: one Redis (fixed, behind Sentinel, or a cluster), the rule restated in Lua."""

from budgetguard.stores.redis.store import RedisStore

__all__ = ["RedisStore"]
