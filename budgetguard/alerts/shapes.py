"""What is posted to a webhook: the body in the shape that its kind takes, and its signature.

Labels come from outside, and no shape lets them become markup, a link or a mention:

- `json`: our own, plain values.
- `slack`: an incoming webhook's (https://api.slack.com/messaging/webhooks). Texts are `plain_text`, in which nothing is
  markup; `&`, `<` and `>` are escaped, so that no `<!channel>` is one
  (https://api.slack.com/reference/surfaces/formatting#escaping).
- `teams`: what the Workflows of Teams take ("When a Teams webhook request is received"), a message with an Adaptive
  Card. Texts are `TextRun`s, which know no Markdown
  (https://learn.microsoft.com/adaptive-cards/authoring-cards/text-features).
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple

from budgetguard.alerts.raised import AlertRaised
from budgetguard.alerts.settings import Kind
from budgetguard.alerts.texts import plain

SIGNATURE = "X-Budgetguard-Signature"
LONGEST_TEXT = 600
"""Characters; Slack takes 3,000 in a section, and some of these are five when they are escaped."""
MOST_FACTS = 10
"""Slack takes so many fields in a section."""


class Message(NamedTuple):
    """An alert on its way: `id` is the same in every attempt to deliver it."""

    id: str
    alert: AlertRaised
    namespace: str
    at_ms: int


def body_of(kind: Kind, message: Message) -> bytes:
    """The body of a post: JSON in UTF-8."""
    return json.dumps(_SHAPES[kind](message), ensure_ascii=True).encode()


def signature(secret: str, body: bytes, at_s: int) -> str:
    """The value of the header `SIGNATURE`: `t=<seconds>,v1=<hex>`, HMAC-SHA256 of "<t>.<body>"."""
    signed = hmac.new(secret.encode(), b"%d.%b" % (at_s, body), sha256).hexdigest()
    return f"t={at_s},v1={signed}"


def _json(message: Message) -> Mapping[str, Any]:
    alert = message.alert
    return {
        "id": message.id,
        "cause": alert.cause,
        "text": alert.text,
        "budget": alert.budget,
        "labels": dict(alert.subject),
        "figures": dict(alert.figures),
        "namespace": message.namespace,
        "at": datetime.fromtimestamp(message.at_ms / 1000, UTC).isoformat(timespec="milliseconds"),
    }


def _slack(message: Message) -> Mapping[str, Any]:
    def text(words: str) -> Mapping[str, Any]:
        escaped = words[:LONGEST_TEXT].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return {"type": "plain_text", "text": escaped, "emoji": False}

    alert = message.alert
    blocks: list[Mapping[str, Any]] = [{"type": "section", "text": text(alert.text)}]
    if facts := _facts(message):
        blocks.append({"type": "context", "elements": [text(f"{name}: {value}") for name, value in facts]})
    head = text(f"budgetguard {alert.cause}: {alert.text}")["text"]  # of notifications
    return {"text": head, "mrkdwn": False, "blocks": blocks, "unfurl_links": False, "unfurl_media": False}


def _teams(message: Message) -> Mapping[str, Any]:
    def line(words: str, **style: Any) -> Mapping[str, Any]:
        run = {"type": "TextRun", "text": words[:LONGEST_TEXT], **style}
        return {"type": "RichTextBlock", "inlines": [run]}

    alert = message.alert
    facts = [line(f"{name}: {value}", isSubtle=True, size="small") for name, value in _facts(message)]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [line(f"budgetguard: {alert.cause}", weight="bolder", size="medium"), line(alert.text), *facts],
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


def _facts(message: Message) -> list[tuple[str, str]]:
    """What people may want to know beside the text: whom it is about, and in which namespace."""
    labels = [(plain(name), plain(value)) for name, value in message.alert.subject.items()]
    return [("namespace", plain(message.namespace)), *labels][:MOST_FACTS]


_SHAPES: Mapping[Kind, Callable[[Message], Mapping[str, Any]]] = {"json": _json, "slack": _slack, "teams": _teams}
