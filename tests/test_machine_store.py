"""`core.machine` as the oracle, every store beside it, and a book kept from the answers: one history for all of them.

After every step each store has given the oracle's answers and holds the oracle's accounts, reservations and ledger
rows, and the book (`machine_shadow`) agrees: the invariants I1 to I7 and I10 of FAILURES 2.0.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from machine_contenders import CONTENDERS
from machine_shadow import Shadow
from machine_world import World
from redis_kit import RedisServer
from store_kit import DAY_MS, HOUR_MS, MINUTE_MS, instant_ms

from budgetguard.core.verbs import Expire, Settle, Verdict
from budgetguard.testing.clock import FakeClock
from budgetguard.testing.histories import LEASES_MS, POLICIES, REPLAY_KEEP_MS, Clients
from budgetguard.testing.oracle import Announce

STARTS = tuple(
    instant_ms(text)
    for text in (
        "2026-11-22T12:00:00+00:00",
        "2026-04-23T21:58:00+00:00",  # Cairo skips the midnight of the 24th
        "2026-11-01T03:58:00+00:00",  # Havana has the hour after midnight twice
        "2026-10-03T15:28:00+00:00",  # Lord Howe moves by half an hour
        "2026-10-25T00:58:00+00:00",  # Berlin has 02:00 to 03:00 twice
        "2026-12-31T23:58:30+00:00",
        "2028-02-29T23:59:00+00:00",
    )
)
STEPS_MS = (
    1, 999, 10_000, 20_000, 59_999, MINUTE_MS, 10 * MINUTE_MS, REPLAY_KEEP_MS // 2, REPLAY_KEEP_MS // 2 + 1,
    REPLAY_KEEP_MS, HOUR_MS, DAY_MS, 25 * HOUR_MS, 7 * DAY_MS, 32 * DAY_MS, -1, -30_000, -60_000, -60_001, -120_000,
)  # fmt: skip
MOST_MS = 300 * DAY_MS
SIZES = (12, 4, 30)
CHOICE = st.binary(min_size=8, max_size=8)
CHANGING = {"granted", "settled", "late", "released", "tombstone", "extended", "expired"}
# What the histories may not be without: every answer that a store may give, but for a rare one (`test_matrix`).
REACHABLE = {
    f"{line.split()[0]} {word}"
    for line in """
        reserve granted refused replayed conflict finished voided too_old clock stale_window
        settle settled late replayed conflict finished uncounted
        release released finished replayed tombstone
        grow granted refused replayed finished unknown
        extend extended replayed finished unknown
        expire expired not_due finished replayed unknown
    """.strip().splitlines()
    for word in line.split()[1:]
}
done = {"operations": 0, "transactions": 0, "histories": 0}
words: dict[str, int] = {}


class Foretold(NamedTuple):
    """The oracle's answers, and whether a lease had passed before and after them."""

    answers: list[Any]
    due_before: bool
    due_after: bool


