"""What is asked of a server, until it is answered or given up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from budgetguard.errors import StoreAway, StoreError, StoreUnusable
from budgetguard.stores.redis.address import Address
from budgetguard.stores.redis.errors import Remedy, ReplyError, Trouble
from budgetguard.stores.redis.wire import Command


class Asked:
    """The commands of one round trip, their answers so far, and whether others may have been applied.

    `began_s`: when the last try began (the loop's time). `trouble`: what was in its way, until that is dealt with.
    """

    def __init__(self, commands: Sequence[Command]) -> None:
        self.commands = commands
        self.replies: list[Any] = [None] * len(commands)
        self.open: Sequence[int] = range(len(commands))
        self.is_ambiguous = False
        self.began_s = 0.0
        self.trouble: Trouble | None = None
        self._heard = self._heard_before = ""

    def hear(self, trouble: Trouble) -> None:
        """Keep what is to be told: the last trouble, and the last that was another."""
        if str(trouble) != self._heard:
            self._heard, self._heard_before = str(trouble), self._heard

    def commands_open(self) -> list[Command]:
        """Those without an answer."""
        return [self.commands[place] for place in self.open]

    def replace(self, commands: Mapping[int, Command]) -> None:
        """Ask these, by place, though something was answered there. What else was, and may have been applied, stays."""
        self.commands = [commands.get(place, command) for place, command in enumerate(self.commands)]
        self.open = list(commands)

    def take(self, replies: Sequence[Any]) -> list[ReplyError]:
        """Keep the answers among the replies to the open ones, as far as they came; returns the refusals."""
        if len(replies) == len(self.commands) and ReplyError not in map(type, replies):  # as almost always
            self.replies, self.open = list(replies), ()
            return []
        unread = self.open[len(replies) :]
        refusals = []
        refused = []
        for place, reply in zip(self.open, replies, strict=False):
            if isinstance(reply, ReplyError) and reply.remedy is not Remedy.RETURN:
                refused.append(place)
                refusals.append(reply)
            else:
                self.replies[place] = reply
        self.open = [*refused, *unread]
        return refusals

    def given_up(self, trouble: Trouble, address: Address) -> list[Any]:
        """Raise what is to be told of those without an answer; or, if others have one, put it into the list."""
        said = self._heard + (f" (before that: {self._heard_before})" if self._heard_before else "")
        error: StoreError = StoreAway(f"the store {address} could not be reached in time: {said}")
        if trouble.remedy is not Remedy.RETRY and not self.is_ambiguous:
            error = StoreUnusable(f"the store {address} cannot be used: {said}")
        if len(self.open) == len(self.commands):
            raise error from trouble
        for place in self.open:
            self.replies[place] = error
        return self.replies
