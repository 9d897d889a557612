"""What a guard does for the clients of providers: it guards theirs, and hands out HTTP clients that are guarded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from budgetguard.errors import BudgetGuardError, UnguardedApi
from budgetguard.labels import check_label
from budgetguard.subjects import NO_LABELS

if TYPE_CHECKING:
    from budgetguard.call import Origin
    from budgetguard.core.model import Claim
    from budgetguard.exchange import Exchange
    from budgetguard.hold import Hold
    from budgetguard.learning.forecasting import Forecasting
    from budgetguard.policy import Policy
    from budgetguard.subjects import Judged, Subjects
    from budgetguard.sync import SyncGuard
    from budgetguard.usage import Usage
    from budgetguard.wire.apis import Api

Client = TypeVar("Client")
Library = Literal["httpx2", "httpx"]
"""Of HTTP clients."""


class Gate(NamedTuple):
    """What an exchange needs of its guard.

    Args:
        subjects: merges the labels of a call from everywhere: from its own, and those of its client.
        judge: the same for one that is to be admitted: what is wrong is told to the observers, too.
        admit: reserves for a call's labels, an estimate, and where it comes from.
        tell: tells the observers of a refusal that no store decided: for its labels, and those of its client.
        forecasting: what was learned of outputs.
        now_ms: the store's time, as it was last heard in this event loop.
        claims: those of the runs around the caller.
        ready: to be awaited before a call with these labels is estimated by what was learned.
    """

    policy: Policy
    shared: object
    subjects: Subjects
    judge: Callable[[Mapping[str, str], Mapping[str, str]], Judged]
    admit: Callable[[Judged, Usage, Origin], Awaitable[Hold]]
    tell: Callable[[BudgetGuardError, Mapping[str, str], Mapping[str, str]], None]
    forecasting: Forecasting
    now_ms: Callable[[], int]
    claims: Callable[[], Sequence[Claim]]
    ready: Callable[[Mapping[str, str]], Awaitable[None]]

    def unguarded(self, why: str, labels: Mapping[str, str]) -> UnguardedApi:
        """As `Clients.unguarded`."""
        refusal = UnguardedApi(why)
        self.tell(refusal, NO_LABELS, labels)
        return refusal


class Clients(ABC):
    """The part of a `Guard` that knows clients."""

    @property
    @abstractmethod
    def sync(self) -> SyncGuard:
        """The verbs for callers without an event loop."""

    @abstractmethod
    def _gate(self) -> Gate:
        """What an exchange needs."""

    @property
    @abstractmethod
    def policy(self) -> Policy:
        """The policy in force."""

    @property
    def may_refuse(self) -> bool:
        """For integrations: calls can be refused, which in shadow and off none is, for no cause at all."""
        return self.policy.mode == "enforce"

    def wrap(self, client: Client, **labels: str) -> Client:
        """A client of the same type and options, every call of which is guarded. The one given stays as it is.

        Args:
            client: of the OpenAI, Anthropic, Groq or Together SDK, or of httpx2 or httpx, async or sync, google-genai's
                `Client`, or boto3's of `bedrock-runtime`. It shares its connections with the wrapped one: to close
                either closes both, to drop one does nothing to the other.
            labels: of every call, unless it or `acting_as` says otherwise.

        Raises:
            InvalidLabel: a label is not 1 to 512 bytes of text, or not known.
            TypeError: this client cannot be wrapped; says what can be done.
        """
        from budgetguard.integrations import wrap

        guarded: Client = wrap(self, client, self._checked(labels))
        return guarded

    def http_client(self, *, library: Library = "httpx2", **labels: str) -> Any:
        """A guarded `AsyncClient`, for any SDK that takes one and calls only with it. Arguments and errors as below."""
        from budgetguard.integrations.http_clients import new_client

        return new_client(self, library, self._checked(labels), is_async=True)

    def http_clients(self, *, library: Library = "httpx2", **labels: str) -> tuple[Any, Any]:
        """A guarded `Client` and `AsyncClient`. Where an SDK takes both, give it both: what it is not given it makes,
        and its calls go out unguarded (google-genai's `client.aio`).

        Args:
            library: whose clients: those of httpx2, or of httpx, where an SDK insists on them.
            labels: as for `wrap`.

        Raises:
            InvalidLabel: as for `wrap`.
            InvalidInput: there is no such library.
            ModuleNotFoundError: it is not installed.
        """
        from budgetguard.integrations.http_clients import new_client

        checked = self._checked(labels)
        sync = new_client(self, library, checked, is_async=False)
        return sync, new_client(self, library, checked, is_async=True)

    def guarded_api(self, method: str, url: str, labels: Mapping[str, str]) -> Api | None:
        """For integrations: the API that a request goes to; None where it passes as it is.

        Args:
            url: scheme, host and path, with the query.
            labels: those that its client was wrapped with.

        Raises:
            UnguardedApi: its API is not known, and the policy does not let it pass; observers have been told.
        """
        from budgetguard.exchange import api_of  # with all that is known of APIs: not for who has no client

        return api_of(self._gate(), method, url, labels)

    def unguarded(self, why: str, labels: Mapping[str, str]) -> UnguardedApi:
        """For integrations: what to raise where a call would go past the guarded client; tells the observers.

        Args:
            why: and what to do about it.
            labels: those that its client was wrapped with.
        """
        return self._gate().unguarded(why, labels)

    def exchange(self, api: Api, url: str, content: bytes, labels: Mapping[str, str]) -> Exchange:
        """For integrations: the guarded exchange of one request to an API.

        Args:
            url: only tells repeats from others.
            labels: those that its client was wrapped with.
        """
        from budgetguard.exchange import exchange_of

        return exchange_of(self._gate(), api, url, content, labels)

    def _checked(self, labels: Mapping[str, str]) -> Mapping[str, str]:
        for name, value in labels.items():
            check_label(name, value)
        self._gate().policy.labels.check(labels)
        return dict(labels)
