"""The plugin of pytest: fixtures for code that is guarded, and budgets for tests.

    @pytest.mark.budget("$0.10")
    def test_summary(budget_guard, fake_provider): ...

A test that spends more than its mark says fails, and so does the one with which a run passes `--budget 2usd`; later
ones are not begun. Of several marks the closest counts: a function's own, not its class's or module's; one mark takes
several amounts. What the `budget_guard` of a test spends is counted, and any other guard that has `budget_meter` among
its observers; each call when it is settled, so a stream that is still open at the end is not. Each process counts by
itself.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

from budgetguard.errors import InvalidLimit
from budgetguard.testing.meter import BudgetMeter, parse_budget

if TYPE_CHECKING:
    from budgetguard.core.model import Limit
    from budgetguard.guard import Guard
    from budgetguard.testing.provider import FakeProvider

BOUNDLESS = "1_000_000_000 requests/total"
"""A guard needs a limit; what a test may spend is judged by its mark."""
_LIMITS = pytest.StashKey["Sequence[Limit]"]()
_METER = pytest.StashKey[BudgetMeter]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--budget`."""
    group = parser.getgroup("budgetguard", "budgets for tests")
    group.addoption("--budget", metavar="AMOUNT", help="what the whole run may spend, as in 2usd or 500k tokens")


def pytest_configure(config: pytest.Config) -> None:
    """The marker, and the meter of the run."""
    config.addinivalue_line("markers", 'budget(*amounts): the test fails if it spends more, as in budget("$0.10")')
    text = config.getoption("--budget")
    config.stash[_METER] = BudgetMeter()
    config.stash[_LIMITS] = _limits([text] if text else [], "--budget")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Read the mark; refuse one that could count nothing."""
    mark = item.get_closest_marker("budget")
    fault = ""
    try:
        item.stash[_LIMITS] = [] if mark is None else _marked(mark, f"the mark of {item.nodeid}")
    except pytest.UsageError as error:
        fault = str(error)
    if fault:
        pytest.fail(fault, pytrace=False)
    if mark is not None and "budget_meter" not in getattr(item, "fixturenames", ()):
        pytest.fail(
            f"{item.nodeid} has a budget, and neither budget_guard nor budget_meter: nothing would be counted. Take "
            "budget_guard, or give the guard that it uses observers=[budget_meter]", pytrace=False,
        )  # fmt: skip
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test that has spent too much."""
    result = yield
    _judge(item)
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What the run has spent, if it has a budget."""
    if config.stash[_LIMITS]:
        terminalreporter.write_line(f"budget {config.getoption('--budget')}: spent {config.stash[_METER].text}")


@pytest.fixture
def budget_meter(request: pytest.FixtureRequest) -> Iterator[BudgetMeter]:
    """An observer that counts what the guards that have it spend: `Guard(..., observers=[budget_meter])`."""
    run, item = request.config.stash[_METER], request.node
    if excess := run.excess(request.config.stash[_LIMITS]):
        pytest.fail(f"not begun: the run has spent its budget: {excess}", pytrace=False)
    item.stash[_METER] = meter = BudgetMeter(run)
    yield meter
    _judge(item)  # what was settled since


@pytest.fixture
def budget_guard(budget_meter: BudgetMeter) -> Iterator[Guard]:
    """A guard without limits on a store of its own in memory; what it spends is the test's."""
    from budgetguard.guard import Guard

    guard = Guard(BOUNDLESS, store="sqlite:///:memory:", mode="enforce", observers=[budget_meter])
    yield guard
    guard.sync.close()


@pytest.fixture
def fake_provider() -> Iterator[FakeProvider]:
    """A provider on the loopback interface, served from a thread: for synchronous and asynchronous clients."""
    from budgetguard.testing.provider import FakeProvider

    with FakeProvider.in_thread() as provider:
        yield provider


def _judge(item: pytest.Item) -> None:
    """Fail the test, once, if it or the run has spent more than it may."""
    meter = item.stash.get(_METER, None)
    if meter is None:
        return
    own, run = item.stash[_LIMITS], item.config.stash[_LIMITS]
    faults = [(meter.excess(own), "this test"), (item.config.stash[_METER].excess(run), "with this test the run")]
    for excess, who in faults:
        if excess:
            del item.stash[_METER]
            pytest.fail(f"{who} spent more than its budget: {excess} (this test: {meter.text})", pytrace=False)


def _marked(mark: pytest.Mark, where: str) -> list[Limit]:
    if mark.kwargs or not mark.args:
        raise pytest.UsageError(f'{where}: it takes amounts and nothing else, as in budget("$0.10", "20k tokens")')
    return _limits(mark.args, where)


def _limits(texts: Sequence[str], where: str) -> list[Limit]:
    try:
        return [parse_budget(text) for text in texts]
    except InvalidLimit as error:
        raise pytest.UsageError(f"{where}: {error}") from None
