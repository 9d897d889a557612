"""The ASGI middleware by itself: what a refusal is answered with, header by header, and what passes untouched."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import pytest
from guard_kit import ESTIMATE, MODEL, USAGE, World, run_script

import budgetguard as bg
from budgetguard.integrations.asgi import PROBLEM_TITLE, PROBLEM_TYPE, BudgetMiddleware, headers_of, problem_of

HTTP = {"type": "http", "user": "ann", "extensions": {}}
ANN = {"user": "ann"}


class Answer(NamedTuple):
    """What an app sent."""

    messages: list[Any]

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def json(self) -> Any:
        return json.loads(b"".join(message.get("body", b"") for message in self.messages[1:]))


def labels_of(scope: Mapping[str, Any]) -> dict[str, str]:
    return {"user": scope["user"]}


def served(app: Callable[..., Awaitable[None]], scope: Mapping[str, Any] = HTTP) -> Answer:
    """What a guarded app answers."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    asyncio.run(BudgetMiddleware(app, labels_of)(dict(scope), receive, send))
    return Answer(sent)


def refused_by(guard: bg.Guard, estimate: bg.Usage = ESTIMATE, times: int = 1) -> Callable[..., Awaitable[None]]:
    """An app that spends, so often, until that is refused."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with guard:
            for _ in range(times):
                async with guard.reserve(model=MODEL, estimate=estimate) as hold:
                    hold.record(USAGE)

    return app


def refusal_of(world: World, *limits: str, estimate: bg.Usage = ESTIMATE, **options: Any) -> bg.BudgetExceeded:
    """The refusal of such a call of Ann's by her limits, after one that took 600 tokens and $0.0007."""
    if limits:
        options["budgets"] = [bg.Budget("each-user", per=["user"], limits=limits)]

    async def main() -> bg.BudgetExceeded:
        async with world.guard(**options) as guard:
            async with guard.reserve(user="ann", model=MODEL, estimate=USAGE) as hold:
                hold.record(USAGE)
            with pytest.raises(bg.BudgetExceeded) as info:
                await guard.reserve(user="ann", model=MODEL, estimate=estimate)
        return info.value

    return asyncio.run(main())


def test_a_refusal_is_answered_with_429_and_all_that_a_client_needs_to_wait_rightly(world: World) -> None:
    answer = served(refused_by(world.guard("1k tokens/day", "$5/day"), times=2))
    assert answer.status == 429
    assert answer.headers == {
        "x-should-retry": "false",
        "retry-after": "43200",  # the clock stands at noon
        "ratelimit-policy": '"default tokens/day";q=1000;qu="tokens";w=86400',
        "ratelimit": '"default tokens/day";r=0;t=43200',  # what is left of a budget for all is nobody's to know
        "content-type": "application/problem+json",
        "content-length": answer.headers["content-length"],
    }
    assert answer.json == {
        "type": PROBLEM_TYPE,
        "title": PROBLEM_TITLE,
        "status": 429,
        "detail": "default refused this call: 1k tokens/day is spent",
        "violated-policies": ["default tokens/day"],
    }
    assert len(answer.messages[1]["body"]) == int(answer.headers["content-length"])


def test_every_limit_that_refused_is_an_item_in_the_order_of_the_policy(world: World) -> None:
    limits = "700 tokens/hour", "$0.001500001/rolling 10 minutes", "1 requests/month"
    headers = headers_of(refusal_of(world, *limits), ANN)
    assert headers["RateLimit-Policy"] == ", ".join([
        '"each-user tokens/hour";q=700;qu="tokens";w=3600',
        '"each-user usd/rolling 10 minutes";q=1500;qu="micro-usd";w=600',
        '"each-user requests/month";q=1;w=2592000',
    ])  # fmt: skip
    assert headers["RateLimit"].startswith('"each-user tokens/hour";r=100, "each-user usd/rolling 10 minutes";r=800;t=')
    assert headers["RateLimit"].endswith(', "each-user requests/month";r=0;t=734400'), "till the first of December"
    assert "Retry-After" not in headers, "800 tokens are never to be had from 700: waiting cannot help"


def test_where_waiting_cannot_help_no_wait_is_told(world: World) -> None:
    headers = headers_of(refusal_of(world, "600 tokens/total"), ANN)
    assert headers == {
        "x-should-retry": "false",
        "RateLimit-Policy": '"each-user tokens/total";q=600;qu="tokens"',
        "RateLimit": '"each-user tokens/total";r=0',
    }


