"""Labels of decorated generators: in force whenever the body runs, and never in its consumer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from budgetguard.labels import acting_as, current_labels


def labels() -> dict[str, str]:
    return dict(current_labels())


@acting_as(team="a")
def numbers() -> Iterator[object]:
    """Yields its labels, what it is sent and what is thrown at it, and notes its labels when it is closed."""
    try:
        sent = yield labels()
        with acting_as(agent="inner"):
            try:
                yield sent, labels()
            except KeyError as error:
                yield error, labels()
        yield labels()
    finally:
        closed.append(labels())


closed: list[dict[str, str]] = []


def test_a_generator_has_the_labels_whenever_its_body_runs_and_its_consumer_never() -> None:
    closed.clear()
    with acting_as(user="consumer"):
        body = numbers()
        assert next(body) == {"user": "consumer", "team": "a"}
        assert labels() == {"user": "consumer"}
        assert body.send(5) == (5, {"user": "consumer", "team": "a", "agent": "inner"})
        assert labels() == {"user": "consumer"}
        error = KeyError("thrown")
        assert body.throw(error) == (error, {"user": "consumer", "team": "a", "agent": "inner"})
        assert next(body) == {"user": "consumer", "team": "a"}
        body.close()
        assert closed == [{"user": "consumer", "team": "a"}]
        assert labels() == {"user": "consumer"}


def test_a_generator_returns_its_value_and_raises_its_error() -> None:
    @acting_as(team="a")
    def returning() -> Iterator[int]:
        yield 1
        return "end"  # type: ignore[return-value]

    @acting_as(team="a")
    def raising() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    def delegating() -> Iterator[int]:
        assert (yield from returning()) == "end"

    assert list(delegating()) == [1]
    with pytest.raises(ZeroDivisionError):
        list(raising())
    assert labels() == {}


@acting_as(team="a")
async def stream() -> AsyncIterator[object]:
    """The async twin of `numbers`."""
    try:
        await asyncio.sleep(0)
        sent = yield labels()
        with acting_as(agent="inner"):
            try:
                yield sent, labels()
            except KeyError as error:
                yield error, labels()
        await asyncio.sleep(0)
        yield labels()
    finally:
        await asyncio.sleep(0)
        closed.append(labels())


def test_an_async_generator_has_the_labels_whenever_its_body_runs_and_its_consumer_never() -> None:
    async def main() -> None:
        closed.clear()
        body = stream()
        assert await anext(body) == {"team": "a"}
        assert labels() == {}
        assert await body.asend(5) == (5, {"team": "a", "agent": "inner"})
        error = KeyError("thrown")
        assert await body.athrow(error) == (error, {"team": "a", "agent": "inner"})
        assert labels() == {}
        assert await anext(body) == {"team": "a"}
        await body.aclose()
        assert closed == [{"team": "a"}]
        assert [item async for item in stream()] == [
            {"team": "a"},
            (None, {"team": "a", "agent": "inner"}),
            {"team": "a"},
        ]
        assert labels() == {}

    asyncio.run(main())


def test_cancelling_the_consumer_reaches_the_body_of_an_async_generator() -> None:
    @acting_as(team="a")
    async def waiting() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            closed.append(labels())
            raise

    async def consume(started: asyncio.Event) -> None:
        async for _ in waiting():
            started.set()

    async def main() -> None:
        closed.clear()
        started = asyncio.Event()
        task = asyncio.create_task(consume(started))
        await started.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert closed == [{"team": "a"}]

    asyncio.run(main())


def test_a_with_in_a_plain_generator_that_ends_late_takes_only_its_own_labels_away() -> None:
    def plain() -> Iterator[None]:
        with acting_as(agent="generator"):
            yield

    body = plain()
    next(body)
    with acting_as(team="consumer"):
        body.close()
        assert labels() == {"team": "consumer"}
    assert labels() == {}
