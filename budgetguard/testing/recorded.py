"""Recorded exchanges: which request gets which recorded reply, and how a line of a recording is read.

A line is JSON, one exchange: `request` {method, path, json}, `response` {status, headers, and one of `json`,
`sse_text`, `ndjson_text`, `text`, `body_b64` or `events`}, and, where they are known, `id`, `model`, `truth_kind`
("reported", "absent" or "error") with `usage_truth`: what was billed, as the body states it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from budgetguard.testing.http import HttpRequest, parts_of
from budgetguard.testing.reply import Reply, aws_event
from budgetguard.usage import Usage
from budgetguard.wire.frames import frames_for

_FORMATS = {
    "sse": "text/event-stream",
    "ndjson": "application/x-ndjson",
    "aws_eventstream": "application/vnd.amazon.eventstream",
    "json_array_stream": "application/json",
}
_DECODED = frozenset(["content-encoding"])


class Recorded(NamedTuple):
    """A recorded exchange.

    Args:
        path: with the query.
        body: the request's JSON; None stands for any body.
    """

    method: str
    path: str
    body: Any
    reply: Reply


class Recordings:
    """Recorded exchanges, in the order in which they answer.

    A request fits if it asks for at least what the recorded one asked for: what a guard adds to it is let pass. Where
    it fits several, the one that asked for most answers; equal ones take turns.
    """

    def __init__(self) -> None:
        self._by_path: dict[tuple[str, str], list[Recorded]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_path.values()))

    def add(self, exchanges: Iterable[Recorded]) -> None:
        """Take more, behind those that are here."""
        for exchange in exchanges:
            self._by_path.setdefault((exchange.method, parts_of(exchange.path)[0]), []).append(exchange)

    def reply_to(self, request: HttpRequest) -> Reply | None:
        """The reply to a request, None if it was not recorded."""
        known = self._by_path.get((request.method, request.path), [])
        query = parts_of(request.target)[1]
        try:
            body = json.loads(request.body)
        except (ValueError, RecursionError):
            body = None
        fitting = [
            exchange
            for exchange in known
            if parts_of(exchange.path)[1] <= query and (exchange.body is None or _within(exchange.body, body))
        ]
        if not fitting:
            return None
        exchange = max(fitting, key=_asked_for)
        place = next(place for place, one in enumerate(known) if one is exchange)
        known.append(known.pop(place))
        return exchange.reply


def recorded_exchange(row: Mapping[str, Any]) -> Recorded:
    """The exchange of a line.

    Raises:
        ValueError: its request was not recorded.
    """
    request = row.get("request")
    if request is None:
        raise ValueError(f"the request of {row.get('id', 'this exchange')} was not recorded; use exchange_reply(row)")
    path = request["path"].rpartition(">")[2]  # what stood for a base URL
    return Recorded(request["method"], path, request.get("json"), exchange_reply(row))


def exchange_reply(row: Mapping[str, Any]) -> Reply:
    """The reply of a line; a stream is sent event by event. It bills what was billed, an error nothing."""
    response = row["response"]
    stream_format = row.get("stream_format")
    content_type = _FORMATS[stream_format] if stream_format else "application/json"
    headers = {name.lower(): value for name, value in response["headers"].items() if name.lower() not in _DECODED}
    headers.setdefault("content-type", content_type)
    whole = _body_of(response)
    body = _events_of(whole, content_type) if stream_format else whole
    billed: Any = "stated"
    if row.get("truth_kind") == "reported":
        billed = _billed(row["usage_truth"])
    elif response["status"] >= 400:
        billed = None
    model = row.get("response_model") or row.get("model") or ""
    return Reply(response["status"], headers, body, billed=billed, model=model, id=row.get("id", ""))


def _body_of(response: Mapping[str, Any]) -> bytes:
    if "body_b64" in response:
        return base64.b64decode(response["body_b64"])
    if "events" in response:
        return b"".join(aws_event(event["event_type"], event["payload"]) for event in response["events"])
    text = next((response[name] for name in ("sse_text", "ndjson_text", "text") if name in response), None)
    return (json.dumps(response["json"]) if text is None else str(text)).encode()


def _events_of(body: bytes, content_type: str) -> list[bytes]:
    frames = frames_for(content_type, "generateContent", streams=True)
    return [body] if frames is None else [frame.raw for frame in [*frames.feed(body), *frames.end()]]


def _billed(said: Mapping[str, Any]) -> Usage:
    """What was billed: all iterations, and of Cohere its billed units; a part lies inside its whole."""
    whole = said.get("iterations_sum") or said
    units = said.get("billed_input") is not None
    entire, output = (said["billed_input"], said["billed_output"]) if units else (whole["input"], whole["output"])
    entire, output = int(entire or 0), int(output or 0)
    read = 0 if units else min(said.get("cached_input") or 0, entire)
    tokens = said["raw"].get("tokens") or {}
    reasoning = min((tokens.get("reasoning_tokens") if units else said.get("reasoning")) or 0, output)
    writes = said.get("cache_write") or 0, said.get("cache_write_1h") or 0
    return Usage(entire, output, read, *writes, reasoning, _cost_usd(said))


def _cost_usd(said: Mapping[str, Any]) -> Decimal | None:
    """The cost that the body states: with a key of one's own what its owner pays upstream; of xAI its ticks."""
    raw = said["raw"]
    if raw.get("is_byok"):
        return Decimal(repr(raw["cost_details"]["upstream_inference_cost"])) + Decimal(repr(raw["cost"]))
    if raw.get("cost_in_usd_ticks"):
        return Decimal(raw["cost_in_usd_ticks"]) / 10**10
    return None if said.get("provider_cost") is None else Decimal(repr(said["provider_cost"]))


def _asked_for(exchange: Recorded) -> tuple[int, int]:
    """How much a recorded request asked for."""
    return 0 if exchange.body is None else len(json.dumps(exchange.body)), len(parts_of(exchange.path)[1])


def _within(recorded: Any, asked: Any) -> bool:
    """Whether what was recorded is in what is asked: every key of an object, lists item by item."""
    if isinstance(recorded, dict) and isinstance(asked, dict):
        return all(name in asked and _within(value, asked[name]) for name, value in recorded.items())
    if isinstance(recorded, list) and isinstance(asked, list):
        return len(recorded) == len(asked) and all(map(_within, recorded, asked))
    return bool(recorded == asked)
