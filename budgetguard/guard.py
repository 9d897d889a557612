"""`Guard`: what users hold in their hands. It wires policy, store, spool and observers, and owns nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from budgetguard.admission import Admission
from budgetguard.alerts.raised import OnAlert
from budgetguard.alerts.settings import AlertSettings
from budgetguard.call import NO_ORIGIN, Call, Origin, new_id
from budgetguard.clients import Clients, Gate
from budgetguard.core.model import Plan
from budgetguard.decorating import Estimate, Fn, budgeted
from budgetguard.engines import Engines
from budgetguard.errors import BudgetExceeded, BudgetGuardError, CallRefused, InvalidLabel
from budgetguard.events import Observer, Refused
from budgetguard.hold import Hold
from budgetguard.labels import check_label
from budgetguard.off import OffHold
from budgetguard.outcome import Outcome, outcome_of
from budgetguard.policy import Budget, GuardSettings, LabelRules, LedgerSettings, Mode, Policy, StoreSettings
from budgetguard.reserving import Reserving, is_inside_hold
from budgetguard.resources import Resources
from budgetguard.setup import PolicySource, policy_from, resources_of
from budgetguard.status import AccountStatus, account_rows, amounts_left
from budgetguard.subjects import NO_LABELS, Judged, Subjects, own_labels
from budgetguard.within import Within, claims_around, tell_scopes

if TYPE_CHECKING:
    from pathlib import Path

    from budgetguard.estimates.settings import EstimateSettings
    from budgetguard.price import Price
    from budgetguard.store import Store
    from budgetguard.sync import SyncGuard
    from budgetguard.usage import Usage
    from budgetguard.wire.hosts import Host


class Guard(Clients):
    """Holds calls to budgets. Opened at its first use in an event loop, drained at the exit of the process.

    Args:
        limits: limits of one budget named "default" over everything: `Guard("$5/day", "2M tokens/hour")`.
        budgets: more budgets.
        prices: what models cost.
        store: a URL, the settings of the store, or a `Store`. Default: `BUDGETGUARD_STORE`, else SQLite in the
            user's state directory.
        mode: "enforce", "shadow" or "off". Default: `BUDGETGUARD_MODE`, else "enforce".
        timezone: of calendar periods.
        labels: which labels calls must, may and by default do carry.
        settings: leases and what happens at their end.
        estimate: what requests are estimated by.
        hosts: whose API is not known by itself.
        ledger: what it keeps.
        alerts: from which thresholds on they are raised, and the webhooks they go to.
        on_alert: is called with each alert (`AlertRaised`), and may be async.
        observers: are told of every event, after the log.
        outcome_of: what an error says of a call that left its block without `record`.

    Without limits and budgets the file that `BUDGETGUARD_CONFIG` names is read.

    Raises:
        ConfigError: lists every fault.
    """

    def __init__(
        self,
        *limits: str,
        budgets: Sequence[Budget] = (),
        prices: Sequence[Price] = (),
        store: str | StoreSettings | Store | None = None,
        mode: Mode | None = None,
        timezone: str = "UTC",
        labels: LabelRules | None = None,
        settings: GuardSettings | None = None,
        estimate: EstimateSettings | None = None,
        hosts: Sequence[Host] = (),
        ledger: LedgerSettings | None = None,
        alerts: AlertSettings | None = None,
        on_alert: Sequence[OnAlert] = (),
        observers: Sequence[Observer] = (),
        outcome_of: Callable[[BaseException], Outcome] = outcome_of,
    ) -> None:
        source = policy_from(
            limits, budgets, prices, store, mode, timezone, labels, settings, estimate, hosts, ledger, alerts
        )
        self._wire(source, resources_of(source, store, observers, on_alert, outcome_of, self.reload_if_changed))

    @classmethod
    def from_toml(
        cls,
        path: str | Path | None = None,
        *,
        store: str | Store | None = None,
        on_alert: Sequence[OnAlert] = (),
        observers: Sequence[Observer] = (),
        outcome_of: Callable[[BaseException], Outcome] = outcome_of,
    ) -> Guard:
        """A guard of the policy in a file, which is read again when it changes.

        Args:
            path: default `BUDGETGUARD_CONFIG`, else `./budgetguard.toml`.
            store: instead of the file's.

        Raises:
            ConfigError: lists every fault of the file.
        """
        guard = cls.__new__(cls)
        source = PolicySource.of_file(path)
        guard._wire(source, resources_of(source, store, observers, on_alert, outcome_of, guard.reload_if_changed))
        return guard

    @classmethod
    def off(cls) -> Guard:
        """A guard that does nothing: for embedders, and for tests of code that expects one."""
        return cls("1 requests/day", store="sqlite:///:memory:", mode="off")

    def _wire(self, source: PolicySource, shared: Resources) -> None:
        self._source, self._shared = source, shared
        self._subjects, self._engines = Subjects(shared.policy, source.env_labels), Engines(shared)

    def __repr__(self) -> str:
        names = [budget.name for budget in self.policy.budgets]
        return f"<Guard {self.policy.mode} [{', '.join(names)}] on {self._shared.store!r}>"

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._shared.policy

    @cached_property
    def sync(self) -> SyncGuard:
        """The same verbs for callers without an event loop."""
        from budgetguard.sync import SyncGuard

        made: SyncGuard = self.__dict__.setdefault("sync", SyncGuard(self, self._engines.check_process))
        return made

    def reserve(
        self,
        *,
        team: str | None = None,
        agent: str | None = None,
        session: str | None = None,
        task: str | None = None,
        user: str | None = None,
        model: str | None = None,
        provider: str | None = None,
        labels: Mapping[str, str] | None = None,
        estimate: Usage | None = None,
    ) -> Reserving:
        """Reserve an estimate on every budget that the call counts against.

        `await` it for a `Hold` by hand, or enter it: `async with guard.reserve(...) as hold`.

        Raises (when awaited or entered):
            BudgetExceeded: budgets refused the call, at once or after the delay that they allow.
            CallRefused: it cannot be judged (label, price or estimate missing, no budget).
            InvalidLabel: a label is not 1 to 512 bytes of text, or not known.
            StoreError: the store did not decide, and the policy does not let calls go on without it.
            GuardClosed, GuardForked: this guard must not be used here.
        """
        own = own_labels(
            labels, team=team, agent=agent, session=session, task=task, user=user, model=model, provider=provider
        )
        return Reserving(partial(self._reserve, own, estimate))

    def budgeted(
        self,
        *,
        team: str | None = None,
        agent: str | None = None,
        session: str | None = None,
        task: str | None = None,
        user: str | None = None,
        model: str | None = None,
        provider: str | None = None,
        labels: Mapping[str, str] | None = None,
        estimate: Estimate | None = None,
    ) -> Callable[[Fn], Fn]:
        """Guard each call of an async function that returns something with usage: labels as for `reserve`.

        Args:
            estimate: a `Usage`, or a callable that makes one from the function's arguments.

        Raises:
            TypeError: when applied to a function that is not async.
        """
        own = own_labels(
            labels, team=team, agent=agent, session=session, task=task, user=user, model=model, provider=provider
        )
        return budgeted(lambda expected: Reserving(partial(self._reserve, own, expected)), estimate)

    def within(self, *limits: str, name: str = "run") -> Within:
        """A run's own budget: `async with guard.within("$2", "200k tokens", name="run")`.

        Raises:
            InvalidLimit, InvalidLabel: a limit or the name cannot be read.
        """
        return Within(self, limits, name)

    async def store(self) -> Store:
        """The store, open, for who reads more of it than `status` says. Errors: those of `Store.open`, GuardClosed."""
        await self._engines.current().open()
        return self._shared.store

    async def status(self, **labels: str) -> list[AccountStatus]:
        """A row for each account that matches these labels (globs), in the order of the policy; none in mode "off".

        Raises:
            InvalidLabel: a label is not 1 to 512 bytes of text, or not known.
            StoreError: the store cannot be read.
        """
        if self.policy.mode == "off":
            return []
        for name, value in labels.items():
            check_label(name, value)
        self.policy.labels.check(labels)
        return await account_rows(self.policy, await self.store(), labels)

    async def available(self, **labels: str) -> dict[str, Any]:
        """What a call with these labels could still reserve here, by unit: integers; dollars as Decimal.

        In mode "off" no unit is limited, and none is named.

        Raises:
            InvalidLabel, LabelRequired: as for a call.
            StoreError: the store cannot be read.
        """
        if self.policy.mode == "off":
            return {}
        await (engine := self._engines.current()).open()
        match = self.policy.match(self._subjects.judge(own_labels(labels)).key, engine.now_ms())
        claims = match.plan.claims + claims_around(self)
        return await amounts_left(Plan(claims), self._shared.store)

    def reload(self) -> None:
        """Read the policy's file again, now.

        Raises:
            ConfigError: the new version is wrong; the old one stays in force.
        """
        if self._source.reload(self._shared):
            self._subjects = Subjects(self._shared.policy, self._source.env_labels)
            self._engines.wake_all()

    def reload_if_changed(self) -> None:
        """Reload if the file has changed; a bad new version is told to observers and the old one stays."""
        self._source.follow(self.reload, self._shared.notify)

    async def __aenter__(self) -> Guard:
        await self._engines.current().open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> int:
        """Stop admitting, deliver what is under way, and let go of the store.

        Returns how many settles and releases remain in the spool, to be delivered by the next guard.
        """
        return await self._engines.close()

    def _gate(self) -> Gate:
        shared, engines = self._shared, self._engines
        return Gate(
            shared.policy, shared, self._subjects, self._judge, self._admit, self._tell,
            shared.forecasting, engines.now_ms, partial(claims_around, self), engines.ready,
        )  # fmt: skip

    async def _reserve(self, own: Mapping[str, str], estimate: Usage | None) -> Hold:
        return OffHold(dict(own)) if self.policy.mode == "off" else await self._admit(self._judge(own), estimate)

    async def _admit(self, judged: Judged, estimate: Usage | None, origin: Origin = NO_ORIGIN) -> Hold:
        if self.policy.mode == "off":
            return OffHold(dict(judged.subject))
        engine = self._engines.current()
        call = Call(new_id(), judged.subject, judged.key, estimate, claims_around(self), judged.excuse, origin)
        try:
            return await Admission(engine, call, nested=is_inside_hold(self._shared)).admit()
        except BudgetExceeded as refusal:
            tell_scopes(refusal)
            raise

    def _judge(self, own: Mapping[str, str], of_client: Mapping[str, str] = NO_LABELS) -> Judged:
        self._engines.current()  # a guard that must not be used says so first
        try:
            return self._subjects.judge(own, of_client)
        except (CallRefused, InvalidLabel) as refusal:
            self._tell(refusal, own, of_client)
            raise

    def _tell(self, refusal: BudgetGuardError, own: Mapping[str, str], of_client: Mapping[str, str]) -> None:
        self._engines.drain_at_exit()
        self._shared.notify(Refused(new_id(), self._subjects.merged(own, of_client), type(refusal).__name__))
