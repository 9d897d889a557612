"""Usage as Amazon Bedrock reports it: its own for converse, its vendors' for invoke.

- converse: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html
- invoke: https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html, and the headers
  `x-amzn-bedrock-*-token-count`; streams end with `amazon-bedrock-invocationMetrics`
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from budgetguard.core.amounts import check_amount
from budgetguard.wire.anthropic_usage import anthropic_counts
from budgetguard.wire.counts import Counts, consistent, count, get, whole
from budgetguard.wire.openai_usage import openai_counts

METRICS = "amazon-bedrock-invocationMetrics"
_HEADER = "x-amzn-bedrock-{}-token-count"


def converse_counts(usage: Any) -> Counts | None:
    """The counts of a converse (and Nova's) usage, whose input leaves out the cache; None without input or output.

    Raises:
        InvalidAmount: a count is none; names the field.
    """
    if get(usage, "inputTokens") is None or get(usage, "outputTokens") is None:
        return None
    read = whole(usage, "cacheReadInputTokens", "cacheReadInputTokenCount")
    write = whole(usage, "cacheWriteInputTokens", "cacheWriteInputTokenCount")
    details = get(usage, "cacheDetails")
    hour = sum(whole(part, "inputTokens") for part in details if get(part, "ttl") == "1h") if _many(details) else 0
    entire = count(usage, "inputTokens") + read + write
    return consistent(entire, count(usage, "outputTokens"), read, write, hour)


def invoke_counts(body: Any, headers: Mapping[str, str]) -> Counts | None:
    """The counts of a model that was invoked: its own usage, else the metrics of Bedrock, else those of the headers.

    Raises:
        InvalidAmount: a count is none; names the field.
    """
    usage = get(body, "usage") or get(get(body, "metadata"), "usage")
    return (
        (anthropic_counts(usage) if get(usage, "prompt_tokens") is None else openai_counts(usage))
        or converse_counts(usage)
        or _metrics(get(body, METRICS))
        or _native(body)
        or _of_headers(headers)
    )


def _metrics(metrics: Any) -> Counts | None:
    if get(metrics, "inputTokenCount") is None:
        return None
    read, write = whole(metrics, "cacheReadInputTokenCount"), whole(metrics, "cacheWriteInputTokenCount")
    return consistent(whole(metrics, "inputTokenCount") + read + write, whole(metrics, "outputTokenCount"), read, write)


def _native(body: Any) -> Counts | None:
    """Llama's and Titan's own fields; Titan's embeddings have no output."""
    if get(body, "prompt_token_count") is not None and get(body, "generation_token_count") is not None:
        return Counts(whole(body, "prompt_token_count"), whole(body, "generation_token_count"))
    if get(body, "inputTextTokenCount") is None:
        return None
    results = get(body, "results")
    answered = sum(whole(part, "tokenCount") for part in results) if _many(results) else 0
    return Counts(whole(body, "inputTextTokenCount"), answered or whole(body, "totalOutputTextTokenCount"))


def _of_headers(headers: Mapping[str, str]) -> Counts | None:
    if headers.get(_HEADER.format("input")) is None:
        return None
    entire, output, read, write = (
        _header(headers, _HEADER.format(name)) for name in ("input", "output", "cache-read-input", "cache-write-input")
    )
    return consistent(entire + read + write, output, read, write)


def _header(headers: Mapping[str, str], name: str) -> int:
    text = headers.get(name, "0")
    return check_amount(int(text) if text.isascii() and text.isdigit() and len(text) < 17 else text, name)


def _many(value: Any) -> bool:
    return isinstance(value, list | tuple)
