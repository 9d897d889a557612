"""A bad network for a storm: as a seed says, requests on their way to a Redis meet the faults of `fault_kit`."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

from fault_kit import (
    BLACK_HOLE,
    CUT_AFTER,
    CUT_BEFORE,
    CUT_MIDDLE,
    DUPLICATE,
    LOSE_REPLY,
    PASS,
    Fault,
    Gate,
    Request,
    is_script,
)
from redis_world import says

SINGLE = {
    "reply lost": LOSE_REPLY, "swallowed": BLACK_HOLE, "doubled": DUPLICATE, "cut before": CUT_BEFORE,
    "cut after": CUT_AFTER, "cut in the middle": CUT_MIDDLE,
}  # fmt: skip
REORDERED, OVERTAKEN = "reordered", "overtaken by its release"
KINDS = (*SINGLE, REORDERED, OVERTAKEN)
MOST_DELAYED = 4
"""Reserves: each of them is a call that is not decided."""
PATIENCE = 200
"""So many requests later a release will come no more."""
is_reserve, is_release = says("reserve"), says("release")


class Weather:
    """The `faults` of a proxy: every kind in turn, in an order of chance. `hits` counts them by kind.

    A request that is reordered is forwarded when the server has answered a later one of another connection. Reserves
    are overtaken by their release when they are delayed, and all their client's other tries are swallowed, until it has
    given up and the server has answered a release of one of them.

    Args:
        seed: decides.
        share: of the requests that are scripts.
    """

    def __init__(self, seed: int, share: float) -> None:
        self.hits: Counter[str] = Counter()
        self._chance = random.Random(f"weather {seed}")
        self._share = share
        self._next: list[str] = []
        self._late: tuple[int, Gate] | None = None
        self._delayed: tuple[frozenset[bytes], Gate] | None = None
        self._patience = 0

    def __call__(self, request: Request) -> Fault:
        if not is_script(request):
            return PASS
        if self._delayed is not None:
            delayed, gate = self._delayed
            self._patience -= 1
            if delayed & holds_in(request):
                return self._of_the_delayed(request, gate)
            if self._patience == 0:  # their client was killed
                self._delayed = None
                gate.open()
        fault = self._fault(request) if self._chance.random() < self._share else PASS
        if self._late is not None and self._late[0] != request.connection and fault.opens is None:
            fault, self._late = replace(fault, opens=self._late[1]), None
        return fault

    def _fault(self, request: Request) -> Fault:
        if not self._next:
            self._next = self._chance.sample(KINDS, len(KINDS))
        kind = next((kind for kind in self._next if self._can_be(kind, request)), "")
        if not kind:
            return PASS
        self._next.remove(kind)
        if kind == REORDERED:
            self._late = request.connection, Gate()
            return self._hit(kind, Fault(wait=self._late[1]))
        if kind == OVERTAKEN:
            self._delayed, self._patience = (holds_in(request), Gate()), PATIENCE
            return Fault(wait=self._delayed[1])
        return self._hit(kind, SINGLE[kind])

    def _can_be(self, kind: str, request: Request) -> bool:
        if kind == OVERTAKEN:
            return self._delayed is None and is_reserve(request) and len(holds_in(request)) <= MOST_DELAYED
        return kind != REORDERED or self._late is None

    def _of_the_delayed(self, request: Request, gate: Gate) -> Fault:
        if is_release(request):
            self._delayed = None
            return self._hit(OVERTAKEN, Fault(opens=gate))
        return BLACK_HOLE if is_reserve(request) else PASS

    def _hit(self, kind: str, fault: Fault) -> Fault:
        self.hits[kind] += 1
        return fault


def holds_in(request: Request) -> frozenset[bytes]:
    """The keys of the reservations that a script names."""
    return frozenset(argument for argument in request.arguments if b"}:h:" in argument)
