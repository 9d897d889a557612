"""Who calls in a trace, and what must hold before the first call: labels that are known and there, and prices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from budgetguard.core.amounts import MAX_AMOUNT
from budgetguard.core.periods import Period, window_at
from budgetguard.errors import LabelRequired, PriceUnknown
from budgetguard.policy import Policy
from budgetguard.pricing import price_of
from budgetguard.simulation.trace import TracedCall
from budgetguard.subjects import Judged, Subjects

_IN_THE_FIRST_WEEK_MS = int(datetime(2026, 1, 7, 12, tzinfo=UTC).timestamp() * 1000)


class Callers:
    """The subjects of a trace's calls: the labels of its columns, as far as the policy knows them, and constant ones.

    The columns win over `labels`, and these over the policy's defaults. BUDGETGUARD_LABELS is left alone: what a
    simulation finds does not depend on where it runs.

    Raises:
        InvalidLabel: one of `labels` is not known, or not text of 1 to 512 bytes.
        LabelRequired: a call lacks a label that the policy requires.
    """

    def __init__(self, policy: Policy, calls: Iterable[TracedCall], labels: Mapping[str, str]) -> None:
        self._names = policy.labels.names
        self._labels = labels
        self._subjects = Subjects(policy, {})
        self._known: dict[tuple[object, ...], Judged] = {}
        for call in calls:
            try:
                self.of(call)
            except LabelRequired:
                lacking = next(name for name in policy.labels.required if name not in self._own(call))
                raise LabelRequired(
                    f"the policy requires the label {lacking!r}, which the call at {call.at_ms / 1000:g} s lacks: "
                    f"add --label {lacking}=..."
                ) from None

    def of(self, call: TracedCall) -> Judged:
        """The subject of a call and its key, as the guard would have them."""
        columns = (call.model, *call.labels.items())
        caller = self._known.get(columns)
        if caller is None:
            caller = self._known[columns] = self._subjects.judge(self._own(call))
        return caller

    def _own(self, call: TracedCall) -> dict[str, str]:
        known = {name: value for name, value in call.labels.items() if name in self._names}
        return {**self._labels, **known, "model": call.model}

    def start_ms(self, policy: Policy) -> int:
        """The instant that is 0 on the trace's clock: in the policy's time zone the beginning of Monday 2026-01-05.

        Where a price is valid only from a later day, the first Monday from which all of them are.
        """
        week = Period("calendar", name="week", zone=policy.timezone)
        prices = [policy.prices.find(model, MAX_AMOUNT) for model in {subject["model"] for subject, *_ in self._all}]
        valid_ms = max((price.valid_from_ms for price in prices if price is not None), default=0)
        start_ms = window_at(week, _IN_THE_FIRST_WEEK_MS).start_ms
        return start_ms if valid_ms <= start_ms else window_at(week, valid_ms - 1).end_ms

    def check_prices(self, policy: Policy, start_ms: int) -> None:
        """Pass if every call that counts against a dollar budget has a price.

        Raises:
            PriceUnknown: names every model without one.
            ConfigError: two prices tie for a model.
        """
        if policy.mode == "shadow" or policy.guard.on_unknown_price != "refuse":
            return
        lacking: dict[str, str] = {}
        for subject, key, _ in self._all:
            model = subject["model"]
            if price_of(policy.prices, model, start_ms, subject.get("provider")) is not None:
                continue
            dollars = [c.account.budget for c in policy.match(key, start_ms).plan.claims if c.account.unit == "usd"]
            if dollars:
                lacking[model] = dollars[0]
        if lacking:
            models = ", ".join(map(repr, sorted(lacking)))
            raise PriceUnknown(
                f"{' and '.join(sorted(set(lacking.values())))} counts dollars, and nobody knows what {models} "
                f"costs: add a [[price]] for {'it' if len(lacking) == 1 else 'each'}"
            )

    @property
    def _all(self) -> Iterable[Judged]:
        return self._known.values()
