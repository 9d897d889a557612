"""The ASGI middleware in Starlette, in FastAPI and on uvicorn, over calls of a guarded client to a local provider."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest
from guard_kit import MODEL, World
from sdk_kit import MESSAGES, closing, ledger_rows, loop, openai

import budgetguard as bg
from budgetguard.integrations.asgi import BudgetMiddleware
from budgetguard.testing import FakeProvider

httpx = pytest.importorskip("httpx", reason="httpx is not installed")
starlette = pytest.importorskip("starlette.applications", reason="Starlette is not installed")
fastapi = pytest.importorskip("fastapi", reason="FastAPI is not installed")

from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser  # noqa: E402 - where it is there
from starlette.middleware import Middleware  # noqa: E402
from starlette.middleware.authentication import AuthenticationMiddleware  # noqa: E402
from starlette.responses import PlainTextResponse, StreamingResponse  # noqa: E402
from starlette.routing import Route  # noqa: E402

PER_USER = [bg.Budget("each-user", per=["user"], limits=["1 requests/day"])]
ASKED: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, "max_tokens": 20}


class ByHeader(AuthenticationBackend):
    """Whoever says who they are is believed."""

    async def authenticate(self, conn: Any) -> Any:
        return AuthCredentials(), SimpleUser(conn.headers["x-user"])


AUTHENTICATED = Middleware(AuthenticationMiddleware, backend=ByHeader())
BUDGETED = Middleware(BudgetMiddleware, labels=lambda scope: {"user": scope["user"].username})


@pytest.fixture
def guard(world: World) -> Iterator[bg.Guard]:
    with closing(world.guard(budgets=PER_USER)) as found:
        yield found


def asked(app: Any, *users: str, path: str = "/") -> list[Any]:
    """The answers of an app to one user after the other."""

    async def main() -> list[Any]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
            return [await client.get(path, headers={"x-user": user}) for user in users]

    return loop().run(main())


@pytest.fixture
def client(guard: bg.Guard, provider: FakeProvider) -> Iterator[Any]:
    """A guarded client."""
    found = guard.wrap(openai.AsyncOpenAI(api_key="k", base_url=provider.base_url))
    yield found
    loop().run(found.close())


@pytest.fixture
def sync_client(guard: bg.Guard, provider: FakeProvider) -> Iterator[Any]:
    """A guarded client for plain functions."""
    with guard.wrap(openai.OpenAI(api_key="k", base_url=provider.base_url)) as found:
        yield found


def test_in_starlette_each_user_has_a_budget_and_a_refusal_is_a_429(
    world: World, client: Any, provider: FakeProvider
) -> None:
    async def ask(request: Any) -> PlainTextResponse:
        answer = await client.chat.completions.create(**ASKED)
        return PlainTextResponse(answer.choices[0].message.content)

    app = starlette.Starlette(routes=[Route("/", ask)], middleware=[AUTHENTICATED, BUDGETED])
    answers = asked(app, "ann@example", "bob", "ann@example")
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].headers["content-type"] == "application/problem+json"
    assert answers[2].json()["violated-policies"] == ["each-user requests/day"]
    assert "ann@example" not in answers[2].text + str(answers[2].headers), "who it is, is not told"
    assert [row["user"] for row in ledger_rows(world)] == ["ann@example", "bob"]
    assert len(provider.bill) == 2


def test_in_fastapi_plain_functions_run_in_threads_with_the_labels_too(world: World, sync_client: Any) -> None:
    app = fastapi.FastAPI(middleware=[AUTHENTICATED, BUDGETED])

    @app.get("/")
    def ask() -> str:
        return str(sync_client.chat.completions.create(**ASKED).choices[0].message.content)

    assert [answer.status_code for answer in asked(app, "ann@example", "bob", "bob")] == [200, 200, 429]
    assert [row["user"] for row in ledger_rows(world)] == ["ann@example", "bob"]


def test_in_fastapi_a_dependency_may_say_who_it_is_where_that_is_known_only_there(world: World, client: Any) -> None:
    async def user(x_user: Annotated[str, fastapi.Header()]) -> AsyncIterator[None]:
        with bg.acting_as(user=x_user):
            yield

    app = fastapi.FastAPI(middleware=[Middleware(BudgetMiddleware, labels=lambda scope: {})])

    @app.get("/", dependencies=[fastapi.Depends(user)])
    async def ask() -> str:
        answer = await client.chat.completions.create(**ASKED)
        return str(answer.choices[0].message.content)

    assert [answer.status_code for answer in asked(app, "ann@example", "bob", "ann@example")] == [200, 200, 429]
    assert [row["user"] for row in ledger_rows(world)] == ["ann@example", "bob"]


def test_an_http_exception_of_the_app_stays_what_it_is(client: Any) -> None:
    app = fastapi.FastAPI(middleware=[AUTHENTICATED, BUDGETED])

    @app.get("/")
    async def ask() -> None:
        try:
            await client.chat.completions.create(**ASKED)
            await client.chat.completions.create(**ASKED)
        except bg.BudgetExceeded as refusal:
            raise fastapi.HTTPException(402, "pay first") from refusal

    (answer,) = asked(app, "ann@example")
    assert (answer.status_code, answer.json()) == (402, {"detail": "pay first"})


def test_a_stream_that_is_refused_after_its_answer_has_begun_is_broken_off(client: Any, provider: FakeProvider) -> None:
    async def words() -> AsyncIterator[str]:
        for _ in range(2):
            async for chunk in await client.chat.completions.create(**ASKED, stream=True):
                yield chunk.choices[0].delta.content or "" if chunk.choices else ""

    async def ask(request: Any) -> StreamingResponse:
        return StreamingResponse(words())

    app = starlette.Starlette(routes=[Route("/", ask)], middleware=[AUTHENTICATED, BUDGETED])
    with pytest.raises(bg.BudgetExceeded):
        asked(app, "ann@example")
    assert len(provider.bill) == 1
