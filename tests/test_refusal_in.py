"""`bg.refusal_in` finds the refusal inside whatever frameworks have wrapped it in."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any, NamedTuple

import pytest

import budgetguard as bg


def refusal(text: str = "each-agent refused this call") -> bg.BudgetExceeded:
    return bg.BudgetExceeded(text, (), 1.0, "r-1", {"agent": "crawler"})


def caught(raising: Any) -> BaseException:
    """The error that a function raises."""
    with pytest.raises(BaseException) as info:  # noqa: PT011 - whichever it is
        raising()
    return info.value


class Framework(Exception):
    """An error of another library's."""


class Attempt(NamedTuple):
    number: int
    exception: Exception


def test_the_refusal_itself_is_found() -> None:
    error = refusal()
    assert bg.refusal_in(error) is error


def test_it_is_found_as_the_cause_and_as_the_context_of_another_however_deep() -> None:
    error = refusal()

    def from_cause() -> None:
        raise Framework("wrapped") from error

    def in_context() -> None:
        try:
            from_cause()
        except Framework:
            raise KeyError("while handling") from None  # suppressed, but there

    def deep(levels: int) -> None:
        try:
            deep(levels - 1) if levels else in_context()
        except (KeyError, Framework):
            raise Framework("again")  # noqa: B904 - the context is what is tested

    assert bg.refusal_in(caught(from_cause)) is error
    assert bg.refusal_in(caught(in_context)) is error
    assert bg.refusal_in(caught(lambda: deep(50))) is error


def test_it_is_found_in_a_group_of_a_task_group() -> None:
    error = refusal()

    async def refused() -> None:
        raise error

    async def main() -> None:
        async with asyncio.TaskGroup() as outer:
            outer.create_task(inner())

    async def inner() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(refused())

    group = caught(lambda: asyncio.run(main()))
    assert isinstance(group, ExceptionGroup)
    assert bg.refusal_in(group) is error
    group.args = ("redacted",)
    assert bg.refusal_in(group) is error, "also where its arguments do not tell"


@pytest.mark.parametrize(
    "name", ["original_exception", "original_error", "orig", "inner_exception", "reason", "_error"]
)
def test_it_is_found_as_an_attribute_of_any_name(name: str) -> None:
    error, wrapped = refusal(), Framework("litellm.APIConnectionError: each-agent refused this call")
    setattr(wrapped, name, error)
    assert bg.refusal_in(wrapped) is error


def test_it_is_found_among_the_arguments_and_in_lists_of_attempts() -> None:
    error = refusal()
    assert bg.refusal_in(Framework("failed", error)) is error
    retried = Framework("3 attempts failed")
    retried.failed_attempts = [Attempt(1, TimeoutError()), Attempt(2, error)]  # type: ignore[attr-defined]
    assert bg.refusal_in(retried) is error


def test_it_is_found_in_the_last_attempt_of_a_retrying_library() -> None:
    error, retried, last = refusal(), Framework("RetryError"), Future[None]()
    last.set_exception(error)
    retried.last_attempt = last  # type: ignore[attr-defined]
    assert bg.refusal_in(retried) is error
    running = Framework("RetryError")
    running.last_attempt = Future[None]()  # type: ignore[attr-defined]
    assert bg.refusal_in(running) is None, "nor does it wait for one that is not done"


def test_tenacity_gives_it_back() -> None:
    tenacity = pytest.importorskip("tenacity")
    error = refusal()

    @tenacity.retry(stop=tenacity.stop_after_attempt(2))
    def refused() -> None:
        raise error

    wrapped = caught(refused)
    assert isinstance(wrapped, tenacity.RetryError)
    assert bg.refusal_in(wrapped) is error


def test_of_several_the_nearest_is_found() -> None:
    near, far = refusal("near"), refusal("far")
    middle = Framework("middle")
    middle.__cause__ = far
    outer = Framework("outer", middle)
    outer.__context__ = near
    assert bg.refusal_in(outer) is near


def test_where_there_is_none_it_is_none_and_cycles_end() -> None:
    first, second = Framework("first"), Framework("second")
    first.__cause__, second.__cause__ = second, first
    first.itself = [first, [second]]  # type: ignore[attr-defined]
    first.itself.append(first.itself)  # type: ignore[attr-defined]
    assert bg.refusal_in(first) is None
    assert bg.refusal_in(None) is None
    assert bg.refusal_in(bg.LabelRequired("team")) is None
