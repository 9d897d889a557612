"""The OpenAI SDK of the major version before, which is on httpx: installed beside, and used in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from guard_kit import run_script
from replay_kit import Replay, json_reply, sse_reply
from sdk_kit import CHAT, chat_chunks

pytestmark = [pytest.mark.long]

SCRIPT = """
import asyncio, pickle, sys
import httpx, openai
import budgetguard as bg

url, limit = sys.argv[1:]
assert openai.__version__.startswith("2."), openai.__version__
MESSAGES = [{"role": "user", "content": "Say hello."}]
asked = {"model": "acme-1", "messages": MESSAGES, "max_tokens": 20}
guard = bg.Guard(limit, store="sqlite:///budgets.db")

def told(error):
    assert isinstance(error, bg.BudgetExceeded) and isinstance(error, openai.OpenAIError), type(error).__mro__
    assert error.status_code == 429 and error.violations
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    print("refused")

def sync():
    original = openai.OpenAI(api_key="k", base_url=url, max_retries=5)
    with guard.wrap(original).with_options(timeout=9) as client:
        assert type(client._client).__mro__[1] is type(original._client) and isinstance(client._client, httpx.Client)
        for stream in (False, True):
            try:
                found = client.chat.completions.create(**asked, stream=stream)
                print(len(list(found)) if stream else found.choices[0].message.content)
            except openai.OpenAIError as error:
                told(error)
        for resource in (client.responses, client.realtime, client.beta.responses):
            try:
                resource.connect()
            except bg.UnguardedApi:
                print("closed")

async def main():
    async with guard.wrap(openai.AsyncOpenAI(api_key="k", base_url=url, max_retries=5)) as client:
        for stream in (False, True):
            try:
                found = await client.chat.completions.create(**asked, stream=stream)
                print(len([event async for event in found]) if stream else found.choices[0].message.content)
            except openai.OpenAIError as error:
                told(error)
    print([row.spent for row in await guard.status()])
    await guard.aclose()

sync()
asyncio.run(main())
guard.sync.close()
"""


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the older SDK in it, which goes before the installed one; its dependencies are the same."""
    pytest.importorskip("httpx")
    folder = tmp_path_factory.mktemp("openai2")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), "openai>=2,<3"]
    try:
        done = subprocess.run(
            [*command, "--retries", "0", "--timeout", "10"], capture_output=True, timeout=120, check=False
        )
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode:
        pytest.skip("needs pip, and an index to install openai 2 from")
    return folder


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("9k tokens/day", ["Hello!", "5", "closed", "closed", "closed", "Hello!", "5", "[2400]"]),
        ("10 tokens/day", ["refused", "refused", "closed", "closed", "closed", "refused", "refused", "[0]"]),
    ],
)
def test_it_is_guarded_and_refused_alike(limit: str, said: list[str], beside: Path, tmp_path: Path) -> None:
    plain, stream = json_reply(CHAT), sse_reply(*chat_chunks(5))
    with Replay(lambda asked: stream if asked.json.get("stream") else plain) as server:
        env = {"PYTHONPATH": f"{beside}:{':'.join(sys.path)}"}
        done = run_script(SCRIPT, tmp_path, env, [server.url, limit])
        assert done.returncode == 0, done.stderr
        assert done.stdout.split("\n")[:-1] == said
        assert len(server.asked) == said.count("Hello!") * 2
