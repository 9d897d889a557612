"""What stands in a store, as Prometheus gauges: for one endpoint beside the workers, who would each repeat it.

That is `budgetguard metrics --port 9464`, or `asgi_app(guard)` in a server of one's own. Needs the extra `prometheus`.

- `budgetguard_account_limit_usd`, `_spent_usd`, `_reserved_usd`; the same in `_tokens` and `_requests`: one sample for
  each account. Labels are `budget`, `unit` (`usd`; `tokens`, `input_tokens`, `output_tokens`; `requests`,
  `concurrent`), `period`, of calendar periods their time `zone`, `per` (the names of its labels) and these labels
  themselves; a call without one of them is counted where that is empty.
- `budgetguard_accounts_left_out{budget, unit, period, zone, per}`: of each limit the 200 accounts with most spent and
  reserved are shown; how many others there are.
- `budgetguard_outbox_entries`: ledger rows that nobody has drained yet; `budgetguard_outbox_most_entries`: how many
  there may be before calls are refused. Absent where the store is the ledger itself.
- `budgetguard_store_up`: 0 if all this could not be read, and then there is nothing else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from heapq import nlargest
from typing import TYPE_CHECKING, Any, NamedTuple

from budgetguard.core.amounts import NANOUSD_PER_USD, Unit
from budgetguard.core.model import Account
from budgetguard.errors import BudgetGuardError
from budgetguard.guard import Guard
from budgetguard.metrics import label_name, need_client
from budgetguard.status import every, limited_accounts
from budgetguard.within import OF_A_RUN

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from budgetguard.policy import Policy
    from budgetguard.store import AccountRow, Backlog, Store

MOST_ACCOUNTS = 200
_MEASURES: Mapping[Unit, str] = {
    "usd": "usd", "tokens": "tokens", "input_tokens": "tokens", "output_tokens": "tokens", "requests": "requests",
    "concurrent": "requests",
}  # fmt: skip
_SAYS = {
    "limit": "What an account's window may take.",
    "spent": "What is spent of an account in its window.",
    "reserved": "What open calls hold of an account.",
}
Scope = Mapping[str, Any]
AsgiApp = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


class Standing(NamedTuple):
    """The accounts of a store with their limits (None where no policy tells), and the ledger rows that wait in it."""

    accounts: Sequence[tuple[AccountRow, int | None]]
    backlog: Backlog | None


async def standing(policy: Policy | None, store: Store) -> Standing:
    """What stands in the store of all that the policy limits; without a policy, of all but the budgets of runs.

    Errors: those of the store.
    """
    accounts: Sequence[tuple[AccountRow, int | None]]
    if policy is None:
        accounts = [(r, None) async for r in every(store.read_accounts) if not OF_A_RUN.search(r.account.budget)]
    else:
        accounts = await limited_accounts(policy, store, {})
    return Standing(accounts, await store.backlog())


def families(found: Standing | None) -> Iterator[Metric]:
    """The metrics of what was found; of None, that it could not be read."""
    from prometheus_client.core import GaugeMetricFamily

    up = GaugeMetricFamily("budgetguard_store_up", "Whether what stands in the store could be read.")
    up.add_metric([], float(found is not None))
    yield up
    if found is None:
        return
    left_out = GaugeMetricFamily("budgetguard_accounts_left_out", "Accounts of a limit that are not shown.")
    gauges = {
        (what, measure): GaugeMetricFamily(f"budgetguard_account_{what}_{measure}", says)
        for measure in dict.fromkeys(_MEASURES.values())
        for what, says in _SAYS.items()
    }
    for rows in _by_limit(found.accounts):
        account = rows[0][0].account
        left_out.add_sample(left_out.name, _limit_labels(account), max(0, len(rows) - MOST_ACCOUNTS))
        scale = NANOUSD_PER_USD if account.unit == "usd" else 1
        for row, limit in nlargest(MOST_ACCOUNTS, rows, key=lambda found: found[0].spent + found[0].reserved):
            for what, amount in (("limit", limit), ("spent", row.spent), ("reserved", row.reserved)):
                if amount is not None:
                    gauge = gauges[what, _MEASURES[account.unit]]
                    gauge.add_sample(gauge.name, _labels(row.account), amount / scale)
    yield from (left_out, *gauges.values())
    if found.backlog is not None:
        for name, says, rows_there in (
            ("outbox_entries", "Ledger rows that wait to be drained.", found.backlog.rows),
            ("outbox_most_entries", "How many there may be before calls are refused.", found.backlog.most),
        ):
            outbox = GaugeMetricFamily(f"budgetguard_{name}", says)
            outbox.add_metric([], rows_there)
            yield outbox


def _by_limit(accounts: Iterable[tuple[AccountRow, int | None]]) -> Iterable[list[tuple[AccountRow, int | None]]]:
    """The accounts of each limit."""
    rows: dict[Any, list[tuple[AccountRow, int | None]]] = defaultdict(list)
    for found in accounts:
        account = found[0].account
        rows[account.budget, account.unit, account.period, tuple(name for name, _ in account.per)].append(found)
    return rows.values()


def _limit_labels(account: Account) -> dict[str, str]:
    return {
        "budget": account.budget, "unit": account.unit, "period": account.period.label,
        "zone": account.period.zone if account.period.kind == "calendar" else "",
        "per": ",".join(name for name, _ in account.per),
    }  # fmt: skip


def _labels(account: Account) -> dict[str, str]:
    per = {label_name(name): value for name, value in account.per if value is not None}
    return {**_limit_labels(account), **per}


class Once:
    """Metrics that were made already, as a registry wants them."""

    def __init__(self, made: Iterable[Metric]) -> None:
        self._made = list(made)

    def collect(self) -> Iterable[Metric]:
        """The metrics."""
        return self._made


def registry_of(found: Standing | None) -> CollectorRegistry:
    """A registry that says what was found."""
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry()
    registry.register(Once(families(found)))
    return registry


def asgi_app(guard: Guard) -> AsgiApp:
    """An ASGI application that answers every GET with what stands in the guard's store, for its policy.

    A store that cannot be read is `budgetguard_store_up 0`.

    Raises:
        ConfigError: prometheus-client is not installed.
    """
    need_client()
    from prometheus_client import make_asgi_app

    async def app(scope: Scope, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        if scope["type"] != "http":  # as ASGI has it for servers that try `lifespan`
            raise ValueError(f"this application answers http, not {scope['type']}")
        try:
            found = await standing(guard.policy, await guard.store())
        except BudgetGuardError:
            found = None
        await make_asgi_app(registry_of(found))(scope, receive, send)

    return app
