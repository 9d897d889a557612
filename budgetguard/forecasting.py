"""Learned estimates of the outputs of one guard's requests: asked before they are sent, told when they have ended."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from budgetguard.estimates.forecast import Forecast
from budgetguard.usage import Usage

if TYPE_CHECKING:
    from budgetguard.core.model import Plan
    from budgetguard.estimates.settings import EstimateSettings
    from budgetguard.policy import Policy


class Forecasting:
    """What the engines of one guard have learned together. From any thread.

    It begins anew where a reload changes how fast things fade.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # one that is collected meanwhile ends its call
        self._settings: EstimateSettings | None = None
        self._forecast: Forecast | None = None

    def estimated(
        self, policy: Policy, subject: Mapping[str, str], estimate: Usage, now_ms: int, *, injects: bool
    ) -> Usage:
        """The estimate with the output that calls like it have; as it is where the policy goes by the ceiling.

        Args:
            estimate: its output is the most that the request or its model allows.
            injects: it becomes the bound of the request.
        """
        if policy.estimate.output == "ceiling" or not estimate.output_tokens:
            return estimate
        plan = policy.match(tuple(sorted(subject.items())), now_ms).plan
        with self._lock:
            forecast = self._for(policy.estimate)
            ask = forecast.bound if injects else forecast.tokens
            tokens = ask(subject, plan, estimate.input_tokens, estimate.output_tokens, now_ms)
        return estimate if tokens == estimate.output_tokens else Usage(estimate.input_tokens, tokens)

    def opened(self, settings: EstimateSettings, plan: Plan) -> None:
        """A call was admitted."""
        with self._lock:
            self._for(settings).opened(plan)

    def ended(self, settings: EstimateSettings, plan: Plan) -> None:
        """It is open no longer."""
        with self._lock:
            self._for(settings).ended(plan)

    def learn(
        self, settings: EstimateSettings, subject: Mapping[str, str], tokens: int, now_ms: int, *, is_cut: bool
    ) -> None:
        """Its provider has told what it wrote."""
        with self._lock:
            self._for(settings).learn(subject, tokens, now_ms, is_cut=is_cut)

    def _for(self, settings: EstimateSettings) -> Forecast:
        if self._forecast is None or (settings is not self._settings and settings != self._settings):
            self._settings, self._forecast = settings, Forecast(settings)
        return self._forecast
