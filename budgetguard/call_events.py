"""The ordinary course of a call, told quietly: what metrics count beside its settle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from budgetguard.events import Event, Level


class Admitted(Event):
    """A call was admitted; the store took `reserve_s` to say so, what the call waited for room apart.

    `input_tokens` are estimated. `api` is the kind of its request ("chat", "embeddings", ...: `wire.paths.Kind`), ""
    where it was reserved by hand.
    """

    name: ClassVar[str] = "budget.admitted"
    level: ClassVar[Level] = "debug"
    reservation_id: str
    subject: Mapping[str, str]
    reserve_s: float
    input_tokens: int = 0
    api: str = ""


class DelayBegan(Event):
    """A call waits for room. A `DelayEnded` follows, however that ends."""

    name: ClassVar[str] = "budget.delay_began"
    level: ClassVar[Level] = "debug"
    reservation_id: str
    subject: Mapping[str, str]


class DelayEnded(Event):
    """A call waits no longer: it was admitted, refused or cancelled."""

    name: ClassVar[str] = "budget.delay_ended"
    level: ClassVar[Level] = "debug"
    reservation_id: str
    subject: Mapping[str, str]


class Released(Event):
    """A call was ended with nothing to charge: its whole hold is returned.

    `cause` names the error (or `http_404`) with which it failed; "" where its caller let go of it.
    """

    name: ClassVar[str] = "budget.released"
    level: ClassVar[Level] = "debug"
    reservation_id: str
    subject: Mapping[str, str]
    cause: str = ""
