"""`guard.wrap` for the SDKs' clients of other platforms, which sign requests or log in, and for those on httpx."""

from __future__ import annotations

from typing import Any

import pytest
from guard_kit import World
from replay_kit import Replay
from sdk_kit import SDKS, Sdk, anthropic, closing, openai

LIMIT = "9k tokens/day"


@pytest.mark.parametrize("kind", ["AnthropicBedrock", "AnthropicVertex"])
@pytest.mark.parametrize("prefix", ["", "Async"])
def test_the_sdks_other_platforms_are_guarded(kind: str, prefix: str, world: World) -> None:
    pytest.importorskip({"AnthropicBedrock": "botocore", "AnthropicVertex": "google.auth"}[kind])
    options: dict[str, dict[str, Any]] = {
        "AnthropicBedrock": {"aws_region": "us-east-1", "aws_access_key": "canary-id", "aws_secret_key": "canary-key"},
        "AnthropicVertex": {"region": "global", "project_id": "acme", "access_token": "canary-key"},
    }
    sdk = next(found for found in SDKS if found.kind is getattr(anthropic, f"{prefix}Anthropic"))
    with Replay(sdk.plain) as server, closing(world.guard(LIMIT)) as guard:
        original = getattr(anthropic, prefix + kind)(base_url=server.url, **options[kind])
        client = guard.wrap(original)
        assert isinstance(client, type(original))
        assert sdk.text(sdk.create(client)) == "Hello!"
        assert (world.spent(), world.statuses()) == (600, ["settled"])
        sdk.close(client)


def test_a_request_that_is_signed_is_sent_as_it_was_signed(world: World) -> None:
    """Its signature covers its headers, `accept-encoding` among them, and its body."""
    pytest.importorskip("botocore")
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    sdk = next(found for found in SDKS if found.kind is anthropic.Anthropic)
    with Replay(sdk.plain) as server, closing(world.guard(LIMIT)) as guard:
        original = anthropic.AnthropicBedrock(
            base_url=server.url, aws_region="us-east-1", aws_access_key="id", aws_secret_key="canary-key",
            default_headers={"accept-encoding": "gzip, br"},
        )  # fmt: skip
        sdk.create(guard.wrap(original))
        asked = server.asked[0]
        names = asked.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
        again = AWSRequest(
            "POST", server.url + asked.target, data=asked.body,
            headers={name: asked.headers[name] for name in names if name != "x-amz-date"},
        )  # fmt: skip
        again.context["timestamp"] = asked.headers["x-amz-date"]
        signer = SigV4Auth(Credentials("id", "canary-key"), "bedrock", "us-east-1")
        again.headers["X-Amz-Date"] = asked.headers["x-amz-date"]
        signature = signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)
        assert asked.headers["authorization"].endswith(f"Signature={signature}")
        original.close()


def test_clients_of_the_older_httpx_are_guarded_where_the_sdk_takes_them(world: World) -> None:
    httpx = pytest.importorskip("httpx")
    sdk = next(found for found in SDKS if found.kind is openai.OpenAI)
    with Replay(sdk.plain) as server, closing(world.guard(LIMIT)) as guard, httpx.Client() as http:
        client = guard.wrap(sdk.client(server.url, http_client=http))
        assert isinstance(client._client, httpx.Client)
        sdk.create(client)
        assert world.spent() == 600


@pytest.mark.parametrize("sdk", [sdk for sdk in SDKS if sdk.base is anthropic.AnthropicError], ids=["sync", "async"])
def test_a_client_that_logs_in_itself_does_so_when_wrapped_and_copied(sdk: Sdk, world: World) -> None:
    from anthropic.lib.credentials import AccessToken

    with Replay(sdk.plain) as server, closing(world.guard(LIMIT)) as guard:
        original = sdk.kind(credentials=lambda **_: AccessToken(token="canary", expires_at=None), base_url=server.url)
        client = guard.wrap(original).with_options(timeout=5).copy(max_retries=1)
        assert type(client) is type(original)
        sdk.create(client)
        assert server.asked[0].headers["authorization"] == "Bearer canary"
        assert world.spent() == 600
        sdk.close(client)
