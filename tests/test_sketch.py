"""A sketch says of calls what the calls themselves would, whatever is added in whatever order."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from budgetguard.core.amounts import MAX_AMOUNT
from budgetguard.errors import InvalidAmount
from budgetguard.learning.sketch import EDGES, KEPT_SLICES, MOST_TOKENS, Sketch, Spread
from budgetguard.simulation import read_trace

TRACES = ("azure2023_code.norm", "mooncake_conversation.norm", "tau2_multiagent.norm", "servegen_mlarge_600s.gen")
SHARES = (0.01, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0)


def sketch_of(calls: Sequence[tuple[int, int]]) -> Sketch:
    sketch = Sketch()
    for tokens, slice in calls:
        sketch.add(tokens, slice)
    return sketch


def quantile(spread: Spread, share: float) -> int:
    return EDGES[spread.places[bisect_left(spread.upto, share * spread.weight)]]


@pytest.mark.parametrize("name", TRACES)
def test_quantiles_of_real_outputs_are_never_too_low_and_at_most_5_percent_too_high(shared: Path, name: str) -> None:
    outputs = sorted(call.completion_tokens for call in read_trace(shared / "traces" / f"{name}.csv.gz"))
    sketch = sketch_of([(tokens, 7) for tokens in outputs])
    spread = sketch.spread(7.0)
    exact = [outputs[max(0, -(-len(outputs) * round(share * 1000) // 1000) - 1)] for share in SHARES]
    told = [quantile(spread, share) for share in SHARES]
    print(
        name,
        sketch.size,
        "counts;",
        *(f"{share}: {a} for {b}" for share, a, b in zip(SHARES, told, exact, strict=True)),
    )
    assert all(b <= a <= 1.05 * b for a, b in zip(told, exact, strict=True))
    first, second, third = (sum(tokens**power for tokens in outputs) for power in (1, 2, 3))
    assert spread.open_mean == pytest.approx(second / first, rel=0.02)
    assert spread.open_deviation == pytest.approx((third / first - (second / first) ** 2) ** 0.5, rel=0.03)
    assert sketch.size <= len(EDGES)


def test_edges_are_whole_numbers_up_to_the_most_that_counts() -> None:
    assert EDGES[:21] == tuple(range(21)) and EDGES[-1] == MOST_TOKENS
    assert all(low < high <= low + max(1, low // 20) for low, high in pairwise(EDGES))


def test_neither_the_order_of_calls_nor_that_of_merging_changes_anything() -> None:
    chance = random.Random(6)
    for _ in range(50):
        calls = [(int(chance.paretovariate(0.7)), chance.randrange(40, 52)) for _ in range(200)]
        whole = sketch_of(calls)
        chance.shuffle(calls)
        places = sorted(chance.sample(range(200), 4))
        parts = [sketch_of(calls[a:b]) for a, b in zip([0, *places], [*places, 200], strict=True)]
        chance.shuffle(parts)
        merged = Sketch()
        for part in parts:
            merged.merge(part.counts, newest=51)
        backwards = Sketch()
        for counts in (merged.counts[100:], merged.counts[:100]):
            backwards.merge(reversed(counts), newest=51)
        assert merged.counts == whole.counts == backwards.counts
        assert merged.spread(51.3) == whole.spread(51.3) == backwards.spread(51.3)
        assert merged.calls == whole.calls == sum(calls for _, _, calls in whole.counts)


def test_what_is_a_half_life_older_weighs_half() -> None:
    sketch = sketch_of([(10, 100)] * 64 + [(500, 102)] * 64)
    assert sketch.spread(102.0).weight == pytest.approx(64 * 2**-1.5 + 64)
    assert quantile(sketch.spread(102.5), 0.25) == 517, "the edge above 500"
    assert sketch.spread(104.5).upto[0] / sketch.spread(103.5).upto[0] == pytest.approx(0.5)
    assert quantile(sketch.spread(100.0), 0.25) == 10, "what lies ahead of an instant counts, but no more than whole"


def test_what_is_too_old_is_dropped_and_stays_so() -> None:
    sketch = sketch_of([(10, 100), (20, 100 + KEPT_SLICES)])
    assert sketch.counts == sketch_of([(20, 100 + KEPT_SLICES), (10, 100)]).counts == [(106, EDGES.index(20), 1)]
    assert (sketch.calls, sketch.size) == (1, 1)


@pytest.mark.parametrize("wrong", [-1, 1.5, float("nan"), True, "7", None, 2**53])
def test_what_is_no_number_of_tokens_is_refused_and_changes_nothing(wrong: Any) -> None:
    sketch = sketch_of([(10, 3)])
    with pytest.raises(InvalidAmount, match="tokens"):
        sketch.add(wrong, 3)
    for counts in ([(3, 5, 1), (wrong, 5, 1)], [(3, 5, 1), (3, wrong, 1)], [(3, 5, 1), (3, 5, wrong)]):
        with pytest.raises(InvalidAmount):
            sketch.merge(counts, newest=3)
    assert sketch.counts == [(3, 10, 1)]


def test_hostile_numbers_that_are_numbers_do_no_harm() -> None:
    sketch = sketch_of([(10, 3), (0, 3), (MAX_AMOUNT, 3)])
    sketch.merge([(4, 10, 1), (MAX_AMOUNT, 10, 1), (3, 10, 0)], newest=3)
    assert sketch.counts == [(3, 0, 1), (3, 10, 1), (3, len(EDGES) - 1, 1)], "nothing from the future drops the past"
    with pytest.raises(InvalidAmount, match="place"):
        sketch.merge([(3, len(EDGES), 1)], newest=3)
    for _ in range(3):
        sketch.merge([(3, 10, MAX_AMOUNT)], newest=3)
    assert sketch.counts[1] == (3, 10, MAX_AMOUNT)
    assert Spread().weight == Spread().most == Spread().below(7) == 0