def test_what_is_held_is_worth_another_try_after_a_second(world: World) -> None:
    async def main() -> bg.BudgetExceeded:
        async with world.guard("1 concurrent") as guard, guard.reserve(model=MODEL, estimate=ESTIMATE) as hold:
            hold.record(USAGE)
            with pytest.raises(bg.BudgetExceeded) as info:
                await guard.reserve(model=MODEL, estimate=ESTIMATE)
        return info.value

    headers = headers_of(asyncio.run(main()))
    assert headers["Retry-After"] == "1"
    assert headers["RateLimit-Policy"] == '"default concurrent";q=1;qu="concurrent-requests"'
    assert headers["RateLimit"] == '"default concurrent";r=0;t=1'


@pytest.mark.parametrize(("passed_ms", "seconds"), [(0, 43_200), (1, 43_200), (43_198_999, 2), (43_199_000, 1)])
def test_seconds_are_rounded_up(passed_ms: int, seconds: int, world: World) -> None:
    world.clock.advance(passed_ms)
    headers = headers_of(refusal_of(world, "1k tokens/day"))
    assert (headers["Retry-After"], headers["RateLimit"].rpartition("t=")[2]) == (str(seconds), str(seconds))


def test_names_are_what_a_structured_field_can_hold_and_the_same_in_the_body(world: World) -> None:
    budgets = [bg.Budget('50% "ü"\\', limits=["9 requests/day", f"{2**53 - 1} tokens/day"])]
    free = [bg.Price(MODEL, {"input": "0", "output": "0"})]
    refusal = refusal_of(world, budgets=budgets, prices=free, estimate=bg.Usage(2**53 - 2, 1))
    name = '50%25 "%C3%BC"\\ tokens/day'
    quoted = '"50%25 \\"%C3%BC\\"\\\\ tokens/day"'
    assert json.loads(problem_of(refusal))["violated-policies"] == [name]
    assert headers_of(refusal)["RateLimit-Policy"] == f'{quoted};q=999999999999999;qu="tokens";w=86400'


def test_a_run_is_named_without_its_id_so_that_its_name_stays(world: World) -> None:
    guard = world.guard("9k tokens/day")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with guard, guard.within("200 tokens", name="run"):
            await guard.reserve(model=MODEL, estimate=ESTIMATE)

    told = served(app).json
    assert told["violated-policies"] == ["run tokens/total"]
    assert told["detail"] == "run refused this call: 800 tokens is more than all of 200 tokens/total"


def test_the_requests_labels_are_those_of_its_calls_and_of_no_other(world: World) -> None:
    guard = world.guard("9k tokens/day")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with guard.reserve(model=MODEL, estimate=ESTIMATE) as hold:
            hold.record(USAGE)
        await send({"type": "http.response.body", "user": hold.subject["user"]})

    async def main() -> list[str]:
        answers: list[str] = []

        async def send(message: Any) -> None:
            answers.append(message["user"])

        async with guard, asyncio.TaskGroup() as tasks:
            for user in ("ann", "bob", "cid"):
                tasks.create_task(BudgetMiddleware(app, labels_of)({**HTTP, "user": user}, asyncio.sleep, send))
        return answers

    assert sorted(asyncio.run(main())) == ["ann", "bob", "cid"]


def test_a_refusal_inside_another_error_is_found_and_another_error_passes(world: World) -> None:
    guard = world.guard("10 tokens/day")

    async def wrapping(scope: Any, receive: Any, send: Any) -> None:
        try:
            await refused_by(guard)(scope, receive, send)
        except bg.BudgetExceeded as refusal:
            raise ExceptionGroup("in a task group", [RuntimeError("the framework's")]) from refusal

    assert served(wrapping).status == 429

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise bg.LabelRequired("the policy requires a team")

    with pytest.raises(bg.LabelRequired):
        served(broken)


def test_an_answer_that_has_begun_is_broken_off_not_answered_twice(world: World) -> None:
    guard, sent = world.guard("10 tokens/day"), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"Dear", "more_body": True})
        await refused_by(guard)(scope, receive, send)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    with pytest.raises(bg.BudgetExceeded):
        asyncio.run(BudgetMiddleware(app, labels_of)(dict(HTTP), asyncio.sleep, send))
    assert sent == ["http.response.start", "http.response.body"]


def test_the_lifespan_has_no_labels_and_passes(world: World) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.complete"})

    assert served(app, {"type": "lifespan"}).messages == [{"type": "lifespan.startup.complete"}]


def test_a_label_that_is_none_is_an_error_of_whoever_gives_it() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("it must not be served")

    with pytest.raises(bg.InvalidLabel, match="user"):
        served(app, {**HTTP, "user": ""})


def test_it_needs_no_web_framework(tmp_path: Any) -> None:
    source = "import budgetguard.integrations.asgi, sys; print({'starlette', 'fastapi'} & {*sys.modules})"
    assert run_script(source, tmp_path).stdout.strip() == "set()", sys.executable
