"""What calls wrote, in the table `outputs`: of each set its counts, {slice: [place, calls, ...]}."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b

import apsw

from budgetguard.core.amounts import MAX_AMOUNT
from budgetguard.store import FLUSH_KEPT_MS, MOST_OUTPUT_SETS, OUTPUT_SLICES, OutputSet
from budgetguard.stores.outputs import Sums, checked, is_slice
from budgetguard.stores.sqlite import schema

_compact = json.JSONEncoder(separators=(",", ":")).encode
_Counts = dict[int, dict[int, int]]


def note(db: apsw.Connection, namespace: str, now_ms: int, flush_id: str, slice_ms: int, sums: Sums) -> None:
    """Add these, in the caller's transaction, unless this flush has been added before."""
    db.execute(schema.TELL, (namespace, f"outputs {flush_id}", now_ms, now_ms + FLUSH_KEPT_MS, flush_id))
    if db.changes() == 0:
        return
    slice, until_ms, is_new = now_ms // slice_ms, now_ms + (OUTPUT_SLICES + 1) * slice_ms, False
    for words, of_set in sums.items():
        key = _key(words)
        found = db.execute(schema.READ_OUTPUT, (namespace, key)).fetchall()
        is_new |= not found
        counts = _readable(found[0][0]) if found else {}
        body = _compact(_added(counts or {}, slice, of_set))
        db.execute(schema.WRITE_OUTPUT, (namespace, key, words, body, now_ms, until_ms))
    if is_new:
        db.execute(schema.FORGET_MOST_OUTPUTS, (namespace, MOST_OUTPUT_SETS))


def read(
    db: apsw.Connection, namespace: str, words: Sequence[str] | None, most: int, now_ms: int
) -> list[OutputSet]:  # fmt: skip
    """As `Store.read_outputs`."""
    if words is None:
        rows = db.execute(schema.READ_LAST_OUTPUTS, (namespace, now_ms, most)).fetchall()
    else:
        keys = json.dumps([_key(each).hex() for each in words])
        rows = db.execute(schema.READ_OUTPUTS, (namespace, keys, now_ms)).fetchall()
    found = []
    for name, body, written_ms in rows:
        counts = _readable(body)
        if counts is not None and type(written_ms) is int:
            flat = ((slice, place, calls) for slice, at in counts.items() for place, calls in at.items())
            found.append(OutputSet(str(name), tuple(flat), written_ms))
    return found


def _key(words: str) -> bytes:
    return blake2b(words.encode(), digest_size=12).digest()


def _added(counts: _Counts, slice: int, of_set: Mapping[int, int]) -> dict[int, list[int]]:
    at = counts.setdefault(slice, {})
    for place, calls in of_set.items():
        at[place] = min(at.get(place, 0) + calls, MAX_AMOUNT)
    # One of after now is kept, and not more: after a failover clocks may differ a little.
    kept = {each: of for each, of in counts.items() if slice - OUTPUT_SLICES < each <= slice + 1}
    return {each: [number for pair in of.items() for number in pair] for each, of in kept.items()}


def _readable(body: object) -> _Counts | None:
    """None for what somebody else has written."""
    try:
        found = json.loads(str(body))
        counts = {int(slice): dict(checked(flat)) for slice, flat in found.items()}
        return counts if all(map(is_slice, counts)) else None
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
