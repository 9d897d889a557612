"""What the ledger's sums tell: what an agent costs by the hour, and what a task takes from month to month.

Sums are kept by team, agent, task, model and provider: a budget that goes by other labels is not looked at here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from budgetguard.alerts.raised import AlertRaised
from budgetguard.alerts.texts import amount_text, exact, labels_text, plain
from budgetguard.alerts.watching import DAY_MS, HOUR_MS, Found, found
from budgetguard.core.amounts import Amounts
from budgetguard.core.grammar import format_limit
from budgetguard.core.periods import Period, Window, window_at

if TYPE_CHECKING:
    from budgetguard.budget import Budget
    from budgetguard.policy import Policy

LABELS = ("team", "agent", "task", "model", "provider")
"""Of calls, in the order of the columns `SUMMED_BY` of the ledger."""
SUMMED_BY = ("team", "agent", "task_type", "model", "provider")
HOURS_OF_A_DAY = 24


class Spent(NamedTuple):
    """What calls with the same `LABELS` ("" for none) took together."""

    labels: Mapping[str, str]
    calls: int
    amounts: Amounts


def is_summed(budget: Budget) -> bool:
    """Whether the sums tell what counts against the budget."""
    return {*budget.per, *budget.where} <= {*LABELS}


def spent_on(budget: Budget, sums: Iterable[Spent]) -> dict[tuple[str, ...], Amounts]:
    """What counts against the budget, by the values of its `per` labels ("" for none)."""
    by_value: dict[tuple[str, ...], Amounts] = {}
    for spent in sums:
        if all(spent.labels[name] and fnmatchcase(spent.labels[name], glob) for name, glob in budget.where.items()):
            key = tuple(spent.labels[name] for name in budget.per)
            so_far = by_value.get(key, Amounts())
            by_value[key] = Amounts(*(mine + more for mine, more in zip(so_far, spent.amounts, strict=True)))
    return by_value


def costing(sums: Sequence[Spent], times: float, policy: Policy) -> Iterator[Found]:
    """An agent's cost of the last hour is more than so many 24ths of its daily budget: once an hour for each.

    Args:
        sums: of the last hour.
    """
    for budget in policy.budgets:
        daily = [limit for limit in budget.parsed_limits(policy.timezone) if limit.unit == "usd"]
        daily = [limit for limit in daily if limit.period.name == "day" and limit.amount]
        if not daily or not is_summed(budget) or "agent" not in {*budget.per, *budget.where}:
            continue
        for values, amounts in spent_on(budget, sums).items():
            labels = {name: value for name, value in zip(budget.per, values, strict=True) if value}
            own = {**budget.where, **labels}
            if "agent" in own and amounts.usd * HOURS_OF_A_DAY > times * daily[0].amount:
                hourly = int(times * daily[0].amount) // HOURS_OF_A_DAY
                text = (
                    f"{plain(budget.name)}{labels_text(own)}: cost {amount_text('usd', amounts.usd)} in the last hour; "
                    f"{format_limit(daily[0])} lasts for {amount_text('usd', hourly)} an hour"
                )
                figures = {"cost_nanousd": amounts.usd, "hourly_nanousd": hourly, "limit_nanousd": daily[0].amount}
                alert = AlertRaised("hourly_cost", text, {**exact(budget.where), **labels}, budget.name, figures)
                yield found([budget.name, values], HOUR_MS, alert)


def months(zone: str, now_ms: int) -> tuple[Window, Window]:
    """This month and the last one."""
    month = Period("calendar", name="month", zone=zone)
    this = window_at(month, now_ms)
    return this, window_at(month, this.start_ms - 1)


def growing(
    this: Sequence[Spent], last: Sequence[Spent], above: float, least_calls: int, month: Window, now_ms: int
) -> Iterator[Found]:
    """A task's calls take more tokens on average this month than last month, by that share: once a month for each.

    Of tasks with so many calls in both months.
    """
    before = _by_task(last)
    for task, (calls, tokens) in _by_task(this).items():
        then_calls, then_tokens = before.get(task, (0, 0))
        if min(calls, then_calls) < least_calls or tokens * then_calls <= (1 + above) * then_tokens * calls:
            continue
        mean, then = tokens / calls, then_tokens / then_calls
        rise = f"up {mean / then - 1:.0%}" if then else "up from nothing"
        text = (
            f"task {plain(task)}: {mean:,.0f} tokens per call on average this month, {rise} on last month's {then:,.0f}"
        )
        figures = {"mean_tokens": round(mean), "last_month_mean_tokens": round(then), "calls": calls}
        alert = AlertRaised("task_tokens", text, {"task": task}, figures=figures)
        yield found([task, month.label], month.end_ms - now_ms + DAY_MS, alert)


def _by_task(sums: Iterable[Spent]) -> dict[str, tuple[int, int]]:
    """Calls and tokens of each task; calls without one are left out."""
    tasks: dict[str, tuple[int, int]] = {}
    for spent in sums:
        if task := spent.labels["task"]:
            calls, tokens = tasks.get(task, (0, 0))
            tasks[task] = calls + spent.calls, tokens + spent.amounts.tokens
    return tasks
