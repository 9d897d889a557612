"""What a guard does for the clients of providers: it guards theirs, and hands out HTTP clients that are guarded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from budgetguard.errors import UnguardedApi
from budgetguard.exchange import Exchange, Gate
from budgetguard.labels import check_label
from budgetguard.wire.apis import FREE, recognise
from budgetguard.wire.asked import asked

if TYPE_CHECKING:
    from budgetguard.sync import SyncGuard

Client = TypeVar("Client")


class Clients(ABC):
    """The part of a `Guard` that knows clients."""

    @property
    @abstractmethod
    def sync(self) -> SyncGuard:
        """The verbs for callers without an event loop."""

    @abstractmethod
    def _gate(self) -> Gate:
        """What an exchange needs."""

    def wrap(self, client: Client, **labels: str) -> Client:
        """A client of the same type and options, every call of which is guarded. The one given stays as it is.

        Args:
            client: of the OpenAI or Anthropic SDK, async or sync.
            labels: of every call, unless it or `acting_as` says otherwise.

        Raises:
            InvalidLabel: a label is not 1 to 512 bytes of text, or not known.
            TypeError: this client cannot be wrapped; says what can be done.
        """
        from budgetguard.integrations import wrap

        guarded: Client = wrap(self, client, self._checked(labels))
        return guarded

    def http_client(self, **labels: str) -> Any:
        """A guarded `AsyncClient` of httpx2, for any SDK that takes one. Labels and errors as for `wrap`."""
        return self.http_clients(**labels)[1]

    def http_clients(self, **labels: str) -> tuple[Any, Any]:
        """A guarded `Client` and `AsyncClient` of httpx2, for any SDK that takes both."""
        from budgetguard.integrations.httpx import clients

        return clients(self, self._checked(labels))

    def exchange(self, method: str, url: str, content: bytes, labels: Mapping[str, str]) -> Exchange | None:
        """For integrations: the guarded exchange of one request; None for one that passes as it is.

        Args:
            url: scheme, host and path, with the query.
            labels: those that its client was wrapped with.

        Raises:
            UnguardedApi: its API is not known, and the policy does not let it pass.
        """
        gate = self._gate()
        if gate.policy.mode == "off":
            return None
        host, path = _parts(url)
        api = recognise(method, host, path, gate.policy.hosts)
        if api == FREE or (api is None and gate.policy.guard.on_unknown_api == "pass"):
            return None
        if api is None or isinstance(api, str):
            raise UnguardedApi(_unknown(method, host, path))
        return Exchange(gate, asked(api, content), url, content, labels)

    def _checked(self, labels: Mapping[str, str]) -> Mapping[str, str]:
        for name, value in labels.items():
            check_label(name, value)
        self._gate().policy.labels.check(labels)
        return dict(labels)


def _parts(url: str) -> tuple[str, str]:
    """The host, with its port, and the path with the query."""
    rest = url.partition("://")[2]
    authority, slash, path = rest.partition("/")
    return authority.rpartition("@")[2], slash + path


def _unknown(method: str, host: str, path: str) -> str:
    where = path.partition("?")[0]
    return (
        f"{method} {where} at {host} is no API that budgetguard knows, so nobody could say what it costs. If it speaks "
        f'one that is known, declare its host:\n[[host]]\nname = "{host}"\nprovider = "..."\napi = "openai"\n'
        'If it bills nothing, or may go uncounted, set on_unknown_api = "pass" under [guard].'
    )
