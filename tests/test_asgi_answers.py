"""Which answers the ASGI middleware replaces, and which pass: streams, mounted apps, websockets, other errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from guard_kit import ESTIMATE, MODEL, USAGE, World

import budgetguard as bg
from budgetguard.integrations.asgi import BudgetMiddleware

httpx = pytest.importorskip("httpx", reason="httpx is not installed")
pytest.importorskip("starlette", reason="Starlette is not installed")

from starlette.applications import Starlette  # noqa: E402 - where it is there
from starlette.background import BackgroundTask  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402
from starlette.middleware.base import BaseHTTPMiddleware  # noqa: E402
from starlette.responses import PlainTextResponse, StreamingResponse  # noqa: E402
from starlette.routing import Mount, Route  # noqa: E402

BUDGETED = Middleware(BudgetMiddleware, labels=lambda scope: {"user": "ann"})
START = {"type": "http.response.start", "status": 200, "headers": []}
OTHERS = [
    bg.LabelRequired("team"), bg.CallUnmatched("?"), bg.UnguardedApi("/v9"), bg.PriceUnknown("acme-9"),
    bg.EstimateRequired("?"), bg.StoreAway("no answer"), bg.StateLost("?"), bg.GuardClosed("closed"),
]  # fmt: skip


async def passing(request: Any, call_next: Any) -> Any:
    """Another middleware, of the kind that has a task and a queue between the app and whoever is outside."""
    return await call_next(request)


async def spend(guard: bg.Guard) -> str:
    """Refused where the guard has a small budget."""
    async with guard.reserve(model=MODEL, estimate=ESTIMATE) as hold:
        hold.record(USAGE)
    return "done"


def answers(app: Any, *paths: str, raises: bool = False) -> list[Any]:
    """What a server's clients get: where it is answered, its error is only logged."""

    async def main() -> list[Any]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=raises)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            return [await client.get(path) for path in paths]

    return asyncio.run(main())


def sent_by(app: Any, scope: dict[str, Any], received: tuple[dict[str, Any], ...] = ()) -> list[Any]:
    """The messages that a guarded app sends."""
    sent: list[Any] = []
    waiting = iter(received)

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return next(waiting)

    asyncio.run(BudgetMiddleware(app, lambda _: {"user": "ann"})(scope, receive, send))
    return sent


@pytest.fixture
def guard(world: World) -> Iterator[bg.Guard]:
    """One that refuses."""
    found = world.guard("10 tokens/day")
    yield found
    found.sync.close()


@pytest.mark.parametrize("others", [[], [Middleware(BaseHTTPMiddleware, dispatch=passing)]])
def test_a_stream_that_is_refused_before_its_first_chunk_is_a_429(others: list[Any], guard: bg.Guard) -> None:
    async def words() -> AsyncIterator[str]:
        yield await spend(guard)

    async def ask(request: Any) -> StreamingResponse:
        return StreamingResponse(words())

    (answer,) = answers(Starlette(routes=[Route("/", ask)], middleware=[*others, BUDGETED]), "/", raises=True)
    assert (answer.status_code, answer.json()["status"]) == (429, 429)


def test_what_an_app_sends_passes_in_its_order() -> None:
    bodies = [{"type": "http.response.body", "body": b"", "more_body": True}, {"type": "http.response.body"}]

    def sending(*messages: Any) -> Callable[..., Any]:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            for message in messages:
                await send(message)

        return app

    for messages in ([START, *bodies], [START, {"type": "http.response.pathsend", "path": "/x"}], [START], []):
        assert sent_by(sending(*messages), {"type": "http"}) == messages


def test_the_start_waits_only_for_the_first_of_the_body() -> None:
    seen: list[int] = []

    async def main() -> None:
        sent: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            for message in (START, {"type": "http.response.body", "body": b"", "more_body": True}):
                await send(message)
                seen.append(len(sent))

        async def keep(message: Any) -> None:
            sent.append(message)

        await BudgetMiddleware(app, lambda _: {})({"type": "http"}, asyncio.sleep, keep)

    asyncio.run(main())
    assert seen == [0, 2], "an empty chunk is enough, for who wants it to begin at once"


@pytest.mark.parametrize("debug", [False, True])
def test_an_app_that_is_mounted_answers_no_refusal_as_an_error(debug: bool, guard: bg.Guard) -> None:
    """Its own outermost layer answers every error with a 500, and raises it again."""

    async def ask(request: Any) -> PlainTextResponse:
        return PlainTextResponse(await spend(guard))

    async def broken(request: Any) -> PlainTextResponse:
        raise KeyError("a fault of its own")

    inner = Starlette(routes=[Route("/", ask), Route("/broken", broken)], debug=debug)
    app = Starlette(routes=[Mount("/inner", inner)], middleware=[BUDGETED])
    refused, other = answers(app, "/inner/", "/inner/broken")
    assert (refused.status_code, refused.headers["content-type"]) == (429, "application/problem+json")
    assert other.status_code == 500


