"""The parts of a policy beside its budgets: labels, how reservations live, where they are held."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from budgetguard.core.model import OnExpiry
from budgetguard.errors import ConfigError, InvalidLabel
from budgetguard.policy_checks import (
    Check,
    a_count,
    a_flag,
    a_ledger_url,
    a_namespace,
    a_path,
    a_secret,
    a_store_url,
    label_names,
    label_values,
    milliseconds,
    nearest,
    one_of,
    quoted,
    table_faults,
)

WithoutUsage = Literal["release", "input", "streamed", "estimate"]
"""What is settled for a call whose usage the provider never told: nothing, its estimated input, that input and what had
been streamed of its output (the estimate where the answer is no stream), or all of its estimate."""
FIRST_LABELS = ("team", "agent", "session", "task", "user")
"""The labels that are known without being named anywhere."""
GUARD_LABELS = ("model", "provider")
"""The labels that the guard adds to each call."""


@dataclass(frozen=True)
class LabelRules:
    """Which labels a call must have, which it may have, and what it has when nobody says.

    Args:
        required: a call without one of them is refused.
        known: the only ones that there are, beside `model`, `provider` and the keys of `default`. None: team, agent,
            session, task, user, and what `required` and the budgets name.
        default: values for the labels that a call lacks.

    Raises:
        ConfigError: lists every fault by the field's path.
    """

    required: Sequence[str] = ()
    known: Sequence[str] | None = None
    default: Mapping[str, str] = field(default_factory=dict, hash=False)
    names: frozenset[str] = field(init=False, repr=False, compare=False)
    """Every label that is known."""

    def __post_init__(self) -> None:
        entry = {"required": self.required, "known": self.known, "default": self.default}
        _refuse_faults("labels", label_faults({key: value for key, value in entry.items() if value is not None}))
        known = (*FIRST_LABELS, *self.required) if self.known is None else tuple(self.known)
        object.__setattr__(self, "required", tuple(self.required))
        object.__setattr__(self, "known", None if self.known is None else known)
        object.__setattr__(self, "default", dict(self.default))
        object.__setattr__(self, "names", frozenset((*known, *GUARD_LABELS, *self.default)))

    def check(self, labels: Mapping[str, str]) -> None:
        """Pass labels whose names are all known.

        Raises:
            InvalidLabel: shows the first that is not, and suggests the nearest.
        """
        for name in labels:
            if name not in self.names:
                raise InvalidLabel(unknown_label(f"label {quoted(name)}", name, self.names))


@dataclass(frozen=True)
class GuardSettings:
    """How reservations live (times in ms), and what becomes of calls that are no ordinary ones.

    What a file says as `lease = "30s"` and `max_hold = "2h"` is here
    `GuardSettings(lease_ms=30_000, max_hold_ms=7_200_000)`.

    Args:
        on_expiry: an abandoned reservation is charged its estimate, or released.
        on_unmatched: a call that no budget covers is let through, or refused.
        on_unknown_api: a request to an API that is not known is refused, or passes unguarded and unrecorded.
        on_unknown_price: a call whose price nobody knows, under a dollar budget: refused, counted at the highest price
            that is known, or counted as free.
        on_cancel: what is settled for a call that its caller cancelled, or a stream that was left unread.
        on_error: the same for one that the connection or the provider broke off.
        on_unknown_outcome: the same for one of which nobody knows whether the provider answered it, and for one that
            was answered without usage.
        on_stream_exceed: where a budget refuses what a stream takes beyond its estimate, the stream ends with
            BudgetExceeded, or goes on to its end, its overage recorded. What was learned may be passed either way, up
            to the most that the request or its model allows.
        inject_max_tokens: a request that bounds its output nowhere is given the estimated output as its bound; not one
            that was signed before it reaches the guard (AWS, save through a wrapped client of boto3), which is sent as
            it was signed.

    Raises:
        ConfigError: lists every fault by the field's path.
    """

    lease_ms: int = 60_000
    max_hold_ms: int = 86_400_000
    replay_keep_ms: int = 900_000
    on_expiry: OnExpiry = "charge"
    on_unmatched: Literal["allow", "refuse"] = "allow"
    on_unknown_api: Literal["refuse", "pass"] = "refuse"
    on_unknown_price: Literal["refuse", "upper_bound", "zero"] = "refuse"
    on_cancel: WithoutUsage = "streamed"
    on_error: WithoutUsage = "streamed"
    on_unknown_outcome: WithoutUsage = "streamed"
    on_stream_exceed: Literal["stop", "finish"] = "stop"
    inject_max_tokens: bool = False

    def __post_init__(self) -> None:
        _refuse_faults("guard", table_faults(vars(self), GUARD_CHECKS))


@dataclass(frozen=True)
class StoreSettings:
    """Where budgets are held. `url` and `spool` are None for the user's state directory; `timeout_ms` of one verb.

    What a file says as `timeout = "2s"` is `StoreSettings(timeout_ms=2_000)`.

    Of Redis only, which is not the ledger itself: `outbox_max` ledger rows wait there to be drained, then calls are
    refused, or with `ledger="none"`, where nobody drains them, the oldest go. `allow_eviction` uses a server that may
    evict what was spent.

    Raises:
        ConfigError: lists every fault by the field's path.
    """

    url: str | None = field(default=None, repr=False)
    namespace: str = "default"
    timeout_ms: int = 2_000
    on_store_away: Literal["refuse", "allow"] = "refuse"
    spool: str | None = None
    outbox_max: int = 1_000_000
    ledger: Literal["outbox", "none"] = "outbox"
    allow_eviction: bool = False

    def __post_init__(self) -> None:
        _refuse_faults("store", table_faults(vars(self), STORE_CHECKS))


@dataclass(frozen=True)
class LedgerSettings:
    """What the ledger keeps of calls, and where it is in SQL.

    Args:
        url: a guard on Redis drains into it while it is at work: `sqlite:///file.db` or `postgresql://...`. None: that
            is left to `budgetguard ledger drain`. A SQLite store is its own ledger.
        prompt_key: a secret of at least 16 bytes, with which prompts are hashed, so that equal ones can be found; None:
            nothing is kept of prompts. Their text never is.

    Raises:
        ConfigError: lists every fault by the field's path.
    """

    url: str | None = field(default=None, repr=False)
    prompt_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _refuse_faults("ledger", table_faults(vars(self), LEDGER_CHECKS))


GUARD_CHECKS: Mapping[str, Check] = {
    "lease_ms": milliseconds(100),
    "max_hold_ms": milliseconds(100),
    "replay_keep_ms": milliseconds(1_000),
    "on_expiry": one_of("charge", "release"),
    "on_unmatched": one_of("allow", "refuse"),
    "on_unknown_api": one_of("refuse", "pass"),
    "on_unknown_price": one_of("refuse", "upper_bound", "zero"),
    "on_cancel": one_of(*get_args(WithoutUsage)),
    "on_error": one_of(*get_args(WithoutUsage)),
    "on_unknown_outcome": one_of(*get_args(WithoutUsage)),
    "on_stream_exceed": one_of("stop", "finish"),
    "inject_max_tokens": a_flag,
}
STORE_CHECKS: Mapping[str, Check] = {
    "url": a_store_url,
    "namespace": a_namespace,
    "timeout_ms": milliseconds(1),
    "on_store_away": one_of("refuse", "allow"),
    "spool": a_path,
    "outbox_max": a_count,
    "ledger": one_of("outbox", "none"),
    "allow_eviction": a_flag,
}
LEDGER_CHECKS: Mapping[str, Check] = {"url": a_ledger_url, "prompt_key": a_secret("PROMPT_KEY")}
LABEL_CHECKS: Mapping[str, Check] = {"required": label_names, "known": label_names, "default": label_values}


def label_faults(entry: Mapping[str, Any]) -> Iterator[str]:
    """Every fault of the fields of `LabelRules`, each beginning with its path."""
    faults = list(table_faults(entry, LABEL_CHECKS))
    yield from faults
    if not faults and "known" in entry:
        names = frozenset((*entry["known"], *GUARD_LABELS, *entry.get("default", ())))
        for number, name in enumerate(entry.get("required", ())):
            if name not in names:
                yield unknown_label(f"required[{number}]: {quoted(name)}", name, names)


def unknown_label(what: str, name: Any, names: Iterable[str]) -> str:
    """The fault of a label that is not known, with the nearest one that is."""
    return f"{what} is not a known label; {nearest(name, names)} (labels are made known in labels.known)"


def _refuse_faults(section: str, faults: Iterator[str]) -> None:
    found = [f"{section}.{fault}" for fault in faults]
    if found:
        raise ConfigError(section, found)
