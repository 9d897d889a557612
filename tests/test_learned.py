"""What calls are taken to write, by what calls like them wrote."""

from __future__ import annotations

import gc
import sys

import pytest

from budgetguard.learning.blending import Outlook
from budgetguard.learning.learned import MOST_KEPT, MOST_WANTED, Learned, _keys, keys_of
from budgetguard.learning.unsent import FLUSH_MOST, Key, Unsent
from budgetguard.store import OUTPUT_PLACES

DAY_MS = 86_400_000
NOW_MS = 20_000 * DAY_MS
ROOM = 1_000_000


def learned(*calls: tuple[dict[str, str], int], at_ms: int = NOW_MS) -> Learned:
    found = Learned(DAY_MS)
    for subject, tokens in calls:
        found.add(subject, tokens, at_ms)
    return found


def looked(found: Learned, room: int = ROOM, at_ms: int = NOW_MS, bound: int = 4_096, **subject: str) -> Outlook:
    return found.outlook({"model": "m", **subject}, at_ms, 0.95, bound, room)


def size_of(root: object) -> int:
    """The bytes of everything that an object leads to, classes and what they lead to apart."""
    seen, left, size = {id(root)}, [root], 0
    while left:
        thing = left.pop()
        size += sys.getsizeof(thing)
        for other in gc.get_referents(thing):
            if id(other) not in seen and not isinstance(other, type):
                seen.add(id(other))
                left.append(other)
    return size


def test_of_what_nobody_knows_the_bound_is_asked_and_half_of_a_limit_that_is_below_it() -> None:
    nothing = Learned(DAY_MS)
    assert looked(nothing).tokens(1) == looked(nothing).tokens(50) == 4_096
    assert looked(nothing, room=3_000).tokens(1) == looked(nothing, room=3_000).tokens(50) == 1_500


def test_one_call_says_little_and_twenty_say_enough() -> None:
    calls = [({"model": "m"}, 100)] * 40
    asked = [looked(learned(*calls[:count])).alone for count in (1, 5, 40)]
    assert asked[0] == asked[1] >= 400, "what is unseen is four times the most that was seen"
    assert 100 <= asked[2] <= 105


def test_a_task_begins_as_its_agent_and_goes_its_own_way() -> None:
    agent, task = {"model": "m", "agent": "a"}, {"model": "m", "agent": "a", "task": "t"}
    calls = [(agent, 100)] * 200
    assert looked(learned(*calls), agent="a", task="t").alone == looked(learned(*calls), agent="a").alone <= 105
    calls += [(task, 1_000)] * 5
    few = looked(learned(*calls), agent="a", task="t").alone
    assert 1_000 <= few <= 1_050, "a quarter of what is known of it is of itself"
    assert looked(learned(*calls), agent="b").alone <= 1_050
    calls += [(task, 1_000)] * 400
    many = looked(learned(*calls), agent="a", task="t")
    assert many.among_many == pytest.approx(1_000, rel=0.03) and many.deviation < 50


def test_another_model_teaches_nothing() -> None:
    assert looked(learned(*[({"model": "n", "agent": "a"}, 10)] * 99), agent="a").alone >= 4_096


def test_among_many_the_estimate_is_the_mean_of_those_that_are_open_longest() -> None:
    calls = [({"model": "m"}, 10)] * 900 + [({"model": "m"}, 400)] * 100
    found = looked(learned(*calls))
    # Of all tokens 40,000 are of long calls and 9,000 of short ones.
    assert found.among_many == pytest.approx((40_000 * 400 + 9_000 * 10) / 49_000, rel=0.05)
    asked = [found.tokens(count) for count in (1, 4, 100, 10_000)]
    assert asked == sorted(asked, reverse=True) and 400 <= asked[0] <= 420
    assert asked[-1] == pytest.approx(found.among_many, rel=0.01)
    assert found.tokens(0) == found.tokens(1)


def test_what_was_learned_fades() -> None:
    calls = [({"model": "m"}, 1_000)] * 100
    found = learned(*calls)
    for _ in range(100):
        found.add({"model": "m"}, 50, NOW_MS + 5 * DAY_MS)
    assert looked(found, at_ms=NOW_MS + 6 * DAY_MS - 1).alone <= 52
    assert looked(found, at_ms=NOW_MS + 40 * DAY_MS).alone > 1_000, "nothing is certain of what was long ago"


