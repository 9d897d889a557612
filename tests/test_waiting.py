"""The line of waiters as pure data: whoever is earlier on an account is first, and somebody may always ask."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st
from store_kit import plan

from budgetguard.core.model import Violation
from budgetguard.waiting import POLL_S, Line, Waiter, poll_s

ACCOUNTS = "abcd"
(CLAIM,) = plan("1 concurrent").claims
BY = {name: Violation(CLAIM.account, "held", 1, 0, 1, number, None, 1_000) for number, name in enumerate(ACCOUNTS)}

names = st.sets(st.sampled_from(ACCOUNTS), max_size=3)
STEPS = ("join", "block", "leave", "wake", "wake_first")
steps = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 9), names), max_size=60)


def on(accounts: set[str]) -> Mapping[str, Violation]:
    return {name: BY[name] for name in sorted(accounts)}


class Model:
    """What the line must answer, by looking at everybody."""

    def __init__(self) -> None:
        self.line = Line()
        self.waiters: list[Waiter] = []

    def join(self, accounts: set[str]) -> None:
        waiter = self.line.join()
        waiter.woken = asyncio.Event()
        self.waiters.append(waiter)
        self.line.block(waiter, on(accounts))

    def first(self, account: str) -> Waiter | None:
        return next((waiter for waiter in self.waiters if account in waiter.blocked_on), None)

    def rung(self) -> set[int]:
        """Who was woken since the last look."""
        found = {waiter.number for waiter in self.waiters if waiter.woken and waiter.woken.is_set()}
        for waiter in self.waiters:
            assert waiter.woken is not None
            waiter.woken.clear()
        return found

    def check(self) -> None:
        assert self.line.busy == any(waiter.blocked_on for waiter in self.waiters)
        for waiter in (*self.waiters, None):
            ahead = self.line.ahead_of(waiter, ACCOUNTS)
            earlier = {name: self.first(name) for name in ACCOUNTS}
            expected = {
                name: first.blocked_on[name]
                for name, first in earlier.items()
                if first is not None and (waiter is None or first.number < waiter.number)
            }
            assert ahead == expected, "an earlier waiter is never passed, and nobody else is waited for"
        if self.waiters:
            assert self.line.ahead_of(self.waiters[0], ACCOUNTS) == {}, "the earliest may always ask"


@settings(max_examples=300)
@given(steps)
def test_the_line_answers_as_if_it_looked_at_everybody(played: list[tuple[str, int, set[str]]]) -> None:
    model = Model()
    for step, which, accounts in played:
        if step == "join":
            model.join(accounts)
        elif step == "wake":
            model.rung()
            model.line.wake(accounts)
            assert model.rung() == {first.number for name in accounts if (first := model.first(name))}
        elif step == "wake_first":
            model.rung()
            model.line.wake_first()
            assert model.rung() == {first.number for name in ACCOUNTS if (first := model.first(name))}
        elif model.waiters:
            waiter = model.waiters[which % len(model.waiters)]
            left = waiter.blocked_on.keys() - accounts if step == "block" else set(waiter.blocked_on)
            model.rung()
            if step == "block":
                model.line.block(waiter, on(accounts))
            else:
                model.line.leave(waiter)
                model.waiters.remove(waiter)
            woken = {first.number for name in left if (first := model.first(name))}
            assert model.rung() - {waiter.number} == woken - {waiter.number}, "who is first now is told to look"
        model.check()


@settings(max_examples=200)
@given(st.lists(names, min_size=1, max_size=12), st.randoms())
def test_everybody_comes_to_ask_however_often_each_is_refused(calls: list[set[str]], chance: object) -> None:
    model = Model()
    for accounts in calls:
        model.join(accounts)
    asked = dict.fromkeys((waiter.number for waiter in model.waiters), 0)
    counts = {waiter.number: set(accounts) for waiter, accounts in zip(model.waiters, calls, strict=True)}
    while model.waiters:
        may_ask = [w for w in model.waiters if not model.line.ahead_of(w, counts[w.number])]
        assert model.waiters[0] in may_ask
        waiter = chance.choice(may_ask)  # type: ignore[attr-defined]
        asked[waiter.number] += 1
        refused_by = {name for name in counts[waiter.number] if asked[waiter.number] < 3}
        model.line.block(waiter, on(refused_by))
        if not refused_by:
            model.line.leave(waiter)
            model.waiters.remove(waiter)
        model.check()
    assert not model.line.busy


def test_waking_all_wakes_everybody_and_a_loop_that_is_closed_does_no_harm() -> None:
    model = Model()

    async def wait(waiter: Waiter) -> None:
        await model.line.wait(waiter, 60)

    model.join({"a"})
    model.join({"a"})
    model.line.wake_all()
    assert model.rung() == {0, 1}
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(wait(model.waiters[0]))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    model.line.wake_all()
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]  # it is what this test is about


def test_a_wake_while_the_waiter_asks_is_not_lost() -> None:
    async def main() -> None:
        line = Line()
        waiter = line.join()
        line.block(waiter, on({"a"}))
        await line.wait(waiter, 0)
        line.wake("a")
        async with asyncio.timeout(30):
            await line.wait(waiter, 60)

    asyncio.run(main())


def test_the_head_polls_every_200_ms_with_jitter() -> None:
    pauses = {poll_s() for _ in range(200)}
    assert 0.8 * POLL_S <= min(pauses) < 0.9 * POLL_S < 1.1 * POLL_S < max(pauses) <= 1.2 * POLL_S == 0.24
