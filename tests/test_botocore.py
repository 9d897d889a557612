"""`guard.wrap` for boto3's Bedrock client: what it returns is the same, and the ledger holds what was used."""

from __future__ import annotations

import gc
import json
from typing import Any
from urllib.parse import unquote

import pytest
from frames_kit import aws_event
from guard_kit import LossyStore, World
from replay_kit import JSON, Replay, Reply, json_reply, recorded
from sdk_kit import closing, ledger_rows
from wire_kit import Exchange, exchanges
from wire_truth import counts_of, in_ledger, stream_of

import budgetguard as bg
from budgetguard.events import Refused

boto3 = pytest.importorskip("boto3")
from botocore.auth import SigV4Auth  # noqa: E402 - boto3 brings it
from botocore.awsrequest import AWSRequest  # noqa: E402
from botocore.config import Config  # noqa: E402
from botocore.credentials import Credentials  # noqa: E402
from botocore.exceptions import ClientError, EndpointConnectionError  # noqa: E402
from botocore.parsers import ResponseParserError  # noqa: E402

LIMIT = "100M tokens/day"
EVENTS = {"content-type": "application/vnd.amazon.eventstream"}
ASKED = {"modelId": "amazon.nova-lite-v1:0", "messages": [{"role": "user", "content": [{"text": "Say hello."}]}]}
CONVERSED = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Hello!"}]}}, "stopReason": "end_turn",
    "usage": {"inputTokens": 500, "outputTokens": 100, "totalTokens": 600}, "metrics": {"latencyMs": 1},
}  # fmt: skip


def bedrock(url: str, **config: Any) -> Any:
    """A client of a server; botocore's own retries are as they are by default, unless they are set."""
    return boto3.client(
        "bedrock-runtime", region_name="us-east-1", endpoint_url=url, aws_access_key_id="canary-id",
        aws_secret_access_key="canary-key", config=Config(parameter_validation=False, **config),
    )  # fmt: skip


def replayed(row: Exchange) -> Reply:
    body = stream_of(row)
    return recorded(row, body)


def told(client: Any, row: Exchange) -> Any:
    """What a client says to a recorded request: the answer with all its events, or the error."""
    request = row["request"] or {"path": f"/model/{row['model'] or 'some-model'}/{row['api']}", "json": {}}
    model, body = unquote(request["path"].split("/")[2]), request.get("json") or {}
    try:
        if row["api"] == "converse":
            asked = {"messages": [], **body, "modelId": model}
            return _read(client.converse_stream(**asked) if row["stream"] else client.converse(**asked))
        asked = {"modelId": model, "body": json.dumps(body)}
        streams = row["stream"]
        return _read(client.invoke_model_with_response_stream(**asked) if streams else client.invoke_model(**asked))
    except ClientError as error:
        return str(error), {**error.response, "ResponseMetadata": None}
    except ResponseParserError as error:
        return type(error), str(error)


def _read(found: Any) -> Any:
    del found["ResponseMetadata"]["HTTPHeaders"]["date"]
    if "stream" in found:
        return {**found, "stream": list(found["stream"])}
    body = found.get("body")
    if body is None:
        return found
    events = body.read() if hasattr(body, "read") else list(body)
    return {**found, "body": events}


@pytest.mark.parametrize("api", ["converse", "invoke"])
def test_recorded_answers_are_the_same_and_the_ledger_holds_their_truth(api: str, world: World) -> None:
    rows = exchanges(api)
    with Replay(*(replayed(rows[0]),)) as server, closing(world.guard(LIMIT)) as guard:
        plain = bedrock(server.url, retries={"total_max_attempts": 1})
        client = guard.wrap(plain, team="search")
        assert type(client) is type(plain)
        stated = seen = 0
        for row in rows:
            server.replies.clear()
            server.replies.append(lambda _, row=row: replayed(row)._replace(headers=with_date(replayed(row))))
            assert told(client, row) == told(plain, row), row["id"]
            added = ledger_rows(world, seen)
            seen += len(added)
            expected = in_ledger(row)
            if expected is None:
                assert all(found["usage_source"] != "reported" for found in added), row["id"]
                assert len(added) == (0 if 400 <= row["response"]["status"] < 500 else 1), row["id"]
                continue
            stated += 1
            (found,) = added
            assert counts_of(found) == expected, row["id"]
            assert (found["usage_source"], found["team"], found["model"]) == (
                "reported", "search", unquote(server.asked[-1].target.split("/")[2]),
            )  # fmt: skip
        assert stated > 30 and world.reserved() == 0


def with_date(reply: Reply) -> dict[str, str]:
    return {**reply.headers, "date": "Sun, 22 Nov 2026 12:00:00 GMT"}


