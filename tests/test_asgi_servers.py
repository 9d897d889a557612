"""The ASGI middleware on a real server: what clients of HTTP and of websockets get over the wire."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from guard_kit import ESTIMATE, MODEL, USAGE, World, until
from sdk_kit import MESSAGES, closing, ledger_rows, loop, openai

import budgetguard as bg
from budgetguard.integrations.asgi import BudgetMiddleware
from budgetguard.testing import FakeProvider

httpx = pytest.importorskip("httpx", reason="httpx is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed")
websocket_client = pytest.importorskip("websockets.sync.client", reason="websockets is not installed")
pytest.importorskip("starlette", reason="Starlette is not installed")

from starlette.applications import Starlette  # noqa: E402 - where it is there
from starlette.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError, SimpleUser  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402
from starlette.middleware.authentication import AuthenticationMiddleware  # noqa: E402
from starlette.responses import StreamingResponse  # noqa: E402
from starlette.routing import Route, WebSocketRoute  # noqa: E402
from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402

KEYS = {"Bearer a-key": "ann@example", "Bearer b-key": "bob"}
ASKED: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, "max_tokens": 20}


class ByKey(AuthenticationBackend):
    """Who has whose key."""

    async def authenticate(self, conn: Any) -> Any:
        if (user := KEYS.get(conn.headers.get("authorization"))) is None:
            raise AuthenticationError("no key")
        return AuthCredentials(), SimpleUser(user)


MIDDLEWARE = [
    Middleware(AuthenticationMiddleware, backend=ByKey()),
    Middleware(BudgetMiddleware, labels=lambda scope: {"user": scope["user"].username}),
]


@pytest.fixture
def guard(world: World) -> Iterator[bg.Guard]:
    with closing(world.guard(budgets=[bg.Budget("each-user", per=["user"], limits=["1 requests/day"])])) as found:
        yield found


@contextlib.contextmanager
def running(*routes: Any) -> Iterator[str]:
    """The address of a real server."""
    app = Starlette(routes=routes, middleware=MIDDLEWARE)
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_config=None))
    started, startup = threading.Event(), server.startup

    async def started_up(sockets: Any = None) -> None:
        await startup(sockets)
        started.set()

    server.startup = started_up
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        assert started.wait(60)
        yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def test_an_sdk_with_retries_asks_once(guard: bg.Guard, provider: FakeProvider) -> None:
    """Its callers are told at once, with our reason, though they would ask a 429 again."""
    received = []

    def complete(request: Any) -> Any:
        received.append(request.url.path)
        for _ in range(2):
            client.chat.completions.create(**ASKED)

    with (
        guard.wrap(openai.OpenAI(api_key="k", base_url=provider.base_url)) as client,
        running(Route("/chat/completions", complete, methods=["POST"])) as at,
        openai.OpenAI(api_key="a-key", base_url=f"http://{at}", max_retries=5) as caller,
        pytest.raises(openai.RateLimitError) as info,
    ):
        caller.chat.completions.create(**ASKED)
    assert received == ["/chat/completions"]
    assert info.value.body["detail"].startswith("each-user refused this call: 1 requests/day is spent")
    assert int(info.value.response.headers["retry-after"]) == 43_200


def test_who_it_is_goes_by_the_key_and_by_no_header_that_claims_it(guard: bg.Guard, world: World) -> None:
    async def ask(request: Any) -> StreamingResponse:
        async def words() -> AsyncIterator[str]:
            async with guard.reserve(model=MODEL, estimate=ESTIMATE) as hold:
                hold.record(USAGE)
                yield "Dear "
            yield hold.subject["user"]

        return StreamingResponse(words())

    def asked(key: str) -> Any:
        return httpx.get(f"http://{at}/", headers={"authorization": f"Bearer {key}", "x-user": "bob", "user": "bob"})

    with running(Route("/", ask)) as at:
        answers = [asked("a-key"), asked("a-key"), asked("b-key")]
    assert [(answer.status_code, answer.text) for answer in answers[::2]] == [
        (200, "Dear ann@example"),
        (200, "Dear bob"),
    ]
    assert answers[1].status_code == 429, "refused before its first chunk"
    assert answers[1].headers["content-type"] == "application/problem+json"
    assert [row["user"] for row in ledger_rows(world)] == ["ann@example", "bob"]


@pytest.mark.parametrize("accepts", [True, False])
def test_a_websocket_is_told_too(accepts: bool, guard: bg.Guard) -> None:
    async def talk(socket: Any) -> None:
        if accepts:
            await socket.accept()
        for _ in range(2):
            async with guard.reserve(model=MODEL, estimate=ESTIMATE) as hold:
                hold.record(USAGE)

    key = {"authorization": "Bearer a-key"}
    with running(WebSocketRoute("/", talk)) as at:
        if accepts:
            socket = websocket_client.connect(f"ws://{at}/", additional_headers=key)
            with socket, pytest.raises(ConnectionClosed) as closed:
                socket.recv()
            assert closed.value.rcvd.code == 1013
            assert closed.value.rcvd.reason == "each-user refused this call: 1 requests/day is spent"
        else:
            with pytest.raises(InvalidStatus) as denied:
                websocket_client.connect(f"ws://{at}/", additional_headers=key)
            assert denied.value.response.status_code == 429
            assert denied.value.response.headers["retry-after"] == "43200"
            assert b"quota-exceeded" in denied.value.response.body


def test_a_client_that_leaves_a_stream_ends_its_call(guard: bg.Guard, world: World) -> None:
    async def ask(request: Any) -> StreamingResponse:
        async def words() -> AsyncIterator[str]:
            async with guard.reserve(model=MODEL, estimate=ESTIMATE) as hold:
                hold.record(USAGE)
                while True:
                    yield "and so on "
                    await asyncio.sleep(0)

        return StreamingResponse(words())

    with running(Route("/", ask)) as at:
        with httpx.stream("GET", f"http://{at}/", headers={"authorization": "Bearer a-key"}) as answer:
            next(answer.iter_text())
        loop().run(until(lambda: world.statuses(), "it is settled"))
    assert (world.held(), world.statuses(), ledger_rows(world)[0]["prompt_tokens"]) == (0, ["cancelled"], 500)
