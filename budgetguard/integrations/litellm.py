"""LiteLLM's SDK and its Router, guarded as a whole.

    guard_litellm(guard)    # once; before or after LiteLLM's first call

LiteLLM reaches a hundred providers over HTTP clients that it makes itself, of httpx, by default on top of aiohttp. All
of them are guarded where they look for a transport, so that each attempt of each call is reserved and settled by what
is sent and answered; so are those that OpenAI's SDK makes where LiteLLM gives it none. What would go past them is
refused (`UnguardedApi`): websockets (realtime, responses), the provider `aiohttp_openai/`, the routes that LiteLLM's
native library sends by itself (OCR, Bedrock's transcription), and what goes over boto3 (SageMaker's embeddings,
ingestion by Bedrock) or gRPC (Vertex' old models, Riva).

A refusal comes up as it is, not as LiteLLM's RateLimitError, from streams too; neither `num_retries` nor a Router tries
it again, falls back from it, or gives a deployment a rest for it. LiteLLM's own loggers send where they like.

Clients that are handed to a single call (`client=`) are not LiteLLM's: wrap them with `guard.wrap`.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from budgetguard.errors import ConfigError, UnguardedApi
from budgetguard.integrations.httpx import BudgetTransport
from budgetguard.integrations.litellm_calls import carry_labels, tell_refusals_as_they_are
from budgetguard.wire.apis import Api, recognise
from budgetguard.wire.hosts import place_of

if TYPE_CHECKING:
    from budgetguard.clients import Clients

_LOCAL_ROUTES = frozenset(["token_counter", "tokenizer"])
_LOGGERS = "litellm.integrations."
_guarding: list[Clients] = []
_Place = tuple[Any, str]
"""A function by where it stands and its name there."""


class _Places(NamedTuple):
    """Of LiteLLM: what makes its HTTP clients, what sends without them, and what sends by its native library."""

    makers: tuple[_Place, ...]
    past: tuple[_Place, ...]
    native: tuple[_Place, ...]


def guard_litellm(guard: Clients, **labels: str) -> None:
    """Guard every call that LiteLLM makes in this process from now on.

    Args:
        labels: of every call, unless it or `acting_as` says otherwise.

    Raises:
        InvalidLabel: a label is not 1 to 512 bytes of text, or not known.
        ConfigError: LiteLLM is not installed, or of a version in which what must be guarded is not found.
        TypeError: it is guarded already.
    """
    if _guarding:
        raise TypeError("LiteLLM is guarded already, by the guard that was given first")
    guard.http_client(library="httpx", **labels)  # only checks the labels
    try:
        _guard_all(guard, _Clients(guard, labels))
    except (ImportError, AttributeError, KeyError) as error:
        installed = "litellm" in sys.modules and sys.modules["litellm"] is not None
        fault = f"this version of LiteLLM has no {error}, which must be guarded" if installed else "it needs litellm"
        raise ConfigError("guard_litellm()", [fault]) from None
    _guarding.append(guard)


def _guard_all(guard: Clients, clients: _Clients) -> None:
    found = [[(*place, vars(place[0])[place[1]]) for place in some] for some in _places()]
    import litellm

    for holder, name, original in found[0]:
        _put(holder, name, _making_guarded(original, clients))
    for holder, name, original in found[1]:
        _put(holder, name, _refusing(original, guard))
    for holder, name, original in found[2]:
        _put(holder, name, _refusing(original, guard, lambda context, *_, **__: context.route.value in _LOCAL_ROUTES))
    _guard_sdk(clients)
    carry_labels()
    tell_refusals_as_they_are()
    litellm.in_memory_llm_clients_cache.flush_cache()
    for handler in (litellm.module_level_client, litellm.module_level_aclient):
        clients.guarded(handler._client)


def _places() -> _Places:
    from litellm.llms.azure.realtime.handler import AzureOpenAIRealtime
    from litellm.llms.base import BaseLLM
    from litellm.llms.bedrock.realtime.handler import BedrockRealtime
    from litellm.llms.custom_httpx.aiohttp_handler import BaseLLMAIOHTTPHandler
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler, HTTPHandler
    from litellm.llms.custom_httpx.llm_http_handler import BaseLLMHTTPHandler
    from litellm.llms.nvidia_riva.audio_transcription.handler import NvidiaRivaAudioTranscription
    from litellm.llms.openai.common_utils import BaseOpenAILLM
    from litellm.llms.openai.realtime.handler import OpenAIRealtime
    from litellm.llms.sagemaker.completion.handler import SagemakerLLM
    from litellm.llms.vertex_ai import vertex_ai_non_gemini
    from litellm.rag.ingestion.bedrock_ingestion import BedrockRAGIngestion
    from litellm.rag.ingestion.vertex_ai_ingestion import VertexAIRAGIngestion
    from litellm.rust_bridge import runtime

    makers = (
        (HTTPHandler, "create_client"),
        (AsyncHTTPHandler, "create_client"),
        (BaseOpenAILLM, "_get_sync_http_client"),
        (BaseOpenAILLM, "_get_async_http_client"),
        (BaseLLM, "create_client_session"),
        (BaseLLM, "create_aclient_session"),
    )
    past = (
        (BaseLLMAIOHTTPHandler, "_get_async_client_session"),
        (BaseLLMHTTPHandler, "async_responses_websocket"),
        (SagemakerLLM, "embedding"),
        (NvidiaRivaAudioTranscription, "_run_sync"),
        (vertex_ai_non_gemini, "completion"),
        (BedrockRAGIngestion, "_get_boto3_client"),
        (VertexAIRAGIngestion, "store"),
        *(
            (kind, "async_realtime")
            for kind in (BaseLLMHTTPHandler, OpenAIRealtime, AzureOpenAIRealtime, BedrockRealtime)
        ),
    )
    return _Places(makers, past, ((runtime, "_attempt_native"), (runtime, "_aattempt_native")))


def _put(holder: Any, name: str, made: Any) -> None:
    setattr(holder, name, staticmethod(made) if isinstance(vars(holder).get(name), staticmethod) else made)


class _Clients:
    """Guards LiteLLM's HTTP clients in place: it looks into them for what it has put there."""

    def __init__(self, guard: Clients, labels: Mapping[str, str]) -> None:
        self._guard, self._labels = cast("Clients", _Guard(guard)), labels

    def guarded(self, client: Any) -> Any:
        """The same client, its requests going through the guard."""
        if client is not None and "_transport_for_url" not in vars(client):
            itself, find = weakref.ref(client), type(client)._transport_for_url  # dropped ones close themselves at once

            def found(url: Any) -> Any:
                inner = find(itself(), url)
                if isinstance(inner, BudgetTransport):  # one of the user's, guarded by themselves
                    return inner
                return BudgetTransport(self._guard, inner, **self._labels)

            client._transport_for_url = found
        return client


