"""What a refusal tells an HTTP caller: headers and body of a 429.

- `Retry-After`: whole seconds, rounded up; absent where waiting cannot help. RFC 9110.
- `x-should-retry: false`: the SDKs of OpenAI, Anthropic and others do not ask again by themselves.
- `RateLimit-Policy` and `RateLimit`: an item for every limit that refused, named by budget, unit and period
  ("each-agent usd/day"). `q` is the limit, `w` the window in seconds, `r` what is available, `t` the seconds until
  there is more. draft-ietf-httpapi-ratelimit-headers-10, with its working group's changes since: names are strings. Its
  registry of units (`qu`) has `requests` and `concurrent-requests`; `tokens`, `input-tokens`, `output-tokens` and
  `micro-usd` are ours.
- the body: problem+json (RFC 9457) of that draft's type quota-exceeded, with the names as `violated-policies`;
  `detail` is the refusal's first line.

What others spend is not the caller's to know: what is available, or held, is told only of accounts that are counted by
a label with which the request came; of all others `r` is 0, which is what is left for this call. Limits and names are
told of all that refused, labels of none.
"""

from __future__ import annotations

import json
import math
import string
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from urllib.parse import quote

from budgetguard.core.grammar import format_limit
from budgetguard.core.model import Limit, Violation
from budgetguard.errors import BudgetExceeded
from budgetguard.refusal import escaped
from budgetguard.within import OF_A_RUN

PROBLEM_TYPE = "https://iana.org/assignments/http-problem-types#quota-exceeded"
PROBLEM_TITLE = "Request cannot be satisfied as assigned quota has been exceeded"
TOO_MANY_REQUESTS = 429
NOBODY: Mapping[str, str] = MappingProxyType({})
_UNITS = {
    "concurrent": "concurrent-requests", "tokens": "tokens", "input_tokens": "input-tokens",
    "output_tokens": "output-tokens", "usd": "micro-usd",
}  # fmt: skip
"""As `qu` has them; `requests` is its default."""
_NANO_PER_MICRO = 1000
_MOST = 10**15 - 1
"""The greatest integer of a structured field: RFC 9651, 3.3.1."""
_PLAIN = "".join(sorted({*string.punctuation, " "} - {"%"}))


def problem_of(refusal: BudgetExceeded, labels: Mapping[str, str] = NOBODY) -> bytes:
    """The body that tells a refusal, as application/problem+json. `labels`: those with which the request came."""
    told = {
        "type": PROBLEM_TYPE,
        "title": PROBLEM_TITLE,
        "status": TOO_MANY_REQUESTS,
        "detail": detail_of(refusal, labels),
        "violated-policies": [_name(violation) for violation in refusal.violations],
    }
    return json.dumps(told).encode()


def headers_of(refusal: BudgetExceeded, labels: Mapping[str, str] = NOBODY) -> dict[str, str]:
    """The headers that tell a refusal, but for those of its body. `labels`: those with which the request came."""
    headers = {"x-should-retry": "false"}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(refusal.retry_after))
    if refusal.violations:
        headers["RateLimit-Policy"] = _list([(_name(v), _policy(v)) for v in refusal.violations])
        headers["RateLimit"] = _list([(_name(v), _standing(v, labels)) for v in refusal.violations])
    return headers


def detail_of(refusal: BudgetExceeded, labels: Mapping[str, str] = NOBODY) -> str:
    """Its first line, as a caller with these labels may read it."""
    line = str(refusal).partition("\n")[0]
    if not refusal.violations:
        return line
    first = refusal.violations[0]
    account, name = first.account, escaped(first.account.budget)
    if first.reason == "held" and not _is_own(first, labels):  # the line says how much others hold, and how many
        limit = format_limit(Limit(first.limit, account.unit, account.period))
        line = f"{name} refused this call: {limit} is held by open calls; try again in 1 s"
    return line.replace(name, OF_A_RUN.sub("", name), 1)


def _is_own(violation: Violation, labels: Mapping[str, str]) -> bool:
    """Whether the account is one of whoever makes the request."""
    return any(counted in labels.items() for counted in violation.account.per)


def _policy(violation: Violation) -> dict[str, int | str | None]:
    account, unit = violation.account, _UNITS.get(violation.account.unit)
    window_ms: int | None = account.period.span_ms or None
    if account.window_start_ms is not None and account.window_end_ms is not None:
        window_ms = account.window_end_ms - account.window_start_ms
    return {"q": _amount(violation, violation.limit), "qu": unit, "w": _seconds(window_ms)}


def _standing(violation: Violation, labels: Mapping[str, str]) -> dict[str, int | str | None]:
    available = max(violation.available, 0) if _is_own(violation, labels) else 0
    return {"r": _amount(violation, available), "t": _seconds(violation.retry_ms)}


def _amount(violation: Violation, amount: int) -> int:
    """An amount as a structured field can hold it: dollars in millionths, nothing above 15 digits."""
    return min(amount // _NANO_PER_MICRO if violation.account.unit == "usd" else amount, _MOST)


def _seconds(ms: int | None) -> int | None:
    return None if ms is None else -(-ms // 1000)


def _name(violation: Violation) -> str:
    """The same in header and body: ASCII, what else is in a budget's name percent-encoded; of a run without its id."""
    account = violation.account
    counted = "/".join(filter(None, (account.unit, account.period.label)))
    return quote(f"{OF_A_RUN.sub('', account.budget)} {counted}", safe=_PLAIN)


def _list(items: Sequence[tuple[str, Mapping[str, int | str | None]]]) -> str:
    """Strings with parameters, as a list of RFC 9651. What is None is left out."""
    return ", ".join(
        _bare(name) + "".join(f";{key}={_bare(value)}" for key, value in parameters.items() if value is not None)
        for name, parameters in items
    )


def _bare(value: int | str) -> str:
    if isinstance(value, int):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
