"""What a policy would have done with a real trace: replayed through a real store, on the trace's clock.

`trace` reads the calls (`exported` those of a ledger), `callers` says who makes them, `estimates` what each asks for;
`replay` lets them arrive and complete, `delays` lets them wait, `bulk` drives the store; `truth` knows what would have
fit, `report` has the figures.
"""

from budgetguard.simulation.replay import IN_MEMORY, simulate
from budgetguard.simulation.report import LimitFigures, Report
from budgetguard.simulation.trace import TracedCall, read_trace

__all__ = ["IN_MEMORY", "LimitFigures", "Report", "TracedCall", "read_trace", "simulate"]
