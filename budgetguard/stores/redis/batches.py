"""Operations that are asked at once share scripts, and scripts share a round trip."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from budgetguard.core.verbs import Reserve
from budgetguard.errors import StoreError, StoreUnusable
from budgetguard.stores.batching import Answers, Done
from budgetguard.stores.redis import calls
from budgetguard.stores.redis.answers import NO_MEMORY, UNDECLARED, UNTOLD, answer_of
from budgetguard.stores.redis.calls import Call, Caller
from budgetguard.stores.redis.errors import unreadable
from budgetguard.stores.redis.keys import digest_of
from budgetguard.stores.redis.operations import Announce, operation
from budgetguard.stores.redis.plans import SentPlans, digests_in, unpack_all
from budgetguard.stores.redis.scripting import Make, ScriptFailed, Scripting
from budgetguard.stores.redis.server import Server
from budgetguard.stores.redis.work import Chunk, Work

MOST_OPS = 64
MOST_TOUCHES = 512
"""Of a script: operations, and accounts. Others wait for the server meanwhile."""
SCRIPTS = 2
"""Of a round trip."""
MOST_KNOWN = 65_536
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.005, 0.1
PLAN = 6
"""Where the record of a reservation has its plan: `hold_from` in `lua/lib/holds.lua`."""
ENDED = frozenset({"settled", "late", "released", "expired", "finished", "replayed", "uncounted"})


class Outbox(NamedTuple):
    """How many rows it has at most; unbounded, the oldest go."""

    most: int
    bounded: bool


class Batches:
    """Does operations for one namespace, from any event loop; knows the accounts of reservations made here."""

    def __init__(self, scripting: Scripting, outbox: Outbox) -> None:
        self._scripting = scripting
        self._keys = scripting.keys
        self._outbox = outbox
        self._plans = SentPlans(self._keys)
        self._known: dict[str, tuple[bytes, ...]] = {}
        self._unreadable: set[str] = set()

    async def run(self, server: Server, ops: Sequence[Any], deadline: float) -> Answers:
        """The answers in order; an error in the place of an operation that could not be done by then (loop's time)."""
        return await self._go_on(server, Work(ops, deadline))

    def begin(self, server: Server, ops: Sequence[Any], deadline: float, done: Done) -> None:
        """The same, without a task where nothing is out of the ordinary: tasks cost a call more than what they do.

        `done` is called once, at once or later: with the answers, or with what has to be awaited for them.
        """
        work = Work(ops, deadline)
        with contextlib.suppress(Exception):  # of what cannot be sent; `_go_on` finds it again, and who is to be told
            if server.is_ready and not self._unknown(ops):
                work.chunks = list(self._chunks(ops, work.left))
                if len(work.chunks) <= SCRIPTS:
                    work.begun = self._scripting.begin(
                        server, self._maker(work.chunks, whole=False), deadline, lambda: done(self._heard(server, work))
                    )
        if work.begun is None:
            done(self._go_on(server, work))

    def _heard(self, server: Server, work: Work) -> Answers | Awaitable[Answers]:
        """The answers to what was begun, or what has to be awaited for them."""
        begun = work.begun
        if begun is None or not begun.is_answered:
            return self._go_on(server, work)
        try:
            replies = self._scripting.answers_of(begun)
            if replies is None:
                return self.run(server, work.ops, work.deadline)
            parts = zip(work.chunks, replies, strict=True)
            work.passed([place for chunk, reply in parts for place in self._note(chunk, reply, work.answers)])
        except StoreError as error:
            return [error] * len(work.ops)
        except Exception as error:  # noqa: BLE001 - as in `_go_on`
            return self._each_alone(server, work, error)
        return self._go_on(server, work) if work.left else work.answers

    async def _go_on(self, server: Server, work: Work) -> Answers:
        try:
            return await self._run(server, work)
        except Exception as error:  # noqa: BLE001 - it holds what cannot be sent; only the operation that has it is told
            return await self._each_alone(server, work, error)

    async def _each_alone(self, server: Server, work: Work, error: Exception) -> Answers:
        if len(work.ops) == 1:
            return [error]
        return [answer for op in work.ops for answer in await self.run(server, [op], work.deadline)]

    async def _run(self, server: Server, work: Work) -> Answers:
        loop, pause_s = asyncio.get_running_loop(), FIRST_PAUSE_S
        if not work.whole:
            await self._pass(server, work)
        while work.left and loop.time() + pause_s < work.deadline:
            await self._pass(server, work)
            if work.left:
                await asyncio.sleep(random.uniform(0.5, 1) * pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        return work.answers

    async def _pass(self, server: Server, work: Work) -> None:
        """Ask those that are left; then those are left that should be asked again, with all details."""
        ops, chunks, trouble = work.ops, work.chunks, None
        again: list[int] = []
        if not chunks:
            trouble = await self._learn(server, self._unknown([ops[place] for place in work.left]), work.deadline)
            chunks = list(self._chunks(ops, work.left))
        while chunks:
            pair, chunks = chunks[:SCRIPTS], chunks[SCRIPTS:]
            replies = [trouble] * len(pair) if trouble else await self._replies(server, pair, work)
            for chunk, reply in zip(pair, replies, strict=True):
                if isinstance(reply, ScriptFailed) and len(chunk.ops) > 1:  # one of them is at fault
                    chunks = [alone for place in chunk.places for alone in self._chunks(ops, [place])] + chunks
                else:
                    again += self._note(chunk, reply, work.answers)
        work.passed(again)

    async def _replies(self, server: Server, chunks: Sequence[Chunk], work: Work) -> Sequence[Any]:
        make, (begun, work.begun) = self._maker(chunks, work.whole), (work.begun, None)
        try:
            return await self._scripting.ask(server, make, work.deadline, begun)
        except StoreError as error:
            return [error] * len(chunks)

    def _maker(self, chunks: Sequence[Chunk], whole: bool) -> Make:
        return lambda caller: [self._call(caller, chunk, whole) for chunk in chunks]

    def _note(self, chunk: Chunk, reply: Any, answers: list[Any]) -> list[int]:
        """Keep the answers of one script; the places of operations that should be asked again."""
        if isinstance(reply, StoreError):
            for place in chunk.places:
                answers[place] = reply
            return []
        now_ms, told = reply
        again = []
        for place, op, said in zip(chunk.places, chunk.ops, told, strict=True):
            plan = getattr(op, "plan", None)
            try:
                answers[place] = answer_of(op, said, now_ms, chunk.plans[id(plan)][1].accounts if plan else {})
            except StoreError as error:
                answers[place] = error
                if said[0] == UNDECLARED and getattr(op, "id", "") in self._unreadable:  # it would be so for ever
                    answers[place] = StoreUnusable(unreadable(self._keys.hold(op.id).decode()))
                elif said[0] in (NO_MEMORY, UNDECLARED, UNTOLD):
                    self._known.pop(getattr(op, "id", ""), None)
                    again.append(place)
            except (ValueError, TypeError, LookupError) as error:  # done it is, and a repeat will say so
                answers[place] = StoreUnusable(f"the index does not tell which accounts an answer means: {error!r}")
            else:
                self._remember(op, answers[place], chunk)
        return again

    def _remember(self, op: Any, answer: Any, chunk: Chunk) -> None:
        if type(op) is Announce:
            return
        if type(op) is Reserve and answer.word == "granted":
            chunk.plans[id(op.plan)][1].told = True
            if len(self._known) >= MOST_KNOWN:
                self._known.pop(next(iter(self._known), ""), None)
            self._known[op.id] = chunk.plans[id(op.plan)][1].keys
        elif answer.word in ENDED and type(op) is not Reserve:
            self._known.pop(op.id, None)

    def _unknown(self, ops: Iterable[Any]) -> list[str]:
        """Reservations of which it is not known here which accounts they hold."""
        return [op.id for op in ops if type(op) not in (Reserve, Announce) and op.id not in self._known]

    async def _learn(self, server: Server, ids: list[str], deadline: float) -> StoreError | None:
        """Read which accounts these reservations hold: every key that a script touches is named to it."""
        if not ids:
            return None
        try:
            (records,) = await server.ask([("MGET", *map(self._keys.hold, ids))], deadline)
        except StoreError as error:
            return error
        for id, record in zip(ids, records if isinstance(records, list) else [], strict=False):
            try:
                plan = unpack_all(record)[PLAN] if record else b""  # a settled one needs none any more
                digests = digests_in(plan) if plan else []
            except (ValueError, TypeError, LookupError):  # the script will say so, or that it wants keys
                self._unreadable.add(id)
                continue
            self._unreadable.discard(id)
            if digests:
                self._known[id] = tuple(map(self._keys.account, digests))
        return None

    def _chunks(self, ops: Sequence[Any], places: Iterable[int]) -> Iterator[Chunk]:
        chunk = Chunk()
        for place in places:
            op = ops[place]
            if len(chunk.ops) == MOST_OPS or len(chunk.accounts) >= MOST_TOUCHES:
                yield chunk
                chunk = Chunk()
            chunk.places.append(place)
            chunk.ops.append(op)
            self._touch(chunk, op)
        if chunk.ops:
            yield chunk

    def _touch(self, chunk: Chunk, op: Any) -> None:
        if type(op) is Announce:
            chunk.accounts[self._keys.account(digest_of(op[0].key))] = None
            return
        chunk.holds[self._keys.hold(op.id)] = None
        plan = getattr(op, "plan", None)
        if plan is not None and id(plan) not in chunk.plans:
            sent = self._plans.of(plan)
            chunk.plans[id(plan)] = len(chunk.plans) + 1, sent
            chunk.accounts |= sent.touched
        known = self._known.get(op.id)
        if known is None:
            if type(op) is not Reserve:
                chunk.whole |= {id(op), id(plan)}
        elif plan is None or known is not chunk.plans[id(plan)][1].keys:
            chunk.accounts.update(dict.fromkeys(known))

    def _call(self, caller: Caller, chunk: Chunk, whole: bool) -> Call:
        return calls.batch(
            caller=caller,
            touched=[*chunk.holds, *chunk.accounts],
            outbox_most=self._outbox.most,
            outbox_bounded=self._outbox.bounded,
            plans=[sent.wire(whole or place in chunk.whole) for place, (_, sent) in chunk.plans.items()],
            operations=[operation(op, chunk.number, whole or id(op) in chunk.whole) for op in chunk.ops],
        )
