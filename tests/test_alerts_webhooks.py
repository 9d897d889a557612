"""Alerts on their way to webhooks and callables: shapes, signatures, tries, routes, and what is told of failures."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import time
from typing import Any

import pytest
from alert_kit import HOSTILE, SECRET, Hooks, call, hmac_by_hand, texts_in
from guard_kit import World, until

import budgetguard as bg
from budgetguard.alerts.posting import TryAgain, Webhook
from budgetguard.alerts.raised import AlertRaised, AlertsUndelivered
from budgetguard.alerts.shapes import Message
from budgetguard.testing.reply import Reply

LARGE = bg.Usage(8_000, 1)
MANY = "100M tokens/day"
AGAIN = {"retry-after": "0"}


def raised(world: World, hooks: Hooks, *limits: str, **route: Any) -> None:
    """A call of 8,001 tokens by the agent crawler of the team search, on a guard with a route to the webhook."""

    async def play() -> None:
        async with hooks, world.guard(*(limits or [MANY]), alerts=hooks.route(**route)) as guard:
            await call(guard, LARGE, team="search", agent="crawler", model="acme-1")

    asyncio.run(play())


def test_an_alert_is_posted_as_json_signed_and_dated(world: World) -> None:
    hooks = Hooks()
    raised(world, hooks, secret=SECRET)
    (request,), (body,) = hooks.requests, hooks.bodies()
    assert (request.method, request.path) == ("POST", "/SECRETPATH")
    assert request.headers["content-type"] == "application/json"
    assert body["cause"] == "large_request"
    assert body["text"] == (
        "a single request [team=search agent=crawler model=acme-1] took 8,001 tokens: more than 8,000"
    )
    assert body["labels"] == {"team": "search", "agent": "crawler", "model": "acme-1"}
    assert body["figures"]["output_tokens"] == 1
    assert (body["namespace"], body["budget"], len(body["id"])) == ("default", "", 32)
    assert body["at"].startswith("2026-11-22T12:00:0")
    match = re.fullmatch(r"t=([0-9]+),v1=([0-9a-f]{64})", request.headers["x-budgetguard-signature"])
    assert match is not None
    assert match[2] == hmac_by_hand(SECRET.encode(), match[1].encode() + b"." + request.body)
    assert 0 <= time.time() - int(match[1]) < 60


def test_a_threshold_that_is_set_low_reaches_the_webhook(world: World) -> None:
    hooks = Hooks()
    levels = {"alert_at": [0.01, 1.0], "where": {"team": "search"}, "per": ["agent"]}
    budget = bg.Budget("search-team", ["1000 tokens/day"], **levels)
    about = {"team": "sea*", "agent": "crawler"}

    async def play() -> None:
        async with hooks, world.guard(budgets=[budget], alerts=hooks.route(where=about)) as guard:
            await call(guard, bg.Usage(9, 1), team="search", agent="crawler")
            with pytest.raises(bg.BudgetExceeded):
                await call(guard, bg.Usage(1000, 0), team="search", agent="crawler")

    asyncio.run(play())
    first, second = sorted(hooks.bodies(), key=lambda body: body["cause"], reverse=True)
    assert first["text"] == "search-team [agent=crawler]: 1 % of 1k tokens/day is spent (10 tokens)"
    assert (first["cause"], first["budget"]) == ("threshold", "search-team")
    assert first["figures"] == {
        "limit_tokens": 1000, "spent_tokens": 10, "threshold_tokens": 10, "period": "day@UTC",
    }  # fmt: skip
    assert first["labels"] == {"team": "search", "agent": "crawler"}
    assert second["cause"] == "exhausted"
    assert second["text"] == "search-team [agent=crawler]: calls are refused (10 tokens spent of 1k tokens/day)"


def test_what_fails_for_now_is_tried_again_and_signed_anew(world: World) -> None:
    past = {"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}
    hooks = Hooks(Reply(500, AGAIN), Reply(429, AGAIN), Reply(503, past), Reply(202))
    raised(world, hooks, secret=SECRET)
    assert len(hooks.requests) == 4
    assert len({request.body for request in hooks.requests}) == 1
    assert world.heard.of(AlertsUndelivered) == []


def test_an_answer_is_its_status_whatever_its_body_does_and_however_it_says_when(world: World) -> None:
    endless = Reply(body=b"x" * 1_000, cut_at=10, hang=True)
    unheard_of = Reply(429, {"retry-after": f"Mon, 01 Jan 2026 00:00:00 +{10**18}"})  # more than a C integer
    hooks = Hooks(unheard_of, endless)
    raised(world, hooks)
    assert len(hooks.requests) == 2
    assert world.heard.of(AlertsUndelivered) == []


def test_an_answer_that_comes_byte_by_byte_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("budgetguard.alerts.posting.TIMEOUT_S", 0.3)

    gone = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while not reader.at_eof():
            writer.write(b"X-More: x\r\n")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(4_096), 0.05)
        writer.close()
        gone.set()

    async def play() -> None:
        server = await asyncio.start_server(drip, "127.0.0.1")
        port = server.sockets[0].getsockname()[1]
        webhook = Webhook(bg.AlertRoute(f"http://127.0.0.1:{port}/SECRETPATH"))
        async with asyncio.timeout(20):
            with pytest.raises(TryAgain, match=r"^no answer within"):
                await webhook.post(Message("", AlertRaised("test", ""), "", 0))
        await asyncio.wait_for(gone.wait(), 20)
        await webhook.aclose()
        server.close()

    asyncio.run(play())


def test_what_is_refused_is_told_once_and_what_followed_is_counted(world: World, caplog: Any) -> None:
    hooks = Hooks(Reply(404))

    async def play() -> None:
        async with hooks, world.guard(MANY, alerts=hooks.route(kind="slack", secret=SECRET)) as guard:
            for agent in "abc":
                await call(guard, LARGE, agent=agent)
            assert "SECRET" not in repr(guard) + repr(guard.policy.alerts)

    with caplog.at_level(logging.DEBUG):
        asyncio.run(play())
    assert len(hooks.requests) == 3  # not one of them again
    told = world.heard.of(AlertsUndelivered)
    assert [(event.count, event.error) for event in told] == [(1, "it answered 404"), (2, "it answered 404")]
    assert told[0].route == f"slack http://127.0.0.1:{hooks.port}"
    assert "httpx2" in {record.name for record in caplog.records}
    assert "SECRETPATH" not in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("reply", [None, Reply(hang=True)], ids=["nobody listens", "nobody answers"])
def test_a_guard_that_ends_waits_a_bounded_time_and_tells_how_many_were_not_sent(
    world: World, reply: Reply | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("budgetguard.alerts.alerting.LAST_S", 0.3)
    hooks = Hooks(*([reply] if reply else []))

    async def play() -> None:
        async with hooks:
            settings = hooks.route()
            if reply is None:
                await hooks.__aexit__(None, None, None)
            async with world.guard(MANY, alerts=settings) as guard:
                for agent in "abc":
                    await call(guard, LARGE, agent=agent)

    began = time.monotonic()
    asyncio.run(play())
    assert time.monotonic() - began < 30
    assert sum(event.count for event in world.heard.of(AlertsUndelivered)) == 3


def test_alerts_that_come_faster_than_they_are_sent_are_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("budgetguard.alerts.sending.MOST_WAITING", 2)
    got: list[AlertRaised] = []

    async def slow(alert: AlertRaised) -> None:
        got.append(alert)
        await asyncio.sleep(0)

    async def play() -> None:
        async with world.guard(MANY, on_alert=[slow]) as guard:
            for agent in "abcde":
                await call(guard, LARGE, agent=agent)

    asyncio.run(play())
    assert [alert.subject["agent"] for alert in got] == ["a", "b"]
    assert sum(event.count for event in world.heard.of(AlertsUndelivered)) == 3


def test_no_more_are_posted_in_a_minute_than_a_webhook_takes_and_the_last_at_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("budgetguard.alerts.sending.MOST_A_MINUTE", 2)
    hooks = Hooks()

    async def play() -> None:
        async with hooks, world.guard(MANY, alerts=hooks.route()) as guard:
            for agent in "abcd":
                await call(guard, LARGE, agent=agent)
            await until(lambda: len(hooks.requests) == 2, "two are posted")
            probe = Webhook(bg.AlertRoute(hooks.url("/probe")))
            await probe.post(Message("", AlertRaised("test", ""), "", 0))  # a third would have come before this
            await probe.aclose()
            assert len(hooks.requests) == 3

    asyncio.run(play())
    assert sorted(hooks.causes()) == ["large_request"] * 4 + ["test"]


def test_each_route_gets_what_it_asks_for_and_callables_get_all(world: World) -> None:
    hooks = Hooks()
    got: list[AlertRaised] = []

    async def later(alert: AlertRaised) -> None:
        got.append(alert)

    def broken(alert: AlertRaised) -> None:
        raise ValueError(alert.cause)

    async def play() -> None:
        async with hooks:
            routes = [
                bg.AlertRoute(hooks.url("/search"), where={"team": "sea*"}),
                bg.AlertRoute(hooks.url("/prices"), causes=["unknown_price"]),
                bg.AlertRoute(hooks.url("/nobody"), where={"user": "*"}),
                bg.AlertRoute(hooks.url("/all")),
                bg.AlertRoute(hooks.url("/all"), where={"team": "*"}),  # the same place: not twice
            ]
            settings = bg.AlertSettings(routes=routes)
            async with world.guard(MANY, alerts=settings, on_alert=[broken, got.append, later]) as guard:
                await call(guard, LARGE, team="search", model="acme-1")
                await call(guard, bg.Usage(1, 1), team="ads", model="unheard-of")

    asyncio.run(play())
    sent = sorted((request.path, body["cause"]) for request, body in zip(hooks.requests, hooks.bodies(), strict=True))
    assert sent == [
        ("/all", "large_request"), ("/all", "unknown_price"), ("/prices", "unknown_price"),
        ("/search", "large_request"),
    ]  # fmt: skip
    assert sorted(alert.cause for alert in got) == ["large_request"] * 2 + ["unknown_price"] * 2
    (first, second) = world.heard.of(AlertsUndelivered)
    assert first.route.endswith("broken")
    assert "ValueError: large_request" in first.error
    assert second.count == 1


@pytest.mark.parametrize("kind", ["json", "slack", "teams"])
def test_hostile_labels_are_nothing_but_text_in_every_shape(world: World, kind: str) -> None:
    hooks = Hooks()

    async def play() -> None:
        async with hooks, world.guard(MANY, alerts=hooks.route(kind=kind)) as guard:
            await call(guard, LARGE, team=HOSTILE, model="acme-1")

    asyncio.run(play())
    (body,) = hooks.bodies()
    if kind == "json":
        assert body["labels"]["team"] == HOSTILE
        shown = [body["text"]]
    else:
        shown = texts_in(body)
        assert any("channel" in text for text in shown)
    assert all(text.isprintable() for text in shown)
    if kind == "slack":
        assert not re.search("[<>]|&(?!(amp|lt|gt);)", json.dumps(body))
        objects = [body["blocks"][0]["text"], *body["blocks"][1]["elements"]]
        assert {part["type"] for part in objects} == {"plain_text"}
        assert (body["mrkdwn"], body["unfurl_links"]) == (False, False)
    if kind == "teams":
        (attachment,) = body["attachments"]
        assert (body["type"], attachment["contentType"]) == ("message", "application/vnd.microsoft.card.adaptive")
        card = attachment["content"]
        assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
        assert {block["type"] for block in card["body"]} == {"RichTextBlock"}
        assert {run["type"] for block in card["body"] for run in block["inlines"]} == {"TextRun"}


def test_what_is_found_is_told_within_seconds_while_the_guard_goes_on(world: World) -> None:
    hooks = Hooks()

    async def play() -> None:
        async with hooks, world.guard(MANY, alerts=hooks.route()) as guard:
            await call(guard, LARGE, agent="a")
            await until(lambda: hooks.requests, "the alert is posted")
            assert [alert.cause for alert in world.heard.of(AlertRaised)] == ["large_request"]

    asyncio.run(play())
    assert hooks.causes() == ["large_request"]
