"""What learned estimates gain on real traces: `python benchmarks/bench_learned.py [TRACE ...]`.

For limits of 25, 50 and 80 % of the mean demand, in output tokens a minute and in tokens an hour: what each estimate
admits of what an oracle would that knows each output, how many refused calls would have fit, and the overspend in
percent of the limit. The mean demand is that of the windows in which any call arrived, the last one apart where the
trace ends in its first tenth. Exits with 1 if learned estimates admit less than 0.90 of the oracle's or overspend
more than 4 %, or anything at all where they are injected as bounds.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import budgetguard as bg
from budgetguard.policy import Policy
from budgetguard.simulation import Report, TracedCall, read_trace, simulate
from budgetguard.simulation.estimates import METHODS, Method

TRACES = Path(__file__).resolve().parent.parent.parent / "shared" / "traces"
SHARES = (0.25, 0.5, 0.8)
UNITS = {"output_tokens": ("minute", 60_000), "tokens": ("hour", 3_600_000)}
PATIENT = bg.StoreSettings(timeout_ms=60_000)
"""A busy machine may stall: what is asked here is not how fast it is."""
LEAST_OF_ORACLE, MOST_OVERSPEND = 0.90, 0.04
HEADING = f"{'limit':>32}  {'share':>5}  {'estimate':<16} {'admitted':>8} {'of oracle':>9} {'fits':>7} {'cut':>5} over%"


class Row(NamedTuple):
    """One simulation: `of_oracle` and `overspend` as shares."""

    name: str
    report: Report
    of_oracle: float
    overspend: float

    def text(self, limit: str, share: float) -> str:
        report = self.report
        return (
            f"{limit:>32}  {share:5.2f}  {self.name:<16} {report.admitted:8,} {self.of_oracle:9.3f} "
            f"{report.would_fit:7,} {report.cut:5,} {100 * self.overspend:6.2f}"
        )

    @property
    def misses(self) -> bool:
        if self.name == "learned":
            return self.of_oracle < LEAST_OF_ORACLE or self.overspend > MOST_OVERSPEND
        return self.name.endswith("injected") and self.overspend > 0


def rows(calls: Sequence[TracedCall], limit: str) -> Iterator[Row]:
    """Each estimate under one limit, the oracle first."""
    oracle = 0
    runs: list[tuple[Method, bool]] = [(method, False) for method in reversed(METHODS)]
    for method, inject in [*runs, ("learned", True)]:
        policy = Policy([bg.Budget("all", [limit])], store=PATIENT)
        report = simulate(policy, calls, estimate=method, inject=inject)
        (figures,) = report.limits
        oracle = oracle or figures.spent
        room = figures.limit.amount * figures.windows
        name = f"{method}, injected" if inject else method
        yield Row(name, report, figures.spent / oracle, figures.overspend / room if room else 0.0)


def mean_demand(calls: Sequence[TracedCall], unit: str, window_ms: int) -> int:
    """Of the windows in which any call arrived."""
    demand: Counter[int] = Counter()
    for call in calls:
        demand[call.at_ms // window_ms] += call.completion_tokens + (unit == "tokens") * call.prompt_tokens
    last = max(demand)
    if len(demand) > 1 and calls[-1].at_ms - last * window_ms < window_ms // 10:
        del demand[last]
    return sum(demand.values()) // len(demand)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", nargs="*", type=Path, metavar="TRACE", help="default: all of ../shared/traces")
    parser.add_argument("--unit", choices=UNITS, action="append", help="only limits in this unit")
    parser.add_argument("--share", type=float, action="append", help="only this share of the demand, as 0.25")
    args = parser.parse_args()
    missed = 0
    for trace in args.traces or sorted(TRACES.glob("*.csv.gz")):
        calls = read_trace(trace)
        print(f"\n{trace.name}: {len(calls):,} calls\n{HEADING}", flush=True)
        for unit in args.unit or UNITS:
            period, window_ms = UNITS[unit]
            for share in args.share or SHARES:
                limit = f"{int(mean_demand(calls, unit, window_ms) * share)} {unit}/{period}"
                for row in rows(calls, limit):
                    missed += row.misses
                    print(row.text(limit, share) + ("  <- misses" if row.misses else ""), flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