class _Guard:
    """A guard that lets pass what a logger of LiteLLM's sends to where no known API is."""

    def __init__(self, guard: Clients) -> None:
        self._guard = guard

    def __getattr__(self, name: str) -> Any:
        return getattr(self._guard, name)

    def guarded_api(self, method: str, url: str, labels: Mapping[str, str]) -> Api | None:
        """As `Guard.guarded_api`."""
        known = recognise(method, *place_of(url), self._guard.policy.hosts)
        if not isinstance(known, Api) and _is_sent_by_a_logger():
            return None
        return self._guard.guarded_api(method, url, labels)


def _is_sent_by_a_logger() -> bool:
    frame = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(_LOGGERS):
            return True
        frame = cast("Any", frame.f_back)
    return False


def _guard_sdk(clients: _Clients) -> None:
    """Guard the clients of OpenAI's SDK that LiteLLM makes, some without an HTTP client of its own."""
    from litellm.llms.openai.openai import AsyncOpenAI, OpenAI

    for kind in (OpenAI, AsyncOpenAI):  # Azure's begin as these do
        _put(kind, "__init__", _beginning_guarded(kind.__init__, clients))


def _beginning_guarded(begin: Callable[..., None], clients: _Clients) -> Callable[..., None]:
    @wraps(begin)
    def begun(self: Any, *args: Any, **options: Any) -> None:
        begin(self, *args, **options)
        if _maker() == "litellm":
            clients.guarded(self._client)

    return begun


def _maker() -> str:
    """The package that makes a client of OpenAI's SDK."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in ("openai", "budgetguard"):
            return package
        frame = frame.f_back
    return ""


def _function(found: Any) -> Callable[..., Any]:
    return cast("Callable[..., Any]", found.__func__ if isinstance(found, staticmethod) else found)


def _making_guarded(found: Any, clients: _Clients) -> Callable[..., Any]:
    make = _function(found)

    @wraps(make)
    def made(*args: Any, **options: Any) -> Any:
        return clients.guarded(make(*args, **options))

    return made


def _refusing(found: Any, guard: Clients, passes: Callable[..., bool] = lambda *_, **__: False) -> Callable[..., Any]:
    """A function that goes past the guard, and so may only where nothing is ever refused."""
    send = _function(found)

    @wraps(send)
    def refuse(*args: Any, **options: Any) -> Any:
        if guard.may_refuse and not passes(*args, **options):
            raise UnguardedApi(f"LiteLLM would send this past the guard, uncounted ({send.__qualname__})")
        return send(*args, **options)

    return refuse
