"""Posts to a webhook. Its URL is a secret: it is in no log, not even the HTTP client's own, and in no error."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

from budgetguard.alerts.settings import AlertRoute
from budgetguard.alerts.shapes import SIGNATURE, Message, body_of, signature
from budgetguard.version import VERSION

if TYPE_CHECKING:
    import httpx2

TIMEOUT_S = 10.0
"""For a whole post, however slowly its answer comes."""
EXIT_TIMEOUT_S = 3.0


def python_ends() -> bool:
    """Whether this is done at the exit of the process: its main thread has ended, and no thread can be started."""
    return not threading.main_thread().is_alive()


class NotTaken(Exception):
    """The webhook did not take it, and will not."""


class TryAgain(NotTaken):
    """It may take it later; `after_s`: it says when."""

    def __init__(self, text: str, after_s: float | None = None) -> None:
        super().__init__(text)
        self.after_s = after_s


class Webhook:
    """The webhook of a route, for one event loop."""

    def __init__(self, route: AlertRoute) -> None:
        self._route = route
        self._client: httpx2.AsyncClient | None = None

    def __str__(self) -> str:
        return str(self._route)

    async def post(self, message: Message) -> int:
        """Post it, once; the status of the answer.

        Raises:
            TryAgain: nobody answered, or 429 or 5xx.
            NotTaken: another status than 2xx.
        """
        import httpx2

        try:
            answer = self._sent_at_exit(message) if python_ends() else await self._sent(message)
        except httpx2.InvalidURL:
            raise NotTaken("its URL is none") from None
        except TimeoutError:
            raise TryAgain(f"no answer within {TIMEOUT_S:.0f} s") from None
        except httpx2.HTTPError as error:
            raise TryAgain(self._hidden(f"{type(error).__name__}: {error}")) from None
        if answer.is_success:
            return answer.status_code
        text = f"it answered {answer.status_code}"
        if answer.status_code == httpx2.codes.TOO_MANY_REQUESTS or answer.is_server_error:
            raise TryAgain(text, _after_s(answer.headers.get("Retry-After", "")))
        raise NotTaken(text)

    async def aclose(self) -> None:
        """Let go of the connection."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    async def _sent(self, message: Message) -> httpx2.Response:
        if self._client is None:
            self._client = await asyncio.to_thread(_new_client)  # reads every authority's certificate: 30 ms
        async with asyncio.timeout(TIMEOUT_S):
            answer = await self._client.send(self._request(self._client, message), stream=True)
            await answer.aclose()  # its body says nothing, and may have no end
        return answer

    def _sent_at_exit(self, message: Message) -> httpx2.Response:
        """Blocking: there are no threads any more in which asyncio could look up a host, and nobody is delayed."""
        import httpx2

        with httpx2.Client(timeout=EXIT_TIMEOUT_S, follow_redirects=False) as client:
            answer = client.send(self._request(client, message), stream=True)
            answer.close()
            return answer

    def _request(self, client: httpx2.AsyncClient | httpx2.Client, message: Message) -> httpx2.Request:
        body = body_of(self._route.kind, message)
        headers = {"Content-Type": "application/json", "User-Agent": f"budgetguard/{VERSION}"}
        if self._route.secret is not None:
            headers[SIGNATURE] = signature(self._route.secret, body, int(time.time()))
        request = client.build_request("POST", self._route.url, content=body, headers=headers)
        request.url = _unseen(request.url, str(self._route))
        return request

    def _hidden(self, text: str) -> str:
        return text.replace(self._route.url, str(self._route))


def _new_client() -> httpx2.AsyncClient:
    import httpx2

    return httpx2.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False)


def _unseen(url: httpx2.URL, shown: str) -> Any:
    """The URL, which is shown without its path: httpx2 writes each request's to the log."""
    import httpx2

    class Unseen(httpx2.URL):
        def __str__(self) -> str:
            return shown

        __repr__ = __str__

    return Unseen(url)


def _after_s(text: str) -> float | None:
    """Seconds of a `Retry-After` (RFC 9110, 10.2.3): a number of them, or a date; None where it says neither."""
    from email.utils import parsedate_to_datetime

    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
