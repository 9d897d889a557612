"""Which requests repeat another: the attempts of one operation, as a client's own retries make them."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import weakref
from contextvars import ContextVar


class Attempt:
    """One request of an operation, the `number`th from 1. `has_failed` once a client may send it again."""

    def __init__(self, digest: bytes, operation_id: str, number: int) -> None:
        self.digest = digest
        self.caller = _caller()
        self.operation_id = operation_id
        """The id of the first attempt's reservation; "" before that is made."""
        self.number = number
        self.has_failed = False


_last: ContextVar[Attempt | None] = ContextVar("budgetguard_attempt", default=None)


def next_attempt(url: str, content: bytes) -> Attempt:
    """The attempt that this request is: it repeats one of the same bytes that has failed in the same task."""
    digest = hashlib.blake2b(content, key=hashlib.blake2b(url.encode()).digest(), digest_size=16).digest()
    last = _last.get()
    if last is not None and last.has_failed and (last.digest, last.caller) == (digest, _caller()):
        made = Attempt(digest, last.operation_id, last.number + 1)
    else:
        made = Attempt(digest, "", 1)
    _last.set(made)
    return made


def _caller() -> object:
    """The task, or else the thread, that asks: what it starts inherits its context, and retries nothing of it."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return threading.get_ident() if task is None else weakref.ref(task)
