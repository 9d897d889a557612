"""What a store does once, however often it is asked: a cause is told by one, a flush of refusals counts."""

from __future__ import annotations

import random

from budgetguard.core.amounts import Amounts
from budgetguard.store import Cause, RefusalCount, RefusedBy, Store
from budgetguard.testing.store_rules import require

CAUSES = ("burn rate of search", "search\x00", "searçh", "")
TTLS_MS = (1, 1_000, 3_600_000, 86_400_000)
RULE = "a cause is told by exactly one asker, however often it asks, until its time has passed"


class Once:
    """What has been told to a store, until when and by whom."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._told: dict[str, tuple[int, str]] = {}

    async def check(self, store: Store, now_ms: int) -> None:
        """Ask some causes, perhaps one again, and note refusals twice; `now_ms` is the store's time."""
        asked, wanted = [], []
        for _ in range(self._chance.randint(1, 5)):
            cause, ttl_ms = self._chance.choice(CAUSES), self._chance.choice(TTLS_MS)
            until_ms, teller = self._told.get(cause, (now_ms, "nobody"))
            id = self._chance.choice([teller, f"{self._chance.getrandbits(64):x}"])
            if until_ms <= now_ms:
                self._told[cause] = now_ms + ttl_ms, id
            asked.append(Cause(cause, ttl_ms, id))
            wanted.append(until_ms <= now_ms or id == teller)
        found = await store.first_to_tell(asked)
        require(found == wanted, RULE, found, wanted, f"first_to_tell({asked}) at {now_ms}")
        by = RefusedBy("days", "tokens", "day/UTC", "spent")
        count = RefusalCount(now_ms, False, "budget", (by,), {"agent": "a"}, 2, Amounts(tokens=14))
        for _ in range(2):
            await store.note_refusals(f"flush-{now_ms}", [count])
