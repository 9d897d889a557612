"""Sums of the ledger for each stretch of time: of whatever was written, revised and dropped, to the nano-dollar."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from drain_kit import NAMESPACE, row
from rollup_kit import BAND, LATENCIES, WIDTHS_MS, rollups_in
from store_kit import HOUR_MS, NOON_MS, amounts, info, rows
from test_ledger_record import made_by_schema_2

from budgetguard.core.model import UsageRow
from budgetguard.core.verbs import Row
from budgetguard.ledger.sqlite import SQLiteLedger

QUARTER_MS, _, SIX_HOURS_MS, DAY_MS = WIDTHS_MS
MIDNIGHT_MS = NOON_MS - 12 * HOUR_MS
STATUSES = ("settled", "assumed", "late", "expired", "cancelled", "error", "released", "uncounted")
EDGES_MS = (
    NOON_MS - 1, NOON_MS, NOON_MS + 899_999, NOON_MS + 900_000, NOON_MS + HOUR_MS - 1, NOON_MS + HOUR_MS,
    NOON_MS + 3 * HOUR_MS, NOON_MS + 12 * HOUR_MS - 1, NOON_MS + 12 * HOUR_MS, NOON_MS + 14 * HOUR_MS,
)  # fmt: skip


def any_row(dice: random.Random, id: str, revision: int) -> Row:
    """A row that may say anything, also something else than the revision before did."""
    status = dice.choice(STATUSES)
    labels = {name: dice.choice("ab") for name in ("team", "agent", "task", "model", "provider") if dice.random() < 0.8}
    cost_nanousd = dice.choice([None, 0, dice.randrange(2**40)])
    usage = UsageRow(dice.randrange(9_000), dice.randrange(900), cost_nanousd=cost_nanousd)
    if status == "released":
        usage = UsageRow()
    return row(
        id, revision, status=status, timestamp_ms=dice.choice(EDGES_MS),
        info=info(amounts(1), **(labels or {"user": "u"})), usage=usage,
        latency_ms=dice.choice([0, 1, 2, 3, 8, 999, 1_000, 1_024, 60_000]),
        error_type=dice.choice(["", "", "APIError"]),
    )  # fmt: skip


def history(dice: random.Random, most: int = 300) -> list[Row]:
    """Revisions of some calls, out of order and more than once."""
    made = [any_row(dice, f"r{dice.randrange(most // 3)}", dice.randrange(1, 4)) for _ in range(most)]
    # One revision of a call is one row.
    distinct = list({(one.id, one.revision): one for one in made}.values())
    return [*distinct, *dice.sample(distinct, len(distinct) // 3)]


def test_rollups_are_the_sums_of_the_rows_whatever_was_written_in_whatever_order(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"\nseed {seed}")
    dice, path = random.Random(seed), tmp_path / "ledger.db"
    ledger = SQLiteLedger(str(path))
    written = history(dice)
    for first in range(0, len(written), 50):
        ledger.write([(dice.choice(["prod", "dev"]), one) for one in written[first : first + 50]])
    ledger.close()
    found, expected = rollups_in(lambda query: rows(path, query))
    assert found == expected
    assert {key[0] for key in found} == {"prod", "dev"} and len(found) > 100
    rows(path, "DELETE FROM token_usage WHERE reservation_id > 'r5'")
    found, expected = rollups_in(lambda query: rows(path, query))
    assert found == expected
    rows(path, "DELETE FROM token_usage")
    assert rollups_in(lambda query: rows(path, query)) == ({}, {})


def test_a_revision_moves_a_call_from_the_sums_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = SQLiteLedger(str(path))

    def sums() -> list[tuple[Any, ...]]:
        return rows(
            path, "SELECT width_ms, start_ms, calls, errors, prompt_tokens, cost_nanousd, operations, latency_band, "
            "latency_8, latency_15 FROM usage_rollups WHERE agent <> 'other'"
        )  # fmt: skip

    def told(*rest: int) -> list[tuple[Any, ...]]:
        return [(QUARTER_MS, NOON_MS, *rest), *summed_with(rest)]

    def summed_with(rest: tuple[int, ...]) -> list[tuple[Any, ...]]:
        wider = [(HOUR_MS, NOON_MS), (SIX_HOURS_MS, NOON_MS), (DAY_MS, MIDNIGHT_MS)]
        return [(*stretch, *rest) for stretch in wider] if is_late else []

    for is_late in (False, True):
        if is_late:  # its hour and its day are over
            ledger.write([(NAMESPACE, row("new", timestamp_ms=NOON_MS + DAY_MS, info=info(amounts(1), agent="other")))])
        ledger.write([(NAMESPACE, row(f"r{is_late}", tokens=9, status="expired", latency_ms=0))])
        assert sums() == told(1, 0, 9, 70, 1, -1, 0, 1)
        ledger.write([(NAMESPACE, row(f"r{is_late}", 2, tokens=4, status="late", latency_ms=1_000, error_type="E"))])
        assert sums() == told(1, 1, 4, 35, 1, 2, 1, 0)
        ledger.write([(NAMESPACE, row(f"r{is_late}", 1, tokens=9, status="expired", latency_ms=0))])
        assert sums() == told(1, 1, 4, 35, 1, 2, 1, 0)
        ledger.write([(NAMESPACE, row(f"r{is_late}", 3, status="released"))])
        assert sums() == []
    ledger.close()


def test_an_hour_is_summed_when_another_is_over_and_a_day_when_an_hour_of_the_next_is(tmp_path: Path) -> None:
    path, seen = tmp_path / "ledger.db", []
    ledger = SQLiteLedger(str(path))
    for hour in (12, 13, 14, 23, 24, 25, 26):
        ledger.write([(NAMESPACE, row(f"r{hour}", timestamp_ms=MIDNIGHT_MS + hour * HOUR_MS))])
        found, expected = rollups_in(lambda query: rows(path, query))
        assert found == expected
        summed = rows(path, "SELECT start_ms, width_ms FROM usage_stretches WHERE is_summed = 1 ORDER BY 1, 2")
        seen.append([((start_ms - MIDNIGHT_MS) // HOUR_MS, width_ms // HOUR_MS) for start_ms, width_ms in summed])
    ledger.close()
    noon, over = [(12, 1), (12, 6), (13, 1), (14, 1)], [(0, 24), (12, 1), (12, 6), (13, 1), (14, 1), (18, 6), (23, 1)]
    assert seen == [[], [], noon[:1], noon, noon, over, [*over, (24, 1)]]


@pytest.mark.parametrize("latency_ms", [1, 2, 3, 7, 8, 999, 1_024, 1_000, 1_001, 59_999, 86_400_000])
def test_the_middle_of_a_latency_class_is_within_ten_percent(tmp_path: Path, latency_ms: int) -> None:
    path = tmp_path / "ledger.db"
    ledger = SQLiteLedger(str(path))
    ledger.write([(NAMESPACE, row("r", latency_ms=latency_ms))])
    ledger.close()
    ((band, *places),) = rows(path, f"SELECT latency_band, {LATENCIES} FROM usage_rollups")
    assert sum(places) == 1
    number = band * BAND + places.index(1)
    middle_ms = 2 ** ((number - 0.5) / 4)
    assert abs(middle_ms - latency_ms) <= 0.1 * latency_ms
    assert 2 ** ((number - 1) / 4) * (1 + 1e-9) < latency_ms <= 2 ** (number / 4) * (1 + 1e-9)


def test_rows_that_were_there_before_are_counted_by_the_migration(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    made_by_schema_2(path)
    ledger = SQLiteLedger(str(path))
    ledger.write([(NAMESPACE, row("more"))])
    ledger.close()
    found, expected = rollups_in(lambda query: rows(path, query))
    assert found == expected
    assert sum(sums[0] for sums in found.values()) == 2
