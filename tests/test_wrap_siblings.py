"""SDKs on httpx by the maker of OpenAI's: Groq's and Together's, which retry any error; and HTTP clients of httpx."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from guard_kit import World, run_script
from replay_kit import Replay, json_reply, sse_reply
from sdk_kit import CHAT, Sdk, chat_chunks, closing, ledger_rows, loop

import budgetguard as bg
from budgetguard.events import Refused

groq = pytest.importorskip("groq")

PLAIN = json_reply(CHAT)
SDKS = [
    Sdk(kind, kind is groq.AsyncGroq, groq.GroqError, {}, PLAIN, lambda words: sse_reply(*chat_chunks(words)))
    for kind in (groq.Groq, groq.AsyncGroq)
]
each_sdk = pytest.mark.parametrize("sdk", SDKS, ids=[sdk.kind.__name__ for sdk in SDKS])
streamed = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
LIMIT = "9k tokens/day"


@each_sdk
@streamed
def test_a_call_of_a_wrapped_client_and_of_its_copies_is_settled_at_what_it_used(
    sdk: Sdk, stream: bool, world: World
) -> None:
    with Replay(sdk.stream(4) if stream else sdk.plain) as server, closing(world.guard(LIMIT)) as guard:
        client = guard.wrap(sdk.client(server.url, timeout=7.5), team="search")
        assert isinstance(client, sdk.kind) and client.timeout == 7.5
        assert sdk.create(client, stream=stream)
        own: Any = httpx.AsyncClient() if sdk.is_async else httpx.Client()
        copy = client.with_options(http_client=own)
        assert sdk.create(copy, stream=stream)
        rows = ledger_rows(world)
        assert [(row["total_tokens"], row["usage_source"], row["team"]) for row in rows] == [
            (600, "reported", "search")
        ] * 2
        assert world.reserved() == 0
        sdk.close(client)
        sdk.close(copy)


def client_on(sdk: Sdk, guard: bg.Guard, url: str, way: str) -> Any:
    """A client that would try six times, wrapped, or on a guarded HTTP client of any make."""
    if way == "wrap":
        return guard.wrap(sdk.client(url, max_retries=5))
    own: Any = httpx.AsyncClient() if sdk.is_async else httpx.Client()
    clients = {"http_clients": guard.http_clients(library="httpx")[sdk.is_async], "own": guard.wrap(own)}
    return sdk.client(url, max_retries=5, http_client=clients[way])


@each_sdk
@streamed
@pytest.mark.parametrize("way", ["wrap", "http_clients", "own"])
def test_a_refusal_is_told_at_the_first_attempt_as_both_types(sdk: Sdk, stream: bool, way: str, world: World) -> None:
    with Replay(sdk.plain) as server, closing(world.guard("10 tokens/day")) as guard:
        client = client_on(sdk, guard, server.url, way)
        with pytest.raises(groq.GroqError) as info:
            sdk.create(client, stream=stream)
        assert isinstance(info.value, bg.BudgetExceeded) and vars(type(info.value))["status_code"] == 429
        assert (len(world.heard.of(Refused)), server.asked, world.reserved()) == (1, [], 0)
        with pytest.raises(bg.UnguardedApi) as unknown:
            sdk.run(client.post("/v9/think", body={}, cast_to=object))
        assert isinstance(unknown.value, groq.GroqError) and server.asked == []
        sdk.close(client)


@each_sdk
def test_a_stream_that_a_budget_stops_ends_with_the_refusal(sdk: Sdk, world: World) -> None:
    with Replay(sdk.stream(3_000)) as server, closing(world.guard("900 tokens/day")) as guard:
        client = guard.wrap(sdk.client(server.url))
        seen: list[Any] = []
        with pytest.raises(bg.BudgetExceeded):
            sdk.read(client, seen)
        assert 20 < len(seen) < 1_000 and world.reserved() == 0
        sdk.close(client)


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_an_http_client_of_the_users_own_keeps_what_it_has_and_raises_refusals(library: Any, world: World) -> None:
    with Replay(PLAIN) as server, closing(world.guard("1 requests/day")) as guard:
        own = library.Client(base_url=server.url, headers={"x-own": "1"})
        with guard.wrap(own, team="search") as client:
            assert isinstance(client, library.Client)
            asked = {"model": "acme-1", "messages": [], "max_tokens": 20}
            assert client.post("/v1/chat/completions", json=asked).json() == CHAT
            with pytest.raises(bg.BudgetExceeded):
                client.post("/v1/chat/completions", json=asked)
            with pytest.raises(TypeError, match="guarded already"):
                guard.wrap(client)
        assert own.is_closed
        assert [seen.headers["x-own"] for seen in server.asked] == ["1"]
        assert [row["team"] for row in ledger_rows(world)] == ["search"]


def test_http_clients_are_of_the_library_that_is_asked_for(world: World) -> None:
    with closing(world.guard(LIMIT)) as guard:
        for name, library in (("httpx", httpx), ("httpx2", httpx2)):
            sync, concurrent = guard.http_clients(library=name, team="search")  # type: ignore[arg-type]
            alone = guard.http_client(library=name)  # type: ignore[arg-type]
            assert isinstance(sync, library.Client)
            assert isinstance(concurrent, library.AsyncClient) and isinstance(alone, library.AsyncClient)
            sync.close()
            loop().run(concurrent.aclose())
            loop().run(alone.aclose())
        with pytest.raises(bg.InvalidInput, match='"httpx2" or "httpx", not \'requests\''):
            guard.http_client(library="requests")  # type: ignore[arg-type]


def test_what_cannot_be_wrapped_is_told_what_to_do_with_its_sdk(world: World) -> None:
    with closing(world.guard(LIMIT)) as guard, pytest.raises(TypeError) as info:
        guard.wrap(object())
    assert 'guard.http_client(), with library="httpx"' in str(info.value)


TOGETHER = """
import asyncio, sys
import together
import budgetguard as bg

