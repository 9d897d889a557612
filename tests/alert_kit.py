"""What the tests of alerts share: a real webhook, its signatures verified by hand, and calls that raise something."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import budgetguard as bg
from budgetguard.testing.http import HttpRequest
from budgetguard.testing.reply import Reply
from budgetguard.testing.server import Server

SECRET = "sixteen bytes and more"
HOSTILE = "<!channel> <@U1|x> @here *b* [x](http://evil.test) <at>all</at> &amp; \x1b[31m\u202e\n\"'"


class Hooks(Server):
    """A webhook: it answers as it is told, the last answer again and again, and keeps what it was sent."""

    def __init__(self, *replies: Reply) -> None:
        super().__init__(0, 0, 0)
        self._replies = list(replies or [Reply()])
        self.requests: list[HttpRequest] = []

    async def _answer(self, request: HttpRequest) -> Reply:
        self.requests.append(request)
        return self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]

    def url(self, path: str = "/SECRETPATH") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def route(self, **route: Any) -> bg.AlertSettings:
        """Settings with one route to it."""
        return bg.AlertSettings(routes=[bg.AlertRoute(self.url(), **route)])

    def bodies(self) -> list[Any]:
        return [json.loads(request.body) for request in self.requests]

    def causes(self) -> list[str]:
        return [body["cause"] for body in self.bodies()]


def hmac_by_hand(key: bytes, text: bytes) -> str:
    """HMAC-SHA256 as RFC 2104 writes it, for keys of at most 64 bytes."""
    padded = key.ljust(64, b"\0")
    inner = sha256(bytes(byte ^ 0x36 for byte in padded) + text).digest()
    return sha256(bytes(byte ^ 0x5C for byte in padded) + inner).hexdigest()


def texts_in(value: Any) -> list[str]:
    """Every text in a JSON value, keys apart."""
    if isinstance(value, str):
        return [value]
    parts: Sequence[Any] = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for part in parts for text in texts_in(part)]


async def call(guard: bg.Guard, usage: bg.Usage, **labels: Any) -> None:
    """A call that used so much."""
    async with guard.reserve(estimate=usage, **labels) as hold:
        hold.record(usage)
