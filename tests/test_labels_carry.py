"""Labels that cross a border: into another thread, and out of the environment."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from budgetguard.errors import ConfigError
from budgetguard.labels import acting_as, carry, current_labels, labels_from_env


def labels() -> dict[str, str]:
    return dict(current_labels())


def in_thread(fn: object) -> object:
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(fn).result(timeout=30)  # type: ignore[arg-type]


def test_another_thread_has_no_labels_but_those_it_is_carried() -> None:
    with acting_as(team="a"):
        carried = carry(labels)
        assert in_thread(labels) == {}
        assert in_thread(carried) == {"team": "a"}
    with acting_as(team="later"):
        assert in_thread(carried) == {"team": "a"}


def test_a_carried_function_passes_arguments_results_and_errors() -> None:
    def divide(dividend: int, *, by: int) -> float:
        """Doc."""
        return dividend / by

    carried = carry(divide)
    assert carried(6, by=3) == 2
    assert (carried.__name__, carried.__doc__) == ("divide", "Doc.")
    with pytest.raises(ZeroDivisionError):
        carried(1, by=0)


def test_a_carried_function_runs_in_several_threads_at_once_each_in_a_copy() -> None:
    meeting = threading.Barrier(4, timeout=30)

    def work(agent: str) -> dict[str, str]:
        with acting_as(agent=agent):
            meeting.wait()
            return labels()

    with acting_as(team="a"):
        carried = carry(work)
    with ThreadPoolExecutor(4) as threads:
        seen = list(threads.map(carried, "abcd", timeout=30))
    assert seen == [{"team": "a", "agent": agent} for agent in "abcd"]


def test_an_event_loop_in_another_thread_has_carried_labels() -> None:
    async def main() -> dict[str, str]:
        return labels()

    with acting_as(team="a"):
        carried = carry(asyncio.run)
    assert in_thread(lambda: carried(main())) == {"team": "a"}


async def coroutine() -> None: ...
def generator() -> Iterator[None]:
    yield


async def async_generator() -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize("wrong", [coroutine, generator, async_generator, 5, None])
def test_what_would_run_outside_of_the_context_is_not_carried(wrong: object) -> None:
    with pytest.raises(TypeError, match="carry takes a plain function"):
        carry(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("", {}),
        ("  \n", {}),
        ("team=search", {"team": "search"}),
        ("team=search,env=prod", {"team": "search", "env": "prod"}),
        (" team = search , env=prod\n", {"team": "search", "env": "prod"}),
        ("filter=a=b", {"filter": "a=b"}),
        ("team=Zürich ä", {"team": "Zürich ä"}),
    ],
)
def test_the_environment_states_labels(text: str, stated: dict[str, str]) -> None:
    assert labels_from_env(text) == stated


def test_every_fault_of_the_variable_is_listed_under_its_name() -> None:
    text = f"team,=x,user=,agent=a,agent=b,session={'x' * 600},task=\udc80"
    with pytest.raises(ConfigError) as caught:
        labels_from_env(text)
    error = caught.value
    assert error.source == "BUDGETGUARD_LABELS"
    wanted = [
        "'team' must be name=value",
        "a label's name",
        "'user' must be",
        "'agent' is given twice",
        "'session'",
        "'task'",
    ]
    assert len(error.faults) == len(wanted)
    for fault, words in zip(error.faults, wanted, strict=True):
        assert words in fault
