"""How a call's block may end, and what the ledger then says of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace

import httpx2
import pytest
from guard_kit import BOTH, ESTIMATE, USAGE, World, until

from budgetguard.events import Assumed, Settled

STORES = BOTH


class ProviderError(Exception):
    """As the SDKs' errors: with the status of the answer, on itself or on its response."""

    def __init__(self, status: int, on_response: bool = False) -> None:
        super().__init__(status)
        if on_response:
            self.response = SimpleNamespace(status_code=status)
        else:
            self.status_code = status


def caused(error: Exception) -> Exception:
    """As an SDK raises what its HTTP client raised."""
    outer = RuntimeError("connection error")
    outer.__cause__ = error
    return outer


RELEASED = {
    "a 4xx answer": ProviderError(429),
    "a 4xx answer, said by its response": ProviderError(400, on_response=True),
    "no connection": httpx2.ConnectError("refused"),
    "no connection in time": httpx2.ConnectTimeout("slow"),
    "no connection, inside an SDK's error": caused(httpx2.ConnectError("refused")),
    "nobody listens": ConnectionRefusedError(),
}
ASSUMED = {
    "a 5xx answer": ProviderError(500),
    "the provider gave up on us": ProviderError(408),
    "the provider says that we went away": ProviderError(499),
    "no answer in time": httpx2.ReadTimeout("slow"),
    "a connection that broke": httpx2.RemoteProtocolError("gone"),
    "a time-out of the caller's": TimeoutError(),
    "an error of the caller's": KeyError("choices"),
}


@pytest.mark.parametrize("kind", RELEASED)
def test_what_was_never_billed_is_released_without_a_row(world: World, kind: str) -> None:
    async def main() -> None:
        guard = world.guard("100k tokens/day", "9 requests/day")
        async with guard:
            with pytest.raises(type(RELEASED[kind])):
                async with guard.reserve(estimate=ESTIMATE):
                    raise RELEASED[kind]
            assert (world.reserved(), world.spent(), world.spent("requests"), world.statuses()) == (0, 0, 0, [])

    asyncio.run(main())


@pytest.mark.parametrize("kind", ASSUMED)
def test_what_may_have_been_billed_is_assumed_to_have_taken_its_estimate(world: World, kind: str) -> None:
    error = ASSUMED[kind]

    async def main() -> None:
        guard = world.guard("100k tokens/day")
        async with guard:
            with pytest.raises(type(error)):
                async with guard.reserve(estimate=ESTIMATE) as hold:
                    raise error
        row = world.row(hold.id)
        assert (row["status"], row["error_type"], row["total_tokens"]) == ("assumed", type(error).__name__, 800)
        assert [event.cause for event in world.heard.of(Assumed)] == [type(error).__name__]
        assert (world.reserved(), world.spent()) == (0, 800)

    asyncio.run(main())


def test_what_was_recorded_before_an_error_is_charged_as_it_is(world: World) -> None:
    async def main() -> None:
        guard = world.guard("100k tokens/day")
        ids: list[str] = []

        async def call() -> None:
            async with guard.reserve(estimate=ESTIMATE) as hold:
                ids.append(hold.id)
                hold.record(USAGE)
                raise ProviderError(400)

        async with guard:
            with pytest.raises(ProviderError):
                await call()
        row = world.row(ids[0])
        assert (row["status"], row["error_type"], row["total_tokens"]) == ("error", "ProviderError", 600)
        assert world.heard.of(Assumed) == []

    asyncio.run(main())


@pytest.mark.parametrize("recorded", [True, False])
def test_a_cancelled_call_is_charged_and_stays_cancelled(world: World, recorded: bool) -> None:
    async def main() -> None:
        guard = world.guard("100k tokens/day")
        ids: list[str] = []

        async def call() -> None:
            async with guard.reserve(estimate=ESTIMATE) as hold:
                ids.append(hold.id)
                if recorded:
                    hold.record(USAGE)
                await asyncio.Event().wait()

        async with guard:
            task = asyncio.create_task(call())
            await until(lambda: ids, "the call is under way")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        row = world.row(ids[0])
        told = ("cancelled", 600) if recorded else ("assumed", 800)
        assert ((row["status"], row["total_tokens"]), row["error_type"]) == (told, "CancelledError")

    asyncio.run(main())


def test_the_caller_may_say_what_an_error_means_and_a_fault_of_that_hides_nothing(world: World) -> None:
    def outcome_of(error: BaseException) -> str:
        if isinstance(error, KeyError):
            raise ZeroDivisionError("a bug of mine")
        return "release" if isinstance(error, TimeoutError) else "assume"

    async def main() -> None:
        guard = world.guard("100k tokens/day", outcome_of=outcome_of)
        async with guard:
            for error in (TimeoutError(), ProviderError(400), KeyError("choices")):
                with pytest.raises(type(error)):
                    async with guard.reserve(estimate=ESTIMATE):
                        raise error
        assert world.statuses() == ["assumed", "assumed"]
        causes = [event.cause for event in world.heard.of(Assumed)]
        assert causes[0] == "ProviderError"
        assert causes[1] == "KeyError, and outcome_of failed: ZeroDivisionError('a bug of mine')"

    asyncio.run(main())


def test_an_async_generator_that_is_closed_in_a_call_charges_it_in_the_background(world: World) -> None:
    async def main() -> None:
        guard = world.guard("100k tokens/day")

        async def chunks() -> AsyncIterator[int]:
            async with guard.reserve(estimate=ESTIMATE) as hold:
                hold.record(USAGE)
                yield 1
                yield 2

        async with guard:
            stream = chunks()
            assert await anext(stream) == 1
            await stream.aclose()  # type: ignore[attr-defined]
            await until(lambda: world.spent() == 600, "the settle is delivered")
        (status,) = world.statuses()
        assert status == "cancelled"

    asyncio.run(main())


def test_a_coroutine_that_is_closed_in_a_call_charges_it_in_the_background(world: World) -> None:
    async def main() -> None:
        guard = world.guard("100k tokens/day")

        async def call() -> None:
            async with guard.reserve(estimate=ESTIMATE):
                await asyncio.Event().wait()

        async with guard:
            coroutine = call()
            reserved = coroutine.send(None)
            while not world.held():
                await asyncio.wait([reserved])
                reserved = coroutine.send(None)
            coroutine.close()
            await until(lambda: world.spent() == 800, "the settle is delivered")
        assert world.statuses() == ["assumed"]

    asyncio.run(main())


def test_the_row_tells_how_long_the_call_took(world: World) -> None:
    async def main() -> None:
        guard = world.guard("100k tokens/day")
        async with guard:
            started = time.monotonic()
            async with guard.reserve(estimate=ESTIMATE) as hold:
                inside = time.monotonic()
                await until(lambda: time.monotonic() - inside > 0.05, "some time has passed")
                hold.record(USAGE)
            took_ms = (time.monotonic() - started) * 1000
        assert 1 <= world.row(hold.id)["latency_ms"] <= took_ms
        assert world.heard.of(Settled)[0].latency_ms == world.row(hold.id)["latency_ms"]

    asyncio.run(main())
