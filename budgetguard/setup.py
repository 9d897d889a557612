"""From arguments and environment to a policy, and from a policy to what a guard's engines share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from budgetguard.alerts.raised import OnAlert
from budgetguard.draining import Drain
from budgetguard.errors import ConfigError, InvalidLabel
from budgetguard.events import Event, Observer, PolicyRejected, PolicyReloaded
from budgetguard.labels import LABELS_VARIABLE, labels_from_env
from budgetguard.learning.forecasting import Forecasting
from budgetguard.outcome import Outcome
from budgetguard.policy import (
    AlertSettings,
    Budget,
    GuardSettings,
    LabelRules,
    LedgerSettings,
    Mode,
    Policy,
    StoreSettings,
    budget_changes,
)
from budgetguard.price import Price
from budgetguard.pricing import PriceTable
from budgetguard.refusal_counts import RefusalCounts
from budgetguard.resources import Resources

if TYPE_CHECKING:
    from pathlib import Path

    from budgetguard.estimates.settings import EstimateSettings
    from budgetguard.policy_file import PolicyFile
    from budgetguard.store import Store
    from budgetguard.wire.hosts import Host

CONFIG_VARIABLE = "BUDGETGUARD_CONFIG"
STORE_VARIABLE = "BUDGETGUARD_STORE"
MODE_VARIABLE = "BUDGETGUARD_MODE"
DEFAULT_FILE = "budgetguard.toml"
NO_BUDGETS = f'no budgets: pass a limit such as "$5/day", budgets=[...], or set {CONFIG_VARIABLE}'


class PolicySource:
    """Where a guard's policy comes from: Python, or a file that may change."""

    def __init__(self, policy: Policy, file: PolicyFile | None = None) -> None:
        self.policy = policy
        self._file = file
        self.env_labels: Mapping[str, str] = env_labels(policy)

    @classmethod
    def of_file(cls, path: str | Path | None) -> PolicySource:
        """The policy of a file; default `BUDGETGUARD_CONFIG`, else `./budgetguard.toml`.

        Raises:
            ConfigError: lists every fault.
        """
        from pathlib import Path

        from budgetguard.policy_file import PolicyFile

        file = PolicyFile(Path(path or os.environ.get(CONFIG_VARIABLE) or DEFAULT_FILE), os.environ)
        return cls(file.load(), file)

    def changed(self) -> bool:
        """Whether the file differs from what was last read."""
        return self._file is not None and self._file.changed()

    def follow(self, reload: Callable[[], None], notify: Callable[[Event], None]) -> None:
        """Reload if the file has changed; a bad new version is told, and the old one stays."""
        if self.changed():
            try:
                reload()
            except ConfigError as error:
                notify(PolicyRejected(error.source, str(error)))

    def reload(self, shared: Resources) -> bool:
        """Put the file's present version in force. False for a policy made in Python. Errors: ConfigError."""
        if self._file is None:
            return False
        new = self._file.load()
        self.env_labels = env_labels(new)
        old, shared.policy = shared.policy, new
        resets = [*self._of_the_store(new.store), *self._of_the_ledger(new), *budget_changes(old, new)]
        shared.notify(PolicyReloaded(str(self._file.path), tuple(resets)))
        return True

    def _of_the_store(self, wanted: StoreSettings) -> list[str]:
        """A line for each setting with which the store and the spool were opened and that the file now says anew."""
        opened_with = ("url", "namespace", "timeout_ms", "spool", "outbox_max", "ledger", "allow_eviction")
        was = self.policy.store
        changed = [name for name in opened_with if getattr(wanted, name) != getattr(was, name)]
        return [f"store.{name.removesuffix('_ms')}: takes effect when the process starts again" for name in changed]

    def _of_the_ledger(self, new: Policy) -> list[str]:
        changed = new.ledger.url != self.policy.ledger.url
        return ["ledger.url: takes effect when the process starts again"] if changed else []


def env_labels(policy: Policy) -> Mapping[str, str]:
    """The labels that BUDGETGUARD_LABELS states for every call.

    Raises:
        ConfigError: it cannot be read, or states a label that the policy does not know, so that no call could pass.
    """
    labels = labels_from_env(os.environ.get(LABELS_VARIABLE, ""))
    if policy.mode != "off":
        try:
            policy.labels.check(labels)
        except InvalidLabel as error:
            raise ConfigError(LABELS_VARIABLE, [str(error)]) from None
    return labels