def test_a_call_without_output_or_labels_is_a_call_too() -> None:
    found = learned(*[({}, 0)] * 100)
    assert found.outlook({}, NOW_MS, 0.95, 4_096, ROOM).alone <= 1
    assert keys_of({}) == (("out", ""),)
    assert len(set(keys_of({"model": "m", "task": "t"})) | set(keys_of({"model": "m", "agent": "t"}))) == 3


def test_a_hundred_thousand_sets_of_labels_take_bounded_memory_and_what_is_asked_for_stays() -> None:
    found = Learned(DAY_MS)
    for number in range(100_000):
        found.add({"model": "m", "agent": f"a{number % 7}", "task": f"t{number}"}, number % 997, NOW_MS)
    taken = size_of(found)
    print(f"{len(found):,} sets kept, {taken / 1e6:.1f} MB")
    assert taken < 60_000_000 and len(found) <= MOST_KEPT // 10
    late = looked(found, agent="a1", task="t99996")
    assert late != looked(found, agent="a1", task="t1") == looked(found, agent="a1", task="never"), "forgotten"
    assert 900 < looked(found, agent="a1").alone < 1_000, "the wide sets are in use all the time"


def test_hostile_labels_take_no_more_memory() -> None:
    found = Learned(DAY_MS)
    for number in range(30_000):
        wide = f"{number:04}" + "\U0001f600" * 127
        found.add({"model": "m" * 500, "agent": wide, "task": wide[::-1]}, number % 997, NOW_MS)
    _keys.cache_clear()
    taken = size_of(found)
    print(f"{len(found):,} sets kept, {taken / 1e6:.1f} MB")
    assert taken < 45_000_000


def sharing() -> tuple[Learned, Unsent]:
    unsent = Unsent(DAY_MS)
    return Learned(DAY_MS, unsent), unsent


def test_every_set_that_is_asked_for_again_and_again_is_read_anew_in_its_turn() -> None:
    found, _ = sharing()
    for number in range(500):
        found.add({"model": "m", "task": f"t{number}"}, 5, NOW_MS)
    found.wanted(0, anew=False)  # those that nobody knew
    read = set[Key]()
    for turn in range(40):
        for number in range(500):
            looked(found, task=f"t{number}")
        wanted = found.wanted(32, anew=turn % 10 == 0)
        assert len(wanted) <= 32
        read |= set(wanted)
    assert len(read) == 501


def test_what_is_asked_for_while_the_store_is_away_takes_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in (("learned.MOST_KEPT", 20_000), ("learned.MOST_ASKED", 1_000), ("unsent.MOST_UNSENT", 2_500)):
        monkeypatch.setattr(f"budgetguard.learning.{name}", most)
    found, unsent = sharing()
    for number in range(6_000):
        agent, task = f"a{number % 7}", f"t{number}"
        looked(found, agent=agent, task=task)
        found.add({"model": "m", "agent": agent, "task": task}, 5, NOW_MS)
        looked(found, agent=agent, task=task)
    taken = size_of(found)  # with what waits to be sent
    print(f"{taken / 1e6:.1f} MB")
    assert taken < 7_000_000
    assert len(found.wanted(10**6, anew=True)) <= MOST_WANTED + 1_000
    calls = 0
    while (flush := unsent.take()) is not None:
        assert unsent.take() is flush, "the same until it was sent"
        assert 0 < len(flush.rows) < FLUSH_MOST + OUTPUT_PLACES
        calls += sum(row.calls for row in flush.rows if row.words == '["out",86400000,"m"]')
        unsent.sent(flush)
    assert calls == 6_000 and not unsent.waits, "the set of the model was there before the most was reached"


def test_a_label_that_is_another_for_each_call_is_taken_as_its_agent() -> None:
    found = Learned(DAY_MS)
    for number in range(3_000):
        subject = {"model": "m", "agent": "a", "task": f"t{number}"}
        assert number < 1_000 or looked(found, **subject).alone <= 105
        found.add(subject, 100, NOW_MS)
    assert found.source({"model": "m", "agent": "a", "task": "t9"}) == (3_000, "agent", "a")
