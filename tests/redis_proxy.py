"""A proxy before a Redis server that does to single requests what networks do to them (`fault_kit`).

It reads whole requests and replies, so that a fault hits exactly one command, pipelined or not. It runs on a thread of
its own and serves clients of any event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from fault_kit import PASS, Fault, Request
from redis_kit import RedisServer
from resp_kit import PUSH, read_reply, read_request

GONE = (EOFError, ConnectionError)
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: to close is to reset."""


class Proxy:
    """Serves at `url` what `server` serves. `faults` is asked about every request, on the proxy's thread.

    `requests` are those that came so far.
    """

    def __init__(self, server: RedisServer, faults: Callable[[Request], Fault] = lambda _: PASS) -> None:
        self.faults = faults
        self.requests: list[Request] = []
        self.port = 0
        self._server = server
        self._links: set[asyncio.Task[Any]] = set()
        self._links_ever = 0
        self._door: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self.open_door()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        return self._server.url.replace(f":{self._server.port}/", f":{self.port}/")

    @property
    def connections(self) -> int:
        """How many stand; one whose client has gone stands while a request of it is on its way."""
        return len(self._links)

    def open_door(self) -> None:
        """Accept connections, again on the same port."""
        self._door = self._run(asyncio.start_server(self._accept, "127.0.0.1", self.port))
        self.port = self._door.sockets[0].getsockname()[1]

    def shut_door(self) -> None:
        """Reset the connections that stand, and refuse others."""
        self._run(self._shut())

    def close(self) -> None:
        """End all connections and the thread."""
        self.shut_door()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def judge(self, connection: int, arguments: tuple[bytes, ...]) -> Fault:
        """What is to happen to the next request."""
        request = Request(len(self.requests) + 1, connection, arguments)
        self.requests.append(request)
        return self.faults(request)

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _shut(self) -> None:
        if self._door is not None:
            self._door.close()
        links = list(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)
        await asyncio.sleep(0)  # transports close in the loop's next round

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of ours, which may be cancelled: of a handler's own, asyncio would log that as an error.
        self._links_ever += 1
        link = self._loop.create_task(_Link(self, self._links_ever, reader, writer).serve(self._server.port))
        self._links.add(link)

        def ended(_: object) -> None:
            self._links.discard(link)
            if link.cancelled():  # perhaps before it began
                writer.transport.abort()

        link.add_done_callback(ended)


class _Slot:
    """The place of one request's reply in the order of its connection. None: the server has gone."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.reply: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()


class _Link:
    """A client's connection, and its connection to the server, which stands while a request is on its way."""

    def __init__(self, proxy: Proxy, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._number = number
        self._reader, self._writer = reader, writer
        self._slots: asyncio.Queue[_Slot | None] = asyncio.Queue()
        self._unanswered: deque[_Slot | None] = deque()  # None for a copy, whose answer nobody hears
        self._client_done = False
        self._mute = False

    async def serve(self, port: int) -> None:
        """Until both sides are done."""
        try:
            replies, upstream = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            self._reset()
            return
        tasks = asyncio.create_task(self._collect(replies)), asyncio.create_task(self._answer())
        try:
            await self._forward(upstream)
            self._client_done = True
            if not self._unanswered:
                upstream.close()
            await asyncio.gather(*tasks)
        except asyncio.CancelledError:
            self._reset()
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            upstream.close()
            self._writer.close()

    async def _forward(self, upstream: asyncio.StreamWriter) -> None:
        """Client to server, until the client ends it."""
        with contextlib.suppress(*GONE):
            while True:
                raw, arguments = await read_request(self._reader)
                fault = self._proxy.judge(self._number, arguments)
                if fault.wait is not None:
                    await fault.wait.passed()
                slot = _Slot(fault)
                self._slots.put_nowait(slot)
                if fault.copies:
                    self._unanswered.extend([slot, *[None] * (fault.copies - 1)])
                    upstream.write(raw * fault.copies)
                else:
                    slot.reply.set_result(fault.answer)
                if fault.ends_connection:
                    while await self._reader.read(2**16):
                        pass
                    break
        self._slots.put_nowait(None)

    async def _collect(self, replies: asyncio.StreamReader) -> None:
        """Server to slots, until the server ends it, or the client has and nothing is on its way any more."""
        with contextlib.suppress(*GONE):
            while not self._client_done or self._unanswered:
                reply = await read_reply(replies)
                if reply.startswith(PUSH):
                    self._writer.write(b"" if self._mute else reply)
                    continue
                slot = self._unanswered.popleft()
                if slot is not None:
                    if slot.fault.opens is not None:
                        slot.fault.opens.open()
                    slot.reply.set_result(reply)
        for slot in filter(None, self._unanswered):
            slot.reply.set_result(None)
        self._slots.put_nowait(None)

    async def _answer(self) -> None:
        """Slots to client, until either side has ended it or a fault does."""
        with contextlib.suppress(*GONE):
            while (slot := await self._slots.get()) is not None and (reply := await slot.reply) is not None:
                if slot.fault.hold is not None:
                    await slot.fault.hold.passed()
                await self._give(reply, slot.fault.reply)
        self._writer.close()

    async def _give(self, reply: bytes, how: str) -> None:
        self._mute = self._mute or how == "lost"
        if how == "cut":
            self._reset()
        if self._mute or self._writer.is_closing():
            return
        if how == "half":
            self._writer.write(reply[: len(reply) // 2])
            self._writer.close()
            return
        step = 1 if how == "dribble" else max(len(reply), 1)
        for start in range(0, len(reply), step):
            self._writer.write(reply[start : start + step])
            await self._writer.drain()
            await asyncio.sleep(0)

    def _reset(self) -> None:
        link = self._writer.get_extra_info("socket")
        if link is not None:
            with contextlib.suppress(OSError):
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._writer.transport.abort()