def policy_from(
    limits: Sequence[str],
    budgets: Sequence[Budget],
    prices: Sequence[Price],
    store: str | StoreSettings | Store | None,
    mode: Mode | None,
    timezone: str,
    labels: LabelRules | None,
    settings: GuardSettings | None,
    estimate: EstimateSettings | None,
    hosts: Sequence[Host],
    ledger: LedgerSettings | None,
    alerts: AlertSettings | None,
) -> PolicySource:
    """The policy of a `Guard`'s arguments; the environment fills in what they leave out.

    Raises:
        ConfigError: lists every fault; also if there is no budget at all.
    """
    if not limits and not budgets:
        if os.environ.get(CONFIG_VARIABLE):
            _refuse_unheard(
                prices=prices, mode=mode, labels=labels, settings=settings, estimate=estimate, hosts=hosts,
                ledger=ledger, alerts=alerts,
            )  # fmt: skip
            return PolicySource.of_file(None)
        raise ConfigError("Guard()", [NO_BUDGETS])
    own = [Budget("default", limits)] if limits else []
    return PolicySource(
        Policy(
            [*own, *budgets], mode=mode or cast("Mode", os.environ.get(MODE_VARIABLE) or "enforce"), timezone=timezone,
            labels=labels, guard=settings, store=_store_settings(store), prices=PriceTable(prices), estimate=estimate,
            hosts=hosts, ledger=ledger, alerts=alerts,
        )
    )  # fmt: skip


def _refuse_unheard(**own_words: object) -> None:
    unheard = [name for name, given in own_words.items() if given]
    if unheard:
        raise ConfigError("Guard()", [f"{n}: the file that {CONFIG_VARIABLE} names says it" for n in unheard])


def _store_settings(store: str | StoreSettings | Store | None) -> StoreSettings:
    if isinstance(store, StoreSettings):
        return store
    return StoreSettings(url=store if isinstance(store, str) else os.environ.get(STORE_VARIABLE) or None)


def resources_of(
    source: PolicySource,
    store: str | StoreSettings | Store | None,
    observers: Sequence[Observer],
    on_alert: Sequence[OnAlert],
    outcome_of: Callable[[BaseException], Outcome],
    check_policy: Callable[[], None],
) -> Resources:
    """Store and spool as the policy's settings say, unless a store or its URL was handed in."""
    from budgetguard.alerts.alerting import Alerting
    from budgetguard.alerts.watching import Watcher
    from budgetguard.stores import open_spool, open_store, own_ledger_url

    settings = source.policy.store
    url = store if isinstance(store, str) else settings.url
    if store is None or isinstance(store, (str, StoreSettings)):
        opened = open_store(
            url, settings.namespace, settings.timeout_ms,
            outbox_max=settings.outbox_max, ledger=settings.ledger, allow_eviction=settings.allow_eviction,
        )  # fmt: skip
    else:
        opened, url = store, repr(store)
    spool = open_spool(url, settings.namespace, settings.spool)
    drain = _drain_of(source.policy, url) if source.policy.ledger.url is not None else None
    ledger_url = source.policy.ledger.url or own_ledger_url(url)
    watcher = Watcher(lambda: shared.policy)
    refusals = RefusalCounts()
    notify = observed([watcher, *observers], refusals)

    def alerting(now_ms: Callable[[], int]) -> Alerting:
        return Alerting(lambda: shared.policy, opened, ledger_url, watcher, on_alert, notify, now_ms)

    shared = Resources(
        source.policy, opened, spool, notify, outcome_of, check_policy, refusals, drain, alerting, Forecasting()
    )
    return shared


def _drain_of(policy: Policy, store_url: str | None) -> Callable[[], Drain]:
    """What makes the drain of an event loop.

    Raises:
        ConfigError: the store has no outbox, or nobody keeps it.
    """
    from budgetguard.ledger.background import Background

    settings, url = policy.store, policy.ledger.url or ""
    if settings.ledger == "none":
        raise ConfigError("ledger.url", ['store.ledger = "none" keeps no rows for it: take out one of the two'])

    def made() -> Background:
        return Background(url, store_url, settings.namespace, settings.timeout_ms)

    try:
        made().drop()
    except ConfigError as error:
        raise ConfigError("ledger.url", error.faults) from None
    return made


def observed(observers: Sequence[Observer], refusals: RefusalCounts) -> Callable[[Event], None]:
    """Tell the log, what counts refusals, and then every observer; one that raises is logged, and disturbs no call."""
    from budgetguard.logs import LogObserver

    log, everybody = LogObserver(), [refusals, *observers]

    def notify(event: Event) -> None:
        log.on_event(event)
        for observer in everybody if type(event) in refusals.counted else observers:
            try:
                observer.on_event(event)
            except Exception as error:  # noqa: BLE001 - accounting goes on whatever an observer does
                log.observer_failed(observer, event, error)

    return notify
