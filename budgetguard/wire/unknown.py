"""What a user can do whose request goes to an API that is not known: nobody could say what it costs."""

from __future__ import annotations

from collections.abc import Sequence

from budgetguard.wire.apis import family_of, provider_of
from budgetguard.wire.hosts import Host

_UNCOUNTED = (
    'If it bills nothing, or may go uncounted, set on_unknown_api = "pass" under [guard], in Python '
    'settings=bg.GuardSettings(on_unknown_api="pass"): whatever is not known passes then.'
)


def unknown_api_text(method: str, host: str, path: str, hosts: Sequence[Host]) -> str:
    """Where the request goes, and what lets it go there.

    To declare its host helps where nobody is known to answer, and some family of APIs has its path.
    """
    where = f"{method} {path.partition('?')[0]} at {host}"
    family = family_of(path) if method.upper() == "POST" else None
    if provider_of(host, hosts) is None and family is not None:
        return (
            f"{where} is no API that budgetguard knows, so nobody could say what it costs. {_UNCOUNTED} If it speaks a "
            f'known one, declare its host, in Python hosts=[bg.Host("{host}", provider="...", api="{family}")], or '
            f'in the TOML:\n[[host]]\nname = "{host}"\nprovider = "..."\napi = "{family}"'
        )
    return (
        f"{where} is nothing that budgetguard can count, so nobody could say what it costs. Ask for it with a client "
        'that is not wrapped, inside guard.reserve(estimate=bg.Usage(0, 0, cost_usd="...")), and record what it has '
        f"cost. {_UNCOUNTED}"
    )
