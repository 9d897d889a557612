"""What passes unguarded, what is refused; and that no key and no prompt is told by anything that the guard leaves."""

from __future__ import annotations

import asyncio
import json
import logging
import tomllib
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import partial
from typing import Any

import httpx
import httpx2
import openai
import pytest
from guard_kit import World, run_script
from store_kit import rows
from transport_kit import (
    ASKED,
    CHAT,
    HIDDEN,
    JSON,
    PLAIN,
    SSE,
    STREAMED,
    Heard,
    Play,
    Player,
    event,
    guard_of,
    heard,
    heard_sync,
    ledger_rows,
    only_row,
    request,
    word,
)  # fmt: skip

import budgetguard as bg
from budgetguard.events import Refused
from budgetguard.integrations.httpx import BudgetTransport
from budgetguard.subjects import NO_LABELS

UNKNOWN = "https://user:sk-canary-url@llm.example:8443/v9/think?key=sk-canary-query"
WORKED = Play([PLAIN], JSON)
FREE = [
    ("GET", "https://api.openai.com/v1/models"), ("POST", "https://api.openai.com/v1/moderations"),
    ("POST", "https://api.anthropic.com/v1/messages/count_tokens"), ("DELETE", "https://api.openai.com/v1/responses/r"),
    ("POST", "https://generativelanguage.googleapis.com/v1beta/models/m:countTokens"),
]  # fmt: skip


def once(
    world: World, way: str, sent: Any, play: Play = WORKED, labels: Mapping[str, str] = NO_LABELS, **options: Any
) -> tuple[Heard, Player]:
    guard, player = world.guard("1M tokens/day", **options), Player(play)
    transport = BudgetTransport(guard, player, **labels)

    async def main() -> Heard:
        async with guard:
            return await heard(transport, sent)

    if way == "async":
        return asyncio.run(main()), player
    outcome = heard_sync(transport, sent)
    guard.sync.close()
    return outcome, player


BOTH_WAYS = pytest.mark.parametrize("way", ["async", "sync"])


@BOTH_WAYS
@pytest.mark.parametrize(
    "url",
    [
        UNKNOWN, UNKNOWN.replace("/v9/think", "/messages"), "https://api.openai.com/v1/images/generations",
        "https://api.openai.com/messages",
    ],
)  # fmt: skip
def test_an_api_that_is_not_known_is_refused_with_what_to_write_and_not_sent(world: World, way: str, url: str) -> None:
    outcome, player = once(world, way, request(ASKED, url))
    assert isinstance(outcome.error, bg.UnguardedApi) and isinstance(outcome.error, openai.OpenAIError)
    text, place = str(outcome.error), httpx2.URL(url)
    assert text.startswith(f"POST {place.path} at {place.netloc.decode()} is no") and "canary" not in text
    assert 'on_unknown_api = "pass"' in text and 'settings=bg.GuardSettings(on_unknown_api="pass")' in text
    assert ("[[host]]" in text) == ("llm.example:8443/messages" in url), "to declare the host would not help elsewhere"
    assert ("guard.reserve(estimate=" in text) != ("[[host]]" in text)
    assert (player.requests, ledger_rows(world) if world.path.exists() else []) == ([], [])


@BOTH_WAYS
@pytest.mark.parametrize("mode", ["enforce", "shadow"])
def test_what_is_refused_for_its_api_is_told_and_counted_and_nothing_is_where_it_passes(
    world: World, way: str, mode: Any
) -> None:
    with bg.acting_as(agent="crawler"):
        outcome, _ = once(world, way, request(ASKED, UNKNOWN), labels={"team": "search"}, mode=mode)
    told = [(event.cause, event.subject, event.violations) for event in world.heard.of(Refused)]
    if mode == "shadow":
        assert (outcome.error, told) == (None, [])
    else:
        assert told == [("UnguardedApi", {"team": "search", "agent": "crawler"}, ())]
        assert rows(world.path, "SELECT mode, cause, team, agent, calls FROM refusals") == [
            ("enforce", "UnguardedApi", "search", "crawler", 1)
        ]


def test_it_is_counted_at_the_exit_of_a_process_that_did_nothing_else(world: World) -> None:
    done = run_script(f"""
import sys
import httpx2
import budgetguard as bg
from budgetguard.integrations.httpx import BudgetTransport
guard = bg.Guard("1M tokens/day", store="sqlite:///{world.path.name}")
client = httpx2.Client(transport=BudgetTransport(guard, httpx2.HTTPTransport()))
try:
    client.post({UNKNOWN!r})
except bg.UnguardedApi:
    sys.exit(7)
""", world.path.parent)  # fmt: skip
    assert done.returncode == 7
    assert rows(world.path, "SELECT cause, calls FROM refusals") == [("UnguardedApi", 1)]


