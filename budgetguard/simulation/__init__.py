"""What a policy would have done with a real trace: replayed through a real store, on the trace's clock.

`trace` reads the calls, `replay` lets them arrive and complete, `delays` lets them wait, `bulk` drives the store,
`report` has the figures.
"""

from budgetguard.simulation.replay import IN_MEMORY, simulate
from budgetguard.simulation.report import LimitFigures, Report
from budgetguard.simulation.trace import TracedCall, read_trace

__all__ = ["IN_MEMORY", "LimitFigures", "Report", "TracedCall", "read_trace", "simulate"]
