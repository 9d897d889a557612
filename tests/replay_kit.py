"""A server on the loopback interface, on threads of its own, that answers as it is told; it is an HTTP proxy, too."""

from __future__ import annotations

import json
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self

from wire_kit import Exchange
from wire_truth import STREAMS

JSON = {"content-type": "application/json"}
SSE = {"content-type": "text/event-stream"}


class Asked(NamedTuple):
    """One request; `target` is the path with its query, or the whole URL where this is a proxy."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Reply(NamedTuple):
    """One answer; a body in pieces is sent piece by piece, and left unfinished if it is `cut`."""

    body: bytes | list[bytes]
    headers: Mapping[str, str] = JSON
    status: int = 200
    cut: bool = False

    def sent(self) -> list[bytes]:
        """As it goes over the wire."""
        chunked = isinstance(self.body, list)
        length = {"transfer-encoding": "chunked"} if chunked else {"content-length": str(len(self.body))}
        lines = [f"{name}: {value}\r\n" for name, value in {**self.headers, **length}.items()]
        head = f"HTTP/1.1 {self.status} Status\r\n{''.join(lines)}\r\n".encode()
        if isinstance(self.body, bytes):
            return [head + self.body]
        ends = [] if self.cut else [b"0\r\n\r\n"]
        return [head, *(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in self.body if piece), *ends]


def json_reply(body: Any, status: int = 200) -> Reply:
    """An answer in JSON."""
    return Reply(json.dumps(body).encode(), status=status)


def sse_reply(*events: Any, cut: bool = False) -> Reply:
    """A stream of server-sent events, one piece for each; named by their `type`, if they have one."""
    pieces = []
    for event in events:
        name = f"event: {event['type']}\n" if isinstance(event, dict) and "type" in event else ""
        data = event if isinstance(event, str) else json.dumps(event)
        pieces.append(f"{name}data: {data}\n\n".encode())
    return Reply(pieces, SSE, cut=cut)


class Replay:
    """Answers the requests in the order of `replies`; the last of them again and again."""

    def __init__(self, *replies: Reply | Callable[[Asked], Reply]) -> None:
        self.replies = deque(replies)
        self.asked: list[Asked] = []
        self.accepted = 0
        """How many connections have come in,"""
        self.open = 0
        """and how many of them are open."""
        self._connections: list[socket.socket] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.replay = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def next(self, asked: Asked) -> Reply:
        """The answer to a request."""
        self.asked.append(asked)
        reply = self.replies.popleft() if len(self.replies) > 1 else self.replies[0]
        return reply(asked) if callable(reply) else reply

    def connected(self, connection: socket.socket) -> None:
        """One more connection."""
        self.accepted += 1
        self.open += 1
        self._connections.append(connection)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        for connection in self._connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it is closed
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    replay: Replay

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client went away, which is its right."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.replay.connected(self.connection)  # type: ignore[attr-defined]  # the server above

    def finish(self) -> None:
        super().finish()
        self.server.replay.open -= 1  # type: ignore[attr-defined]

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.replay.next(Asked(self.command, self.path, headers, body))  # type: ignore[attr-defined]
        for piece in reply.sent():
            self.wfile.write(piece)
        self.close_connection = reply.cut

    do_POST = do_GET = do_DELETE = _answer

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def recorded(row: Exchange, body: bytes) -> Reply:
    """The answer of a recorded exchange; a stream in pieces of odd lengths, so that events are cut anywhere."""
    kept = ("content-type", "retry-after", "x-request-id", "request-id")
    said = row["response"]["headers"].items()
    headers = {name: value for name, value in said if name.lower() in kept or "amzn" in name.lower()}
    if "REDACTED" in headers.get("content-type", ""):
        headers["content-type"] = STREAMS[row["stream_format"]] if row["stream"] else "application/json"
    pieces = [body[start : start + 997] for start in range(0, len(body), 997)] if row["stream"] else body
    return Reply(pieces, headers, row["response"]["status"])
