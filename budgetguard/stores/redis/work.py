"""Operations on their way through scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from budgetguard.core.model import Plan
from budgetguard.stores.redis.plans import SentPlan
from budgetguard.stores.redis.scripting import Begun


class Chunk:
    """The operations of one script. `whole`: plans and operations (by `id`) that are sent with all details."""

    def __init__(self) -> None:
        self.whole: set[int] = set()
        self.places: list[int] = []
        self.ops: list[Any] = []
        self.plans: dict[int, tuple[int, SentPlan]] = {}
        self.accounts: dict[bytes, None] = {}
        self.holds: dict[bytes, None] = {}

    def number(self, plan: Plan) -> int:
        """Under which a plan is sent."""
        return self.plans[id(plan)][0]


class Work:
    """Operations that are under way: their answers so far, and the places of those that are left.

    `chunks`, `begun`: in which scripts they go, and the calls of those, where that was begun. `whole`: they have been
    asked once, and are asked again with all details.
    """

    def __init__(self, ops: Sequence[Any], deadline: float) -> None:
        self.ops = ops
        self.deadline = deadline
        self.answers: list[Any] = [None] * len(ops)
        self.left = list(range(len(ops)))
        self.chunks: list[Chunk] = []
        self.begun: Begun | None = None
        self.whole = False

    def passed(self, left: list[int]) -> None:
        """All were asked, and these are to be asked again."""
        self.left, self.whole = left, True
        self.chunks, self.begun = [], None