def test_what_is_refused_for_its_host_is_guarded_once_the_host_is_declared_as_told(world: World) -> None:
    sent = request(ASKED, "https://llm.example:8443/messages")
    refused, _ = once(world, "sync", sent)
    text = str(refused.error)
    lines = tomllib.loads(text[text.index("[[host]]") :].replace("...", "acme"))["host"]
    code = text[text.index("bg.Host(") : text.index("], or in the TOML")].replace("...", "acme")
    host = eval(code, {"bg": bg})  # noqa: S307 - our own text
    assert [bg.Host(**entry) for entry in lines] == [host]
    outcome, player = once(world, "sync", sent, hosts=[host])
    assert (outcome.error, len(player.requests), len(ledger_rows(world))) == (None, 1, 1)


def test_of_a_path_that_is_declared_in_vain_the_host_is_not_asked_for_again(world: World) -> None:
    url = "https://llm.example:8443/v1/images/generations"
    outcome, _ = once(world, "sync", request(ASKED, url), hosts=[bg.Host("llm.example:8443", "acme", "openai")])
    assert isinstance(outcome.error, bg.UnguardedApi) and "guard.reserve(" in str(outcome.error)


@BOTH_WAYS
@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("https://api.openai.com/v1/files", {}), ("https://api.openai.com/v1/chat/completions", {"mode": "off"}),
        (UNKNOWN, {"settings": bg.GuardSettings(on_unknown_api="pass")}),
    ],
)  # fmt: skip
def test_the_body_of_what_passes_unguarded_is_not_read(world: World, way: str, url: str, options: Any) -> None:
    def upload() -> Iterator[bytes]:
        raise AssertionError("it was read before it was sent")
        yield b""

    async def upload_async() -> AsyncIterator[bytes]:
        raise AssertionError("it was read before it was sent")
        yield b""

    sent = httpx2.Request("POST", url, content=upload() if way == "sync" else upload_async())
    outcome, player = once(world, way, sent, **options)
    assert (outcome.error, player.requests) == (None, [sent])


def test_a_client_is_not_told_to_state_the_cost_of_its_call_itself(world: World) -> None:
    guard, player = guard_of(world, "$5/day"), Player(WORKED)
    outcome = heard_sync(BudgetTransport(guard, player), request({**ASKED, "model": "gpt-9"}))
    with pytest.raises(bg.PriceUnknown, match="cost_usd"):
        guard.sync.run(partial(guard.reserve, model="gpt-9", estimate=bg.Usage(1, 1)))
    guard.sync.close()
    assert isinstance(outcome.error, bg.PriceUnknown) and player.requests == []
    assert "cost_usd" not in str(outcome.error)
    assert 'prices=[bg.Price(\'gpt-9\', {"input": "DOLLARS", "output": "DOLLARS"})]' in str(outcome.error)


@BOTH_WAYS
@pytest.mark.parametrize("options", [{"settings": bg.GuardSettings(on_unknown_api="pass")}, {"mode": "shadow"}])
def test_it_passes_untouched_and_without_a_row_where_the_policy_says_so_and_in_shadow(
    world: World, way: str, options: Any
) -> None:
    outcome, player = once(world, way, sent := request(ASKED, UNKNOWN), **options)
    assert (outcome.passed, outcome.error, player.requests) == (PLAIN, None, [sent])
    assert not world.path.exists() or ledger_rows(world) == []


@BOTH_WAYS
@pytest.mark.parametrize(("method", "url"), FREE)
def test_what_is_free_passes_untouched_and_without_a_row(world: World, way: str, method: str, url: str) -> None:
    sent = httpx2.Request(method, url, content=b"" if method != "POST" else json.dumps(ASKED).encode())
    outcome, player = once(world, way, sent)
    assert (outcome.passed, player.requests) == (PLAIN, [sent])
    assert not world.path.exists() or ledger_rows(world) == []


@BOTH_WAYS
@pytest.mark.parametrize("url", ["https://api.openai.com/v1/chat/completions", UNKNOWN])
def test_in_mode_off_all_passes_untouched(world: World, way: str, url: str) -> None:
    outcome, player = once(world, way, sent := request(HIDDEN, url), Play(CHAT), mode="off")
    assert (outcome.passed, player.requests) == (b"".join(CHAT), [sent])
    assert not world.path.exists() or ledger_rows(world) == []