url, limit = sys.argv[1:]
asked = {"model": "acme-1", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 20}
guard = bg.Guard(limit, store="sqlite:///budgets.db")

def told(error):
    assert isinstance(error, bg.BudgetExceeded) and isinstance(error, together.TogetherError), type(error).__mro__
    print("refused")

with guard.wrap(together.Together(api_key="k", base_url=url, max_retries=5)).with_options(timeout=9) as client:
    for stream in (False, True):
        try:
            found = client.chat.completions.create(**asked, stream=stream)
            print(len(list(found)) if stream else found.choices[0].message.content)
        except together.TogetherError as error:
            told(error)
    for opener in (client.beta.realtime.connect, client.beta.realtime.transcription):
        try:
            opener(model="m")
        except bg.UnguardedApi:
            print("closed")

async def main():
    async with guard.wrap(together.AsyncTogether(api_key="k", base_url=url, max_retries=5)) as client:
        for stream in (False, True):
            try:
                found = await client.chat.completions.create(**asked, stream=stream)
                print(len([event async for event in found]) if stream else found.choices[0].message.content)
            except together.TogetherError as error:
                told(error)
    print([row.spent for row in await guard.status()])
    await guard.aclose()

asyncio.run(main())
guard.sync.close()
"""


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Together's SDK in it, which wants an older `rich` than the command line does."""
    folder = tmp_path_factory.mktemp("together")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder)]
    try:
        done = subprocess.run(
            [*command, "--retries", "0", "--timeout", "10", "together>=3.1", "detect-agent"],
            capture_output=True, timeout=120, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode:
        pytest.skip("needs pip, and an index to install together from")
    return folder


@pytest.mark.long
@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("9k tokens/day", ["Hello!", "4", "closed", "closed", "Hello!", "4", "[2400]"]),
        ("10 tokens/day", ["refused", "refused", "closed", "closed", "refused", "refused", "[0]"]),
    ],
)
def test_togethers_is_guarded_and_refused_alike(limit: str, said: list[str], beside: Path, tmp_path: Path) -> None:
    plain, stream = PLAIN, sse_reply(*chat_chunks(4))
    with Replay(lambda asked: stream if asked.json.get("stream") else plain) as server:
        done = run_script(TOGETHER, tmp_path, {"PYTHONPATH": f"{beside}:{':'.join(sys.path)}"}, [server.url, limit])
        assert done.returncode == 0, done.stderr
        assert done.stdout.split("\n")[:-1] == said
        assert len(server.asked) == said.count("Hello!") * 2
