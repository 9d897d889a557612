"""What a store does once, however often it is asked: a cause is told by one, a flush of refusals counts."""

from __future__ import annotations

import random

from budgetguard.core.amounts import Amounts
from budgetguard.store import RefusalCount, RefusedBy, Store
from budgetguard.testing.store_rules import require

CAUSES = ("burn rate of search", "search\x00", "searçh", "")
TTLS_MS = (1, 1_000, 3_600_000, 86_400_000)
RULE = "a cause is told by exactly one asker until its time has passed"


class Once:
    """What has been told to a store, and until when."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._until_ms: dict[str, int] = {}

    async def check(self, store: Store, now_ms: int) -> None:
        """Ask some causes, perhaps one twice, and note refusals twice; `now_ms` is the store's time."""
        asked = [(self._chance.choice(CAUSES), self._chance.choice(TTLS_MS)) for _ in range(self._chance.randint(1, 5))]
        wanted = []
        for cause, ttl_ms in asked:
            wanted.append(self._until_ms.get(cause, now_ms) <= now_ms)
            if wanted[-1]:
                self._until_ms[cause] = now_ms + ttl_ms
        found = await store.first_to_tell(asked)
        require(found == wanted, RULE, found, wanted, f"first_to_tell({asked}) at {now_ms}")
        by = RefusedBy("days", "tokens", "day/UTC", "spent")
        count = RefusalCount(now_ms, False, "budget", (by,), {"agent": "a"}, 2, Amounts(tokens=14))
        for _ in range(2):
            await store.note_refusals(f"flush-{now_ms}", [count])
