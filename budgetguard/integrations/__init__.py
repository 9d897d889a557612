"""One module for each maker of SDKs or HTTP library, named after it. Nothing is imported before it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from budgetguard.core.amounts import shown

if TYPE_CHECKING:
    from budgetguard.clients import Clients

_HTTP = frozenset(["httpx", "httpx2"])
_STAINLESS = frozenset(["anthropic", "groq", "openai", "together"])


def wrap(guard: Clients, client: Any, labels: Mapping[str, str]) -> Any:
    """A guarded client of the same type. Errors: those of `Guard.wrap`."""
    makers = {kind.__module__.partition(".")[0] for kind in type(client).__mro__}
    if makers & _HTTP and hasattr(client, "_transport_for_url"):  # before SDKs: some have HTTP clients of their own
        from budgetguard.integrations import http_clients

        return http_clients.wrap(guard, client, labels)
    if makers & _STAINLESS:
        from budgetguard.integrations import stainless

        return stainless.wrap(guard, client, labels)
    if any(kind.__module__.startswith("google.genai.") for kind in type(client).__mro__):
        from budgetguard.integrations import google_genai

        return google_genai.wrap(guard, client, labels)
    if "botocore" in makers:
        from budgetguard.integrations import botocore

        return botocore.wrap(guard, client, labels)
    raise TypeError(
        "guard.wrap takes a client of the OpenAI, Anthropic, Groq or Together SDK, google-genai's, boto3's for Bedrock "
        f"or an HTTP client of httpx2 or httpx, not {shown(client)}. Another SDK takes an HTTP client: give it "
        'guard.http_client(), with library="httpx" where it wants one of httpx; or, where it takes a sync and an async '
        "one, both of guard.http_clients()"
    )
