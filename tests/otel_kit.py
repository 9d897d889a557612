"""OpenTelemetry's SDK with exporters in memory, and our observer on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from guard_kit import World

import budgetguard as bg
from budgetguard.integrations.otel import OpenTelemetry

pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Telemetry:
    """Providers of their own, what they exported, and the observer on them."""

    def __init__(self) -> None:
        self._spans, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meters = MeterProvider([self._reader])
        self.tracer = self.tracers.get_tracer("test")
        self.observer = OpenTelemetry(tracer_provider=self.tracers, meter_provider=self.meters)

    def guard(self, world: World, *limits: str, **options: Any) -> bg.Guard:
        return world.guard(*limits, **{"observers": [self.observer], **options})

    @property
    def spans(self) -> list[ReadableSpan]:
        """Those that have ended."""
        return list(self._spans.get_finished_spans())

    @property
    def span(self) -> dict[str, Any]:
        """The attributes of the only one."""
        (span,) = self.spans
        return dict(span.attributes or {})

    @property
    def metrics(self) -> list[Any]:
        """All that were told."""
        data = self._reader.get_metrics_data()
        return [m for r in (data.resource_metrics if data else ()) for s in r.scope_metrics for m in s.metrics]

    def points(self, name: str) -> dict[frozenset[tuple[str, Any]], Any]:
        """Of a histogram, by its attributes."""
        found = [point for metric in self.metrics if metric.name == name for point in metric.data.data_points]
        return {frozenset((point.attributes or {}).items()): point for point in found}


@contextmanager
def exporting() -> Iterator[Telemetry]:
    """Such a telemetry, shut down in the end."""
    found = Telemetry()
    yield found
    found.tracers.shutdown()
    found.meters.shutdown()