def converse_events(words: int) -> list[bytes]:
    """The events of a streamed conversation."""
    usage = {"usage": CONVERSED["usage"], "metrics": {"latencyMs": 1}}
    events = [
        ({"role": "assistant"}, "messageStart"),
        ({"delta": {"text": "hello "}, "contentBlockIndex": 0}, "contentBlockDelta"),
        ({"stopReason": "end_turn"}, "messageStop"),
        (usage, "metadata"),
    ]
    start, delta, *end = (aws_event(json.dumps(payload).encode(), name) for payload, name in events)
    return [start, *[delta] * words, *end]


def test_the_one_given_stays_as_it_is_and_shares_its_connections(world: World) -> None:
    with Replay(json_reply(CONVERSED)) as server, closing(world.guard(LIMIT)) as guard:
        plain = bedrock(server.url)
        endpoint, session = plain._endpoint, plain._endpoint.http_session
        client = guard.wrap(plain)
        client.converse(**ASKED)
        plain.converse(**ASKED)
        assert (plain._endpoint, plain._endpoint.http_session) == (endpoint, session)
        assert (world.statuses(), server.accepted) == (["settled"], 1)
        assert client.meta.endpoint_url == plain.meta.endpoint_url
        assert client.can_paginate("list_async_invokes") and client.exceptions is not None
        with pytest.raises(TypeError, match="guarded already"):
            guard.wrap(client)
        client.close()


def test_clients_of_other_services_are_refused_by_name(world: World) -> None:
    with closing(world.guard(LIMIT)) as guard:
        for service in ("bedrock", "s3"):
            other = boto3.client(service, region_name="us-east-1", endpoint_url="http://127.0.0.1:9")
            with pytest.raises(TypeError, match=f"takes bedrock-runtime, not {service}"):
                guard.wrap(other)


@pytest.mark.parametrize("verb", ["converse", "converse_stream"])
def test_a_refusal_is_told_at_once(verb: str, world: World) -> None:
    with Replay(json_reply(CONVERSED)) as server, closing(world.guard("10 tokens/day")) as guard:
        client = guard.wrap(bedrock(server.url, retries={"mode": "standard", "total_max_attempts": 5}))
        with pytest.raises(bg.BudgetExceeded, match="default refused this call"):
            getattr(client, verb)(**ASKED)
        assert (len(world.heard.of(Refused)), server.asked, world.reserved()) == (1, [], 0)
    away = LossyStore(world.store())
    away.refused.add("reserve")
    with Replay(json_reply(CONVERSED)) as server, closing(world.guard(LIMIT, store=away)) as guard:
        with pytest.raises(bg.StoreAway):
            getattr(guard.wrap(bedrock(server.url)), verb)(**ASKED)
        assert server.asked == []


def test_what_botocore_sends_again_has_a_row_for_each_attempt_and_one_operation(world: World) -> None:
    busy = Reply(b'{"message": "try later"}', {**JSON, "x-amzn-errortype": "InternalServerException"}, 500)
    with Replay(busy, json_reply(CONVERSED)) as server, closing(world.guard(LIMIT)) as guard:
        guard.wrap(bedrock(server.url)).converse(**ASKED)
        first, second = ledger_rows(world)
        assert (first["error_type"], second["status"], len(server.asked)) == ("http_500", "settled", 2)
        assert first["operation_id"] == second["operation_id"] == first["reservation_id"]
        assert counts_of(second)[:2] == (500, 100)


def test_a_connection_that_never_stood_is_released(world: World) -> None:
    with closing(world.guard(LIMIT)) as guard:
        client = guard.wrap(bedrock("http://127.0.0.1:9", retries={"total_max_attempts": 1}))
        with pytest.raises(EndpointConnectionError):
            client.converse(**ASKED)
        assert (world.statuses(), world.reserved(), world.states()) == ([], 0, ["released"])


def test_the_bound_that_the_guard_writes_into_a_request_is_signed_with_it(world: World) -> None:
    settings = bg.GuardSettings(inject_max_tokens=True)
    with Replay(json_reply(CONVERSED)) as server, closing(world.guard(LIMIT, settings=settings)) as guard:
        client = guard.wrap(bedrock(server.url))
        client.converse(**ASKED)
        asked = server.asked[0]
        assert asked.json["inferenceConfig"]["maxTokens"] > 0
        signed = AWSRequest("POST", server.url + asked.target, data=asked.body)
        signed.context["timestamp"] = signed.headers["X-Amz-Date"] = asked.headers["x-amz-date"]
        names = asked.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
        for name in set(names) - {"x-amz-date"}:
            signed.headers[name] = asked.headers[name]
        signer = SigV4Auth(Credentials("canary-id", "canary-key"), "bedrock", "us-east-1")
        signature = signer.signature(signer.string_to_sign(signed, signer.canonical_request(signed)), signed)
        assert asked.headers["authorization"].endswith(f"Signature={signature}")