def test_a_declared_host_is_guarded(world: World) -> None:
    player = Player(WORKED)
    text = f'[store]\nurl = "sqlite:///{world.path}"\n[[budget]]\nname = "all"\nlimits = ["1M tokens/day"]\n'
    text += '[[host]]\nname = "llm.example:8443"\nprovider = "acme"\napi = "openai"\n'
    file = world.path.parent / "budgetguard.toml"
    file.write_text(text, encoding="utf-8")

    async def main() -> None:
        async with bg.Guard.from_toml(file) as guard:
            await heard(BudgetTransport(guard, player), request(ASKED, "https://llm.example:8443/chat/completions"))

    asyncio.run(main())
    assert ledger_rows(world)[0]["total_tokens"] == 570


@BOTH_WAYS
def test_a_refused_call_is_not_sent(world: World, way: str) -> None:
    guard, player = guard_of(world, "10 tokens/day"), Player(WORKED)

    async def main() -> Heard:
        async with guard:
            return await heard(BudgetTransport(guard, player), request(ASKED))

    if way == "async":
        outcome = asyncio.run(main())
    else:
        outcome = heard_sync(BudgetTransport(guard, player), request(ASKED))
        guard.sync.close()
    assert isinstance(outcome.error, bg.BudgetExceeded) and player.requests == []


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_clients_of_both_libraries_get_the_answers_of_their_library(world: World, library: Any) -> None:
    async def main() -> None:
        async with guard_of(world) as guard:
            player: Any = BudgetTransport(guard, Player(WORKED, library=library))
            async with library.AsyncClient(transport=player) as client:
                response = await client.post("https://api.openai.com/v1/chat/completions", json=ASKED)
                assert response.json() == json.loads(PLAIN) and type(response) is library.Response

    asyncio.run(main())
    assert only_row(world)["total_tokens"] == 570


SECRET = "canary-8f3a"
"""In the key, the prompt, the headers, the query and the answers of the calls below."""
SAYS = {"error": {"message": f"Incorrect API key provided: sk-{SECRET}", "type": f"bad key {SECRET}", "code": [SECRET]}}
TELLING = [
    Play([PLAIN.replace(b"Hello", SECRET.encode())], {**JSON, "x-request-id": SECRET}),
    Play([json.dumps(SAYS).encode()], JSON, 401), Play([json.dumps(SAYS).encode()], JSON, 500),
    Play([json.dumps(SAYS).encode()], JSON), Play([word(SECRET), event(SAYS)]), Play([word(SECRET)]),
    Play([SECRET.encode()], SSE), Play([word(SECRET)], ending=httpx2.ReadError(f"reset {SECRET}")),
    Play(before=httpx2.ConnectError(f"https://user:{SECRET}@host")), Play(before=httpx2.ReadTimeout(SECRET)),
    Play(before=RuntimeError(SECRET)),
]  # fmt: skip


def test_no_key_and_no_text_is_in_a_log_a_row_an_event_or_an_error_of_the_guard(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    found: list[Any] = []

    def asks(limit: str) -> bg.Guard:
        return guard_of(world, limit)

    async def main() -> None:
        for limit in ("1M tokens/day", "10 tokens/day"):
            async with asks(limit) as guard:
                for play in TELLING:
                    for url in (f"https://api.openai.com/v1/chat/completions?key={SECRET}", f"{UNKNOWN}&k={SECRET}"):
                        sent = request(asked(STREAMED), url)
                        sent.headers["authorization"] = f"Bearer sk-{SECRET}"
                        sent.headers["x-api-key"] = SECRET
                        outcome = await heard(transport := BudgetTransport(guard, Player(play)), sent)
                        found.extend([repr(guard), repr(transport).replace(repr(transport._inner), "")])
                        if isinstance(outcome.error, bg.BudgetGuardError):
                            found.append(f"{outcome.error!r} {outcome.error} {vars(outcome.error)}")

    def asked(body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "messages": [{"role": "user", "content": SECRET}], "user": SECRET, "metadata": {"a": SECRET}}

    asyncio.run(main())
    found += [repr(event) for event in world.heard.events]
    found += [json.dumps(world.dump(), default=repr), caplog.text]
    found += [repr(vars(record)) for record in caplog.records]
    assert len(ledger_rows(world)) > 5 and len(found) > 50
    assert [text for text in found if SECRET in text] == []
