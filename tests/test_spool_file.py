"""The spool's file: what is put in comes out the same, oldest first, from whatever process."""

from __future__ import annotations

import json
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_kit import NOON_MS, amounts, plan, release, settle

from budgetguard.core.amounts import MAX_AMOUNT, Amounts
from budgetguard.core.model import CallInfo, Plan, UsageRow
from budgetguard.core.verbs import Settle
from budgetguard.errors import StoreUnusable
from budgetguard.stores.spool import Spool

counts = st.integers(0, MAX_AMOUNT)
labels = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
usages = st.builds(
    UsageRow, counts, counts, counts, counts, counts, st.none() | counts, st.just("counted"), st.booleans(),
    st.none() | counts,
)  # fmt: skip
plans = st.builds(
    lambda texts, per, expiry: plan(*texts, per=per, on_expiry=expiry, alert_levels=(1, 2)),
    st.sets(st.sampled_from(["$5/day", "5M tokens/rolling 10 minutes", "3 concurrent", "$2/total"]), max_size=4),
    st.tuples(st.tuples(labels, st.none() | labels)),
    st.sampled_from(["charge", "release"]),
)
settles = st.builds(
    Settle, labels, plans, st.builds(Amounts, *[counts] * 6), usages,
    st.builds(CallInfo, st.dictionaries(labels, labels), labels, labels, usages, labels, counts, *[labels] * 3),
    st.sampled_from(["settled", "assumed", "cancelled", "error"]), st.builds(Amounts, *[counts] * 6),
    counts, counts, counts, counts, labels, labels,
)  # fmt: skip


@given(settles)
def test_a_settle_comes_out_as_it_was_put_in(op: Settle) -> None:
    spool = Spool(Path(":memory:"))
    spool.put([op, release(op.id)])
    assert [entry.op for entry in spool.take(9)] == [op, release(op.id)]
    spool.close()


def a_settle(id: str) -> Settle:
    return settle(id, plan("5M tokens/day") if id != "none" else Plan(()), amounts(5))


def test_entries_stay_until_they_are_dropped_and_are_shared_by_all_who_open_the_file(tmp_path: Path) -> None:
    one, other = (Spool(tmp_path / "deep" / "er" / "spool.db") for _ in range(2))
    assert (len(one), one.take(9), list(tmp_path.iterdir())) == (0, [], []), "nothing is made before it is needed"
    one.put([a_settle("r-1"), release("r-2")])
    other.put([a_settle("none")])
    assert [entry.op.id for entry in other.take(9)] == ["r-1", "r-2", "none"]
    first, second = one.take(2)
    assert [entry.op.id for entry in one.take(9, after=first.number)] == ["r-2", "none"]
    one.drop([second.number])
    one.drop([second.number])
    assert ([entry.op.id for entry in other.take(1)], len(other)) == (["r-1"], 2)
    one.close()
    assert len(one) == 2, "closing forgets nothing"
    for spool in (one, other):
        spool.close()


def test_a_file_that_is_no_spool_is_told(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    path.write_bytes(b"this is no database" * 100)
    for job in (lambda: Spool(path).put([release("r-1")]), lambda: Spool(path).take(1), lambda: len(Spool(path))):
        with pytest.raises(StoreUnusable, match=r"the spool .*spool\.db cannot be used: .*; check the disk"):
            job()


@pytest.mark.parametrize("body", ["no json", "[]", json.dumps({"id": "r-1", "later": NOON_MS})])
def test_an_entry_that_cannot_be_read_is_told_by_its_number(tmp_path: Path, body: str) -> None:
    spool = Spool(tmp_path / "spool.db")
    spool.put([a_settle("r-1")])
    db = apsw.Connection(str(spool.path))
    db.execute("UPDATE spool SET body = ?", (body,))
    db.close()
    spool.put([release("r-2")])
    bad, good = spool.take(9)
    assert isinstance(bad.op, StoreUnusable)
    assert str(bad.op).startswith(f"entry 1 of the spool {spool.path} cannot be read: ")
    assert good.op == release("r-2")
    spool.close()
