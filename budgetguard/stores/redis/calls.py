"""The scripts as functions: one for each, keyword-only, and what Redis is sent for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from budgetguard.store import FLUSH_KEPT_MS, OUTPUT_SLICES, Cause
from budgetguard.stores.redis.keys import Keys
from budgetguard.stores.redis.plans import pack
from budgetguard.stores.scripts import Script, commands, script

SCHEMA = 1
"""Of the keys, the arguments and the answers; `lua/lib/meta.lua` says the same number."""


class Caller(NamedTuple):
    """Who calls: the incarnation it knows ("" for none), and the time, where it brings its own clock.

    `heard_ms`: the latest time that it heard the namespace note; one that does not know of it has lost writes.
    """

    keys: Keys
    incarnation: bytes
    clock_ms: int | None
    heard_ms: int

    @property
    def head(self) -> tuple[int, bytes, int, int]:
        """What every script is sent first."""
        return SCHEMA, self.incarnation, self.clock_ms or 0, self.heard_ms

    def script(self, name: str) -> Script:
        """The script, in the form for this caller's clock."""
        return script(name, self.clock_ms is not None)


class Call(NamedTuple):
    """One call of a script. `by_sha` costs less; a server that does not have the script wants it `by_text`.

    `notes_time`: the namespace will remember the time that the script tells.
    """

    of: Script
    keys: Sequence[bytes]
    argument: bytes
    notes_time: bool = False

    @property
    def by_sha(self) -> tuple[Any, ...]:
        return "EVALSHA", self.of.sha, len(self.keys), *self.keys, self.argument

    @property
    def by_text(self) -> tuple[Any, ...]:
        return "EVAL", self.of.body, len(self.keys), *self.keys, self.argument


def batch(
    *,
    caller: Caller,
    touched: Sequence[bytes],
    outbox_most: int,
    outbox_bounded: bool,
    plans: Sequence[Any],
    operations: Sequence[Any],
) -> Call:
    """Do operations in order. `touched`: every reservation and account that they may touch."""
    keys = caller.keys
    argument = pack((*caller.head, outbox_most, outbox_bounded, plans, operations))
    return Call(caller.script("batch"), (keys.meta, keys.open, keys.index, keys.outbox, *touched), argument, True)


def open_namespace(*, caller: Caller, begin_with: bytes, accept_loss: bool) -> Call:
    """Make the namespace's state where there is none, with the incarnation `begin_with`."""
    argument = pack((*caller.head, begin_with, accept_loss, commands()))
    return Call(caller.script("open"), (caller.keys.meta,), argument)


def due(*, caller: Caller, most: int) -> Call:
    """List reservations whose lease has passed."""
    return Call(caller.script("due"), (caller.keys.meta, caller.keys.open), pack((*caller.head, most)), True)


def tell(*, caller: Caller, causes: Sequence[Cause]) -> Call:
    """Say of causes whether this is the first to tell them."""
    touched = (caller.keys.meta, caller.keys.open, *(caller.keys.told(one.cause) for one in causes))
    argument = pack((*caller.head, [one.ttl_ms for one in causes], [one.id for one in causes]))
    return Call(caller.script("tell"), touched, argument, True)


def note(*, caller: Caller, outbox_most: int, entry: bytes) -> Call:
    """Note refusals in the outbox, packed."""
    argument = pack((*caller.head, outbox_most, entry))
    return Call(caller.script("note"), (caller.keys.meta, caller.keys.outbox), argument)


def learn(
    *,
    caller: Caller,
    flush_id: str,
    slice_ms: int,
    most: int,
    sets: Sequence[Sequence[Any]],
    forgotten: Sequence[bytes],
) -> Call:
    """Add to what calls wrote, unless this flush has been added; a set is {digest, words, place, calls, ...}."""
    keys = caller.keys
    records = map(keys.output, (*(one[0] for one in sets), *forgotten))
    argument = pack((*caller.head, slice_ms, OUTPUT_SLICES, FLUSH_KEPT_MS, most, sets, forgotten))
    flush = keys.told(f"outputs {flush_id}")
    return Call(caller.script("learn"), (keys.meta, keys.outputs, *records, flush), argument)


def clock(*, caller: Caller) -> Call:
    """Tell the time."""
    return Call(caller.script("clock"), (caller.keys.meta,), pack(caller.head))


def claim(*, caller: Caller) -> Call:
    """Claim the namespace, with the caller's incarnation as the claim."""
    return Call(caller.script("claim"), (caller.keys.meta,), pack(caller.head))


def rebuild(
    *, caller: Caller, accounts: Sequence[Any], reservations: Sequence[Any], goes_on_as: tuple[bytes, bool] | str | bool
) -> Call:
    """Set accounts and resolved reservations, under the claim that is the caller's incarnation."""
    keys = caller.keys
    touched = (*(keys.account(one[0]) for one in accounts), *(keys.hold(one[0]) for one in reservations))
    argument = pack((*caller.head, accounts, reservations, goes_on_as))
    return Call(caller.script("rebuild"), (keys.meta, keys.open, keys.index, *touched), argument)


def look(*, caller: Caller, commands: Sequence[Sequence[str]]) -> Call:
    """Tell what the namespace says of itself, and which of these commands may be run."""
    return Call(caller.script("look"), (caller.keys.meta,), pack((commands,)))


def prune(*, caller: Caller, digests: Sequence[bytes], found_dead_ms: Sequence[int]) -> Call:
    """Forget those of these accounts that are dead, and were found so at these instants (0: not yet)."""
    keys = caller.keys
    touched = (keys.meta, keys.index, keys.outbox, *map(keys.account, digests))
    return Call(caller.script("prune"), touched, pack((*caller.head, digests, found_dead_ms)))
