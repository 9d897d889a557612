"""What a store keeps of calls' outputs: added once, in the slice of its time, and as long as it says."""

from __future__ import annotations

import random

from budgetguard.core.amounts import MAX_AMOUNT
from budgetguard.store import OUTPUT_PLACES, OUTPUT_SLICES, OutputCount, Store
from budgetguard.testing.store_rules import require

SETS = ('["out",3600000,"m"]', '["out",3600000,"m","agent","a}b\x00"]', "searçh")
SLICE_MS = 3_600_000
CALLS = (0, 1, 7, 2**32, MAX_AMOUNT)
KEPT_MS = (OUTPUT_SLICES + 1) * SLICE_MS
ADDED = "what was noted of outputs is added up, each flush once, in the slice of the store's time"
LATEST = "sets of outputs come with when they were written, the latest first"


class LearnedOutputs:
    """What has been noted in a store, by set, slice and place, and when each set was written last."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._sums: dict[tuple[str, int, int], int] = {}
        self._written_ms: dict[str, int] = {}
        self._flushes = 0

    async def check(self, store: Store, now_ms: int) -> None:
        """Note some, perhaps twice, and read all; `now_ms` is the store's time."""
        rows = [
            OutputCount(self._chance.choice(SETS), self._chance.randrange(OUTPUT_PLACES), self._chance.choice(CALLS))
            for _ in range(self._chance.randint(0, 6))
        ]
        self._flushes += 1
        for _ in range(self._chance.randint(1, 2)):
            await store.note_outputs(f"outputs-{self._flushes}", SLICE_MS, rows)
        self._add(rows, now_ms)
        kept = {words for words, written_ms in self._written_ms.items() if written_ms + KEPT_MS > now_ms}
        wanted = {key: calls for key, calls in self._sums.items() if key[0] in kept}
        for asked in (None, [*SETS, "never noted"]):
            found = [one for one in await store.read_outputs(asked) if one.words in kept]
            told = {(one.words, *count[:2]): count[2] for one in found for count in one.counts}
            case = f"read_outputs({asked}) at {now_ms}"
            require(told == wanted, ADDED, told, wanted, case)
            times = [one.written_ms for one in found]
            require(times == sorted((self._written_ms[words] for words in kept), reverse=True), LATEST, times, "", case)

    def _add(self, rows: list[OutputCount], now_ms: int) -> None:
        slice = now_ms // SLICE_MS
        for words, place, calls in rows:
            self._written_ms[words] = now_ms
            key = words, slice, place
            self._sums[key] = min(self._sums.get(key, 0) + calls, MAX_AMOUNT)
        newest = {words: at_ms // SLICE_MS for words, at_ms in self._written_ms.items()}
        self._sums = {key: n for key, n in self._sums.items() if key[1] > newest[key[0]] - OUTPUT_SLICES}
