"""What the fake provider answers to a chat request: decided by the request and a seed alone, without I/O.

Shapes follow OpenAI's chat completions API (platform.openai.com/docs/api-reference/chat).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

from budgetguard.testing.http import HttpFault, HttpRequest
from budgetguard.testing.reply import Reply, sse_event
from budgetguard.usage import Usage

BYTES_PER_TOKEN = 4
SHORTEST_ANSWER_TOKENS = 16
LONGEST_ANSWER_TOKENS = 128
OUTPUT_HINT = "x-output-tokens"
CREATED_S = 1_767_225_600  # every answer says the same instant, so that equal requests get equal answers
WORDS = ("all", "and", "are", "but", "can", "day", "for", "had", "has", "her", "his", "how", "its", "not", "now", "the")
"""Three letters and a space: a token each, by the rule of `count_tokens`."""


def count_tokens(text: str) -> int:
    """The fake provider's tokens in a text: its UTF-8 bytes divided by four, rounded up."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


def count_input_tokens(messages: list[dict[str, Any]]) -> int:
    """The tokens of a prompt: of each message's text, rounded up message by message; nothing else counts."""
    return sum(count_tokens(_text_of(message.get("content"))) for message in messages)


class Answer(NamedTuple):
    """The answer to one request: `choices` texts of `choice_tokens` each, `tokens` in all."""

    model: str
    input_tokens: int
    choices: int
    choice_tokens: int
    finish_reason: str
    stream: bool
    include_usage: bool

    @property
    def tokens(self) -> int:
        """The generated tokens of all choices."""
        return self.choices * self.choice_tokens

    def reply(self, call_id: str, cut_after: int | None = None) -> Reply:
        """The answer as it is sent and billed; a stream may be cut after so many of its tokens, and bills no more."""
        if not self.stream:
            billed = Usage(self.input_tokens, self.tokens)
            whole = Reply.json(self.body(call_id), billed=billed, model=self.model, id=call_id)
            return whole if cut_after is None else whole.cut_after(cut_after)
        sent = self.tokens if cut_after is None else min(cut_after, self.tokens)
        events = [sse_event(chunk) for chunk in (*self.chunks(call_id), *self.last_chunks(call_id))]
        billed = Usage(self.input_tokens, sent)
        stream = Reply.stream([*events, sse_event("[DONE]")], billed=billed, model=self.model, id=call_id)
        return stream if cut_after is None else stream.cut_after(sent)

    def usage(self) -> dict[str, int]:
        """The usage record, as a response carries it."""
        total_tokens = self.input_tokens + self.tokens
        return {
            "prompt_tokens": self.input_tokens,
            "completion_tokens": self.tokens,
            "total_tokens": total_tokens,
        }

    def body(self, call_id: str) -> dict[str, Any]:
        """The whole response of a call that does not stream."""
        text = "".join(_word(index) for index in range(self.choice_tokens))
        message = {"role": "assistant", "content": text, "refusal": None}
        choices = [
            {"index": index, "message": message, "finish_reason": self.finish_reason, "logprobs": None}
            for index in range(self.choices)
        ]
        return _envelope(call_id, self.model, "chat.completion", choices) | {"usage": self.usage()}

    def chunks(self, call_id: str) -> Iterator[dict[str, Any]]:
        """The events of a stream that carry tokens, one token each, the choices in turn."""
        for index in range(self.choice_tokens):
            for choice in range(self.choices):
                yield self._chunk(call_id, choice, {"role": "assistant", "content": _word(index)}, None)

    def last_chunks(self, call_id: str) -> Iterator[dict[str, Any]]:
        """The events that end a stream: the finish reasons and, where it was asked for, the usage."""
        for choice in range(self.choices):
            yield self._chunk(call_id, choice, {}, self.finish_reason)
        if self.include_usage:
            yield _envelope(call_id, self.model, "chat.completion.chunk", []) | {"usage": self.usage()}

    def _chunk(self, call_id: str, choice: int, delta: dict[str, str], finish: str | None) -> dict[str, Any]:
        choices = [{"index": choice, "delta": delta, "finish_reason": finish, "logprobs": None}]
        chunk = _envelope(call_id, self.model, "chat.completion.chunk", choices)
        return chunk | {"usage": None} if self.include_usage else chunk


def answer_request(request: HttpRequest, models: Collection[str], seed: int) -> Answer:
    """Decide the answer: as long as the `x-output-tokens` header says, else 16 to 128 tokens by the seed and the
    messages; never longer than `max_completion_tokens` or `max_tokens`.

    Raises:
        HttpFault: the request is not one that the API takes; names the field.
    """
    body = _json_object(request.body)
    model, messages = body.get("model"), body.get("messages")
    if not isinstance(model, str) or model not in models:
        raise HttpFault(404, f"model: {model!r} is not one of {', '.join(sorted(models))}", "model_not_found")
    if not isinstance(messages, list) or not messages or not all(isinstance(item, dict) for item in messages):
        raise HttpFault(400, "messages: must be a list of at least one message")
    hint = request.headers.get(OUTPUT_HINT)
    if hint is not None and not hint.isdecimal():
        raise HttpFault(400, f"{OUTPUT_HINT}: must be a number of tokens")
    wanted = _seeded_length(seed, messages) if hint is None else int(hint)
    bounds = [_positive(body, name) for name in ("max_completion_tokens", "max_tokens") if body.get(name) is not None]
    length = min([wanted, *bounds])
    stream_options = body.get("stream_options") or {}
    return Answer(
        model=model,
        input_tokens=count_input_tokens(messages),
        choices=_positive(body, "n") if body.get("n") is not None else 1,
        choice_tokens=length,
        finish_reason="length" if length < wanted else "stop",
        stream=body.get("stream") is True,
        include_usage=isinstance(stream_options, dict) and stream_options.get("include_usage") is True,
    )


def list_models(models: Iterable[str]) -> dict[str, Any]:
    """The answer to `GET /v1/models`."""
    data = [{"id": model, "object": "model", "created": CREATED_S, "owned_by": "budgetguard"} for model in models]
    return {"object": "list", "data": data}


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise HttpFault(400, "the body is not JSON") from None
    if not isinstance(value, dict):
        raise HttpFault(400, "the body is not a JSON object")
    return value


def _positive(body: dict[str, Any], name: str) -> int:
    value = body[name]
    if type(value) is not int or value < 1:
        raise HttpFault(400, f"{name}: must be a whole number above 0")
    return value


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))


def _seeded_length(seed: int, messages: list[Any]) -> int:
    digest = hashlib.sha256(f"{seed} {json.dumps(messages, sort_keys=True)}".encode()).digest()
    spread = LONGEST_ANSWER_TOKENS - SHORTEST_ANSWER_TOKENS + 1
    return SHORTEST_ANSWER_TOKENS + int.from_bytes(digest[:8], "big") % spread


def _word(index: int) -> str:
    return WORDS[index % len(WORDS)] + " "


def _envelope(call_id: str, model: str, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": call_id, "object": kind, "created": CREATED_S, "model": model, "choices": choices}
