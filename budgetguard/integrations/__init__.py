"""One module for each SDK or HTTP library, named after it. Nothing is imported before it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from budgetguard.core.amounts import shown

if TYPE_CHECKING:
    from budgetguard.clients import Clients


def wrap(guard: Clients, client: Any, labels: Mapping[str, str]) -> Any:
    """A guarded client of the same type. Errors: those of `Guard.wrap`."""
    makers = {kind.__module__.partition(".")[0] for kind in type(client).__mro__}
    if "openai" in makers:
        from budgetguard.integrations import openai

        return openai.wrap(guard, client, labels)
    if "anthropic" in makers:
        from budgetguard.integrations import anthropic

        return anthropic.wrap(guard, client, labels)
    if "botocore" in makers:
        from budgetguard.integrations import botocore

        return botocore.wrap(guard, client, labels)
    raise TypeError(
        f"guard.wrap takes a client of the OpenAI or Anthropic SDK, or boto3's for Bedrock, not {shown(client)}: pass "
        "other SDKs guard.http_client(), or both of guard.http_clients(), as their HTTP client"
    )