class Histories(RuleBasedStateMachine):
    """One history: every rule is some operations, or time, or a change around the stores.

    There are two oracles: one looks ids that it has forgotten up in the ledger, as SQLite does; the other cannot, as
    Redis cannot (DESIGN 4).
    """

    server: RedisServer | None
    makers = CONTENDERS

    @initialize(start=st.sampled_from(STARTS))
    def begin(self, start: int) -> None:
        done["histories"] += 1
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = FakeClock(start)
        self.start_ms = start
        self.worlds = {asks_ledger: World(asks_ledger=asks_ledger) for asks_ledger in (True, False)}
        self.world, self.shadow, self.clients = self.worlds[True], Shadow(), Clients(start)
        self.contenders = [make(Path(self.folder.name), self.clock, self.server) for make in self.makers]
        neighbour = Clients(start)
        ops = [neighbour.next(bytes([n, n, n, n])) for n in range(40)]
        self._all(lambda contender: contender.begin([op for op in ops if not isinstance(op, Announce)]))

    @rule(count=st.integers(1, 100), size=st.sampled_from(SIZES), number=st.integers(0, 2**24 - 1))
    def many(self, count: int, size: int, number: int) -> None:
        """Clients ask; so many operations at a time share a transaction. Volume: what to ask comes from a generator."""
        dice = random.Random(number)
        self.calls([dice.randbytes(8) for _ in range(count)], size)

    @rule(choices=st.lists(CHOICE, min_size=1, max_size=30), size=st.sampled_from(SIZES))
    def few(self, choices: list[bytes], size: int) -> None:
        """The same; what to ask is drawn by Hypothesis, which makes a failing history small."""
        self.calls(choices, size)

    def calls(self, choices: list[bytes], size: int) -> None:
        for first in range(0, len(choices), size):
            if choices[first][-1] >= 224:  # time passes in between
                self.move(self.clock.now_ms() + STEPS_MS[choices[first][-2] % len(STEPS_MS)])
            self._step([self.clients.next(choice) for choice in choices[first : first + size]])

    @rule(choices=st.lists(CHOICE, min_size=1, max_size=2))
    def repeated(self, choices: list[bytes]) -> None:
        """Each operation twice, at the same instant: one effect, and the same answer."""
        for choice in choices:
            op = self.clients.next(choice)
            (first,) = self._step([op])
            before = self.world.picture()
            (again,) = self._step([op])
            assert self.world.picture() == before
            if isinstance(op, Announce):
                assert again is False
            else:
                assert again.word == ("replayed" if first.word in CHANGING else first.word)

    @rule(change=st.sampled_from(["tick", "edge", "sweep", "reload", "reopen"]), choice=st.integers(0, 59))
    def meanwhile(self, change: str, choice: int) -> None:
        """Time passes, limits change, or something happens around the stores."""
        getattr(self, change)(choice)

    def tick(self, choice: int) -> None:
        """The clock moves on, or back."""
        self.move(self.clock.now_ms() + STEPS_MS[choice % len(STEPS_MS)])

    def edge(self, choice: int) -> None:
        """The clock moves to where a window of the last call ends, or a lease, or just before or after."""
        if not self.clients.calls:
            return
        ends = [claim.account.window_end_ms for claim in self.clients.calls[-1].plan.claims]
        lease_end_ms = self.clock.now_ms() + LEASES_MS[choice % 4]
        targets = sorted({end for end in ends if end is not None and end > self.clock.now_ms()} | {lease_end_ms})
        self.move(targets[choice % len(targets)] + choice // 20 - 1)

    def move(self, to_ms: int) -> None:
        if to_ms < self.start_ms + MOST_MS:
            self.clock.set(to_ms)

    def sweep(self, _: int) -> None:
        """What is due is resolved, and what is too old is forgotten."""
        found = self._all(lambda contender: contender.due())
        for world in self.worlds.values():
            world.hear(self.clock.now_ms())
        for contender, due in zip(self.contenders, found, strict=True):
            assert due == self.worlds[contender.asks_ledger].due()
        self._compare(swept=True)
        ids = sorted(self.world.due())
        if ids:
            assert {answer.word for answer in self._step([Expire(id) for id in ids])} == {"expired"}
            assert {answer.word for answer in self._step([Expire(id) for id in ids])} == {"replayed"}

    def reload(self, choice: int) -> None:
        """Other limits from now on."""
        self.clients.policy = choice % len(POLICIES)

    def reopen(self, _: int) -> None:
        """The stores are closed and opened again."""
        self._all(lambda contender: contender.reopen())

    @invariant()
    def nothing_differs(self) -> None:
        """Stores, oracle and book hold the same."""
        if hasattr(self, "world"):
            self._compare()
            self.shadow.check(self.world.picture(), self.world.accounts, self.world.last_ms)

    def _compare(self, swept: bool = False) -> None:
        for contender in self.contenders:
            world = self.worlds[contender.asks_ledger]
            accounts, reservations, ledger = world.picture()
            theirs = contender.picture(world.last_ms, swept)
            assert theirs.balances == accounts
            assert theirs.reservations == {id: contender.as_kept(told) for id, told in reservations.items()}
            assert theirs.ledger == ledger

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self._all(lambda contender: contender.end())
            self.loop.close()
            self.folder.cleanup()
            for word, times in self.shadow.words.items():
                words[word] = words.get(word, 0) + times

    def _all(self, ask: Any) -> list[Any]:
        """What each contender says; they work at the same time."""

        async def asked() -> list[Any]:
            return await asyncio.gather(*(ask(contender) for contender in self.contenders))

        return self.loop.run_until_complete(asked())

    def _step(self, ops: list[Any]) -> list[Any]:
        """One transaction of the oracle, of every store and of the book; its answers."""
        done["operations"] += len(ops)
        done["transactions"] += 1
        foretold = {asks_ledger: self._foretell(asks_ledger, ops) for asks_ledger in self.worlds}
        for op, answer in zip(ops, foretold[True].answers, strict=True):
            self.clients.heard(op, answer)
        found = self._all(lambda contender: contender.step(ops))
        for contender, told in zip(self.contenders, found, strict=True):
            answers, due_before, due_after = foretold[contender.asks_ledger]
            # A hint, not a decision: it must be there if something was due all the while, and not if nothing was.
            hints = [answer.sweep_due for answer in told if isinstance(answer, Verdict) and answer.word == "refused"]
            assert not (due_before and due_after) or all(hints)
            assert due_before or not any(hints)
            assert [a._replace(sweep_due=False) if isinstance(a, Verdict) else a for a in told] == answers
        return foretold[True].answers

    def _foretell(self, asks_ledger: bool, ops: list[Any]) -> Foretold:
        """What an oracle answers; the book follows the one that forgets nothing that the ledger knows."""
        world = self.worlds[asks_ledger]
        world.hear(self.clock.now_ms())
        if asks_ledger:
            self.shadow.standing = frozenset(world.balances)
        due_before = bool(world.due())
        answers = world.step(ops, self.clock.now_ms())
        for op, answer, row in zip(ops, answers, world.written, strict=True):
            if asks_ledger and not isinstance(op, Announce):
                self.shadow.see(op, answer, row, world.last_ms)
            elif not asks_ledger and isinstance(op, Settle) and answer.word == "uncounted":
                words["settle uncounted"] = words.get("settle uncounted", 0) + 1
        return Foretold(answers, due_before, bool(world.due()))


def run(
    operations: int, histories: int, request: pytest.FixtureRequest, server: RedisServer | None,
    machine: type[Histories] = Histories,
) -> None:  # fmt: skip
    """Run histories until there were so many operations, from a seed that is printed; `--hypothesis-seed` sets it.

    A history has some 700 operations: of the last ones no more are run than it takes.
    """
    done.update(operations=0, transactions=0, histories=0)
    words.clear()
    machine.server = server
    phases = tuple(phase for phase in settings.default.phases if phase in (Phase.generate, Phase.shrink))
    number = int(request.config.getoption("hypothesis_seed") or random.randrange(2**32))
    while done["operations"] < operations:
        print(f"\nrepeat with --hypothesis-seed={number}")
        run_state_machine_as_test(
            seed(number)(machine),
            settings=settings(
                max_examples=min(histories, 1 + (operations - done["operations"]) // 800), stateful_step_count=60,
                deadline=None, database=None, print_blob=True, suppress_health_check=list(HealthCheck), phases=phases,
            ),
        )  # fmt: skip
        number += 1
    print(f"{done['operations']} operations in {done['transactions']} transactions of {done['histories']} histories")
    print(", ".join(f"{word} {words[word]}" for word in sorted(words)))


@pytest.mark.early
def test_every_store_decides_as_the_oracle_does(request: pytest.FixtureRequest, redis_server: RedisServer) -> None:
    run(50_000, 12, request, redis_server)
    assert set(words) >= REACHABLE


def test_a_settle_of_a_call_that_was_admitted_later_than_now_decides_alike(redis_server: RedisServer) -> None:
    """The clock stood a millisecond before the window for which the call was made."""
    Histories.server = redis_server
    history = Histories()
    try:
        history.begin(start=1_795_348_800_000)
        history.many(count=16, number=1995, size=30)
        history.nothing_differs()
    finally:
        history.teardown()


@pytest.mark.long
def test_every_store_decides_as_the_oracle_does_a_million_times(
    request: pytest.FixtureRequest, redis_server: RedisServer
) -> None:
    run(1_000_000, 200, request, redis_server)
    assert set(words) >= REACHABLE
