"""What a recorded exchange says that it took, by another program than the readers (`usage_truth`), and its frames."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from frames_kit import aws_event
from wire_kit import Exchange, body_of

from budgetguard.usage import Usage
from budgetguard.wire.apis import Api, Kind
from budgetguard.wire.frames import Frame, frames_for
from budgetguard.wire.reports import Reported, StreamReport, reported

KINDS: dict[str, Kind] = {
    "chat": "chat", "completions": "completions", "responses": "responses", "responses_compact": "responses",
    "embeddings": "embeddings", "messages": "messages", "complete": "complete", "generateContent": "generateContent",
    "interactions": "interactions", "converse": "converse", "invoke": "invoke", "chat_v2": "cohere_chat",
    "chat_v1": "cohere_chat_v1", "rerank": "rerank", "native_chat": "ollama_chat", "native_generate": "ollama_generate",
}  # fmt: skip
EMBEDDINGS: dict[str, Kind] = {"gemini": "embedContent", "cohere": "cohere_embed"}


STREAMS = {
    "sse": "text/event-stream",
    "ndjson": "application/x-ndjson",
    "aws_eventstream": "application/vnd.amazon.eventstream",
    "json_array_stream": "application/json",
}


def api_of(row: Exchange) -> Api:
    """The API of an exchange, from what the recording calls it."""
    kind = EMBEDDINGS.get(row["provider"]) if row["api"] == "embeddings" else None
    return Api(kind or KINDS[row["api"]], row["provider"], row["model"])


def stream_of(row: Exchange) -> bytes:
    """The body of a recorded stream; three of Bedrock's are recorded without their framing, and get it again."""
    if "events" not in row["response"] or "body_b64" in row["response"]:
        return body_of(row)
    events = row["response"]["events"]
    return b"".join(aws_event(json.dumps(event["payload"]).encode(), event["event_type"]) for event in events)


def frames_of(row: Exchange) -> list[Frame]:
    """The frames of a recorded stream."""
    frames = frames_for(STREAMS[row["stream_format"]], api_of(row).kind, streams=True)
    assert frames is not None
    return [*frames.feed(stream_of(row)), *frames.end()]


def report_of(row: Exchange) -> StreamReport:
    """The report of a recorded stream."""
    report = StreamReport(api_of(row))
    for frame in frames_of(row):
        report.feed(frame)
    return report


def read(row: Exchange) -> Reported | None:
    """What the readers make of an exchange."""
    body = row["response"].get("json")
    if row["stream"] and row["stream_format"]:
        return report_of(row).reported
    return reported(api_of(row), body, row["response"]["headers"]) if isinstance(body, dict) else None


def told(said: Reported) -> tuple[int | Decimal | None, ...]:
    """Everything that is billed, whichever model took it, in the order of `truth`."""
    usages = [said.usage, *(usage for _, usage in said.others)]
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens")
    sums = (sum(getattr(usage, name) for usage in usages) for name in (*names, "reasoning_tokens"))
    return (*sums, said.usage.cost_usd)


def truth(row: Exchange) -> tuple[int | Decimal | None, ...]:
    """What was billed, as the recording states it; what it does not state is 0.

    Two kinds of it contradict themselves: a part above its whole is lowered to it (Grok on Azure, one free model).
    """
    said = row["usage_truth"]
    whole = said.get("iterations_sum") or said
    billed = said.get("billed_input") is not None
    entire = int(said["billed_input"] if billed else whole["input"] or 0)
    output = int((said["billed_output"] or 0) if billed else whole["output"] or 0)
    # Cohere caches tokens but bills units, and the recording leaves its reasoning out.
    read = 0 if billed else min(said["cached_input"] or 0, entire)
    tokens = said["raw"].get("tokens") or {}
    reasoning = min((tokens.get("reasoning_tokens") if billed else said["reasoning"]) or 0, output)
    return entire, output, read, said["cache_write"] or 0, said.get("cache_write_1h") or 0, reasoning, cost(said)


def cost(said: dict[str, Any]) -> Decimal | None:
    """What the body says that it cost: of a key of one's own what its owner pays upstream; of xAI its ticks."""
    raw = said["raw"]
    if raw.get("is_byok"):
        return Decimal(repr(raw["cost_details"]["upstream_inference_cost"])) + Decimal(repr(raw["cost"]))
    if raw.get("cost_in_usd_ticks"):
        return Decimal(raw["cost_in_usd_ticks"]) / 10**10
    return None if said.get("provider_cost") is None else Decimal(repr(said["provider_cost"]))


def usage_of(row: Exchange) -> Usage:
    """The truth as one usage."""
    return Usage(*truth(row))  # type: ignore[arg-type]  # the counts, and the cost last


def elsewhere(row: Exchange) -> tuple[int, int] | None:
    """The input and output that an exchange states where the recording did not look."""
    headers, body = row["response"]["headers"], row["response"].get("json") or {}
    counts = [headers.get(f"x-amzn-bedrock-{side}-token-count") for side in ("input", "output")]
    if counts[0] is not None:
        return int(counts[0]), int(counts[1] or 0)
    prompt = body.get("usageMetadata", {}).get("promptTokenCount")
    return None if row["api"] != "embeddings" or prompt is None else (prompt, 0)


def in_ledger(row: Exchange) -> tuple[int, ...] | None:
    """The counts that the ledger must hold of an exchange, in the order of `counts_of`; None where it states none."""
    if row["truth_kind"] == "reported":
        return tuple(int(count or 0) for count in (*truth(row)[:4], truth(row)[5]))
    found = elsewhere(row) if row["truth_kind"] == "absent" else None
    return None if found is None else (*found, 0, 0, 0)


def counts_of(row: dict[str, Any]) -> tuple[int, ...]:
    """The counts of a row of the ledger: input, output, cache reads, cache writes, reasoning."""
    names = ("prompt_tokens", "completion_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
    return tuple(row[name] for name in names)