def test_a_mounted_app_with_other_middlewares_has_it_itself(guard: bg.Guard) -> None:
    """What such a middleware passes on is an answer that has begun, whatever became of the app."""

    async def words() -> AsyncIterator[str]:
        yield await spend(guard)

    async def ask(request: Any) -> StreamingResponse:
        return StreamingResponse(words())

    other = Middleware(BaseHTTPMiddleware, dispatch=passing)
    inner = Starlette(routes=[Route("/", ask)], middleware=[other, BUDGETED])
    (answer,) = answers(Starlette(routes=[Mount("/inner", inner)]), "/inner/", raises=True)
    assert answer.status_code == 429


def test_an_error_that_an_app_answers_itself_passes(guard: bg.Guard) -> None:
    async def ask(request: Any) -> PlainTextResponse:
        try:
            await spend(guard)
        except bg.BudgetExceeded:
            return PlainTextResponse("tomorrow", 402)
        return PlainTextResponse("")

    async def late(request: Any) -> PlainTextResponse:
        await ask(request)
        return PlainTextResponse("its own", 503)

    found = answers(Starlette(routes=[Route("/", ask), Route("/late", late)], middleware=[BUDGETED]), "/", "/late")
    assert [(answer.status_code, answer.text) for answer in found] == [(402, "tomorrow"), (503, "its own")]


def test_after_its_answer_a_background_tasks_refusal_is_the_servers_to_log(guard: bg.Guard) -> None:
    async def ask(request: Any) -> PlainTextResponse:
        return PlainTextResponse("done", background=BackgroundTask(spend, guard))

    app = Starlette(routes=[Route("/", ask)], middleware=[BUDGETED])
    (answer,) = answers(app, "/")
    assert (answer.status_code, answer.text) == (200, "done")
    with pytest.raises(bg.BudgetExceeded):
        answers(app, "/", raises=True)


@pytest.mark.parametrize("error", OTHERS, ids=lambda error: type(error).__name__)
def test_other_errors_are_no_callers_doing(error: bg.BudgetGuardError) -> None:
    async def ask(request: Any) -> None:
        raise error

    app = Starlette(routes=[Route("/", ask)], middleware=[BUDGETED])
    (answer,) = answers(app, "/")
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")
    with pytest.raises(type(error)):
        answers(app, "/", raises=True)


def test_an_app_may_answer_other_errors_as_it_likes() -> None:
    async def ask(request: Any) -> None:
        raise bg.StoreAway("no answer")

    async def away(request: Any, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("in a minute", 503)

    app = Starlette(routes=[Route("/", ask)], middleware=[BUDGETED], exception_handlers={bg.StoreError: away})
    assert answers(app, "/", raises=True)[0].status_code == 503


def test_another_error_before_the_body_can_still_be_answered_by_who_stands_outside() -> None:
    async def words() -> AsyncIterator[str]:
        raise KeyError("a fault of its own")
        yield ""

    async def ask(request: Any) -> StreamingResponse:
        return StreamingResponse(words())

    assert answers(Starlette(routes=[Route("/", ask)], middleware=[BUDGETED]), "/")[0].status_code == 500


def test_whoever_is_nobody_has_no_labels(world: World) -> None:
    guard = world.guard("9k tokens/day")
    seen: list[dict[str, str]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with guard, guard.reserve(model=MODEL, estimate=ESTIMATE) as hold:
            hold.record(USAGE)
            seen.append(hold.subject)

    asyncio.run(BudgetMiddleware(app, lambda scope: None)({"type": "http"}, asyncio.sleep, asyncio.sleep))
    assert seen == [{"model": MODEL}]


@pytest.mark.parametrize(("limit", "code"), [("10 tokens/day", 1008), ("1 concurrent", 1013)])
@pytest.mark.parametrize("accepts", [True, False])
def test_a_websocket_is_closed_with_whether_to_come_again(limit: str, code: int, accepts: bool, world: World) -> None:
    """Servers answer a close before the accept with 403."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if accepts:
            await send({"type": "websocket.accept"})
        guard = world.guard(budgets=[bg.Budget("ü" * 60, limits=[limit])])
        async with guard, guard.reserve(model=MODEL, estimate=ESTIMATE):
            await spend(guard)

    sent = sent_by(app, {"type": "websocket", "extensions": {"websocket.http.response": {}} if accepts else None})
    assert sent[:-1] == [{"type": "websocket.accept"}] * accepts
    assert (sent[-1]["type"], sent[-1]["code"]) == ("websocket.close", code)
    assert sent[-1]["reason"] == "ü" * 60 + " re", "as much as a close has room for"


def test_a_websocket_that_waits_is_denied_with_the_same_answer(guard: bg.Guard) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await spend(guard)

    start, body = sent_by(app, {"type": "websocket", "extensions": {"websocket.http.response": {}}})
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 429)
    assert (body["type"], b'"status": 429' in body["body"]) == ("websocket.http.response.body", True)


@pytest.mark.parametrize("ends", ["websocket.close", "websocket.disconnect", "websocket.http.response.start"])
def test_a_websocket_that_is_over_is_not_closed_again(ends: str, guard: bg.Guard) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await (receive() if ends == "websocket.disconnect" else send({"type": ends}))
        await spend(guard)

    with pytest.raises(bg.BudgetExceeded):
        sent_by(app, {"type": "websocket", "extensions": {"websocket.http.response": {}}}, ({"type": ends},))