@pytest.mark.filterwarnings("ignore:Exception ignored in.*socket:pytest.PytestUnraisableExceptionWarning")  # it is left
@pytest.mark.parametrize("left", ["closed", "dropped"])
def test_a_stream_that_is_left_is_settled_at_what_had_come(left: str, world: World) -> None:
    with Replay(Reply(converse_events(400), EVENTS)) as server, closing(world.guard(LIMIT)) as guard:
        found = guard.wrap(bedrock(server.url)).converse_stream(**ASKED)
        events = iter(found["stream"])
        assert "messageStart" in next(events)
        for _ in range(20):
            assert "contentBlockDelta" in next(events)
        if left == "closed":
            found["stream"].close()
        del found, events
        gc.collect()
        guard.sync.status()  # what is under way in the portal's loop is done when it answers
        guard.sync.close()
        (row,) = ledger_rows(world)
        assert (row["usage_source"], world.reserved()) == ("counted", 0)
        assert 20 <= row["completion_tokens"] <= 420


def test_a_stream_that_breaks_off_is_settled_at_what_had_come_and_raises_what_it_would(world: World) -> None:
    with Replay(Reply(converse_events(400)[:50], EVENTS, cut=True)) as server, closing(world.guard(LIMIT)) as guard:
        plain = bedrock(server.url)
        errors = []
        for client in (plain, guard.wrap(plain)):
            with pytest.raises(Exception, match=r".") as info:
                list(client.converse_stream(**ASKED)["stream"])
            errors.append(type(info.value))
        assert errors[0] is errors[1]
        (row,) = ledger_rows(world)
        assert (row["usage_source"], row["status"], world.reserved()) == ("counted", "error", 0)
        assert 40 <= row["completion_tokens"] <= 120


def test_a_stream_that_a_budget_stops_ends_with_the_refusal_after_what_was_paid_for(world: World) -> None:
    settings = bg.GuardSettings(on_stream_exceed="stop")
    asked = {**ASKED, "inferenceConfig": {"maxTokens": 20}}
    events = converse_events(3_000)
    chunks = [b"".join(events[start : start + 20]) for start in range(0, 3_000, 20)]
    with Replay(Reply(chunks, EVENTS)) as server, closing(world.guard("900 tokens/day", settings=settings)) as guard:
        seen: list[Any] = []
        stream = guard.wrap(bedrock(server.url)).converse_stream(**asked)["stream"]
        with pytest.raises(bg.BudgetExceeded):
            seen.extend(event for event in stream)
        (row,) = ledger_rows(world)
        assert (row["usage_source"], row["error_type"], world.reserved()) == ("counted", "BudgetExceeded", 0)
        assert 20 < row["completion_tokens"] < 1_000


READS: dict[str, Any] = {
    "read": lambda body: body.read(),
    "read in parts": lambda body: b"".join(iter(lambda: body.read(7), b"")),
    "chunks": lambda body: b"".join(body.iter_chunks(5)),
    "lines": lambda body: b"".join(body.iter_lines(chunk_size=3)),
    "readlines": lambda body: b"".join(body.readlines()),
    "readinto": lambda body: body.readinto(bytearray(10_000)) and body.read(),
    "with": lambda body: body.__enter__().read(),
}


@pytest.mark.parametrize("how", READS)
def test_a_body_is_observed_however_it_is_read(how: str, world: World) -> None:
    said = {"usage": {"input_tokens": 500, "output_tokens": 100}, "content": []}
    with Replay(json_reply(said)) as server, closing(world.guard(LIMIT)) as guard:
        asked = {"modelId": "anthropic.claude-v2", "body": '{"messages": [], "max_tokens": 9}'}
        plain = bedrock(server.url)
        wanted = READS[how](plain.invoke_model(**asked)["body"])
        assert READS[how](guard.wrap(plain).invoke_model(**asked)["body"]) == wanted
        (row,) = ledger_rows(world)
        assert (*counts_of(row)[:2], row["usage_source"]) == (500, 100, "reported")


def test_a_body_that_is_closed_unread_is_settled_by_a_guess(world: World) -> None:
    with Replay(json_reply(CONVERSED)) as server, closing(world.guard(LIMIT)) as guard:
        found = guard.wrap(bedrock(server.url)).invoke_model(modelId="amazon.nova-lite-v1:0", body="{}")
        assert world.held() == 1
        found["body"].close()
        (row,) = ledger_rows(world)
        assert (row["status"], row["usage_source"], world.held()) == ("assumed", "estimate", 0)


def test_calls_inside_a_hold_share_it(world: World) -> None:
    with Replay(json_reply(CONVERSED)) as server, closing(world.guard(LIMIT)) as guard:
        client = guard.wrap(bedrock(server.url), team="search")
        with guard.sync.reserve(team="search", estimate=bg.Usage(2_000, 8_000)):
            client.converse(**ASKED)
            client.converse(**ASKED)
        (row,) = ledger_rows(world)
        assert counts_of(row)[:2] == (1_000, 200)
