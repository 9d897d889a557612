"""What each value of a policy must be: one check per kind, the same for Python and for the file.

A check takes the value's key path and the value, and yields a line for every fault, which begins with the key path.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from difflib import get_close_matches
from math import ceil
from typing import Any

from budgetguard.core.amounts import MAX_AMOUNT, shown
from budgetguard.core.periods import MAX_SPAN_MS, SPAN_UNITS_MS, Period
from budgetguard.errors import InvalidAmount, InvalidLimit
from budgetguard.labels import label_text_fault

Check = Callable[[str, Any], Iterator[str]]

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SPAN = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,9}))? ?(ms|s|m|h|d)")
STORE_SCHEMES = (
    "sqlite", "redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"
)  # fmt: skip
_LEDGER_URL = re.compile(r"sqlite:///(?!:memory:$).+|postgres(ql)?://.+")
LEAST_SECRET_BYTES = 16
_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DAY_MS = SPAN_UNITS_MS["day"]


def span_ms(value: Any, field: str, least_ms: int = 0) -> int:
    """A length of time in ms, rounded up: "500ms", "60s", "15m", "24h", "7d", or a number of seconds.

    Raises:
        InvalidAmount: names `field`; also below `least_ms` or above ten years.
    """
    if isinstance(value, str):
        match = _SPAN.fullmatch(value)
        if match is None:
            hint = f'; did you mean "{value}s"?' if re.fullmatch(r"[0-9]{1,9}", value) else ""
            raise InvalidAmount(f'{field} must be a time such as "30s", "15m" or "24h", not {shown(value)}{hint}')
        exact = Decimal(f"{match[1]}.{match[2] or 0}") * _UNITS_MS[match[3]]
    elif not is_number(value):
        raise InvalidAmount(f'{field} must be a time such as "30s", or a number of seconds, not {shown(value)}')
    else:
        exact = Decimal(str(value)) * 1_000
    if not least_ms <= exact <= MAX_SPAN_MS:
        most = f"at most {MAX_SPAN_MS // _DAY_MS}d"
        raise InvalidAmount(f"{field} must be at least {least_ms}ms and {most}, not {shown(value)}")
    return ceil(exact)


def is_number(value: Any) -> bool:
    """Whether it is an int or a float, and one to reckon with: no bool, finite, at most 2**53 - 1."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= MAX_AMOUNT


def quoted(text: Any) -> str:
    """A name in double quotes, at most 60 ASCII characters."""
    shorter = json.dumps(text) if isinstance(text, str) else shown(text)
    return shorter if len(shorter) <= 60 else shorter[:56] + '..."'


def nearest(word: Any, known: Iterable[str]) -> str:
    """The hint for a word that is none of the known ones."""
    known = sorted(known)
    near = get_close_matches(word[:80], known, n=1) if isinstance(word, str) else []
    return f"did you mean {quoted(near[0])}?" if near else f"known are {', '.join(known)}"


def table_faults(entry: Mapping[str, Any], checks: Mapping[str, Check], required: Iterable[str] = ()) -> Iterator[str]:
    """Every fault of a table: keys that nobody knows, keys that are missing, and what the checks find."""
    for key in entry:
        if key not in checks:
            yield f"{key_path(key)} is not a known key; {nearest(key, checks)}"
    for key in required:
        if key not in entry:
            yield f"{key} is required"
    for key, check in checks.items():
        if key in entry:
            yield from check(key, entry[key])


def key_path(key: Any) -> str:
    """A key as TOML would write it in a path: bare where it can be."""
    return key if isinstance(key, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,60}", key) else quoted(key)


def one_of(*words: str) -> Check:
    """One of a few words."""

    def check(path: str, value: Any) -> Iterator[str]:
        if not isinstance(value, str) or value not in words:
            near = get_close_matches(value[:80].lower(), words, n=1) if isinstance(value, str) else []
            hint = f"; did you mean {quoted(near[0])}?" if near else ""
            yield f"{path} must be one of {', '.join(map(quoted, words))}, not {shown(value)}{hint}"

    return check


def a_span(least_ms: int) -> Check:
    """A length of time of at least so much, as `span_ms` takes it."""

    def check(path: str, value: Any) -> Iterator[str]:
        try:
            span_ms(value, path, least_ms)
        except InvalidAmount as error:
            yield str(error)

    return check


def milliseconds(least_ms: int) -> Check:
    """A whole number of ms of at least so much."""

    def check(path: str, value: Any) -> Iterator[str]:
        if type(value) is not int or not least_ms <= value <= MAX_SPAN_MS:
            yield f"{path} must be a whole number of ms from {least_ms} to {MAX_SPAN_MS}, not {shown(value)}"

    return check


def a_count(path: str, value: Any) -> Iterator[str]:
    """How many of something: at least one."""
    if type(value) is not int or not 1 <= value <= MAX_AMOUNT:
        yield f"{path} must be a whole number from 1 to {MAX_AMOUNT}, not {shown(value)}"


def a_share(path: str, value: Any) -> Iterator[str]:
    """A share of a whole: neither nothing nor all of it."""
    if not (is_number(value) and 0 < value < 1):
        yield f"{path} must be a number above 0 and below 1, such as 0.95, not {shown(value)}"


def a_flag(path: str, value: Any) -> Iterator[str]:
    """True or false."""
    if not isinstance(value, bool):
        yield f"{path} must be true or false, not {shown(value)}"


def a_zone(path: str, value: Any) -> Iterator[str]:
    """The IANA name of a time zone that this machine knows; `path` ends in `timezone`."""
    try:
        Period("calendar", name="day", zone=value)
    except InvalidLimit as error:
        yield path.removesuffix("timezone") + str(error)


def label_text(path: str, value: Any) -> Iterator[str]:
    """Text of 1 to 512 UTF-8 bytes."""
    fault = label_text_fault(value)
    if fault is not None:
        hint = f'; did you mean "{shown(value)}"?' if is_number(value) else ""
        yield f"{path} {fault}, not {shown(value)}{hint}"


def label_names(path: str, value: Any) -> Iterator[str]:
    """A list of different label names."""
    if not isinstance(value, (list, tuple)):
        hint = f"; did you mean [{quoted(value)}]?" if isinstance(value, str) else ""
        yield f'{path} must be a list of labels, such as ["agent"], not {shown(value)}{hint}'
        return
    seen = set()
    for number, name in enumerate(value):
        yield from label_text(f"{path}[{number}]", name)
        if isinstance(name, str) and name in seen:
            yield f"{path}[{number}] names {quoted(name)} again: keep it once"
        seen.add(name if isinstance(name, str) else None)


def label_values(path: str, value: Any) -> Iterator[str]:
    """A mapping of label names to texts."""
    if not isinstance(value, Mapping):
        yield f'{path} must map labels to values, such as {{ team = "search" }}, not {shown(value)}'
        return
    for name, text in value.items():
        fault = label_text_fault(name)
        if fault is not None:
            yield f"{path}.{key_path(name)}: a label's name {fault}"
        yield from label_text(f"{path}.{key_path(name)}", text)


def a_namespace(path: str, value: Any) -> Iterator[str]:
    """A short plain name: it becomes part of keys and of file names."""
    if not isinstance(value, str) or not _NAMESPACE.fullmatch(value):
        yield f'{path} must be 1 to 100 letters, digits, ".", "_" or "-", such as "prod", not {shown(value)}'


def _is_plain(value: Any) -> bool:
    """Whether it is text that can be a path: no NUL, no lone surrogates."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def a_path(path: str, value: Any) -> Iterator[str]:
    """The path of a file; None: the default."""
    if value is not None and not (_is_plain(value) and value):
        yield f'{path} must be the path of a file in quotes, such as "spool.db", not {shown(value)}'


def a_secret(variable: str) -> Check:
    """A key of at least sixteen bytes, which no error shows; None: there is none. `variable`: where it may stand."""

    def check(path: str, value: Any) -> Iterator[str]:
        if value is not None and not (_is_plain(value) and len(value.encode()) >= LEAST_SECRET_BYTES):
            yield f'{path} must be a text of at least {LEAST_SECRET_BYTES} bytes, such as "${{{variable}}}"'

    return check


def a_store_url(path: str, value: Any) -> Iterator[str]:
    """The URL of a store; None: the default. Of a wrong one only the scheme is shown: the rest may hold a password."""
    if value is None:
        return
    if not isinstance(value, str):
        yield f'{path} must be a URL in quotes, such as "sqlite:///budgets.db", not {type(value).__name__}'
        return
    scheme, colon, rest = value.partition("://")
    if colon and rest and scheme in STORE_SCHEMES and (scheme != "sqlite" or rest.strip("/")) and _is_plain(rest):
        if scheme == "sqlite" and not rest.startswith("/"):
            yield f"{path} must have three slashes, as in sqlite:///budgets.db (four before an absolute path)"
        return
    shape = f"begins with {shown(scheme)}" if colon else "has no ://"
    yield f"{path} must be a URL such as sqlite:///budgets.db; it {shape}"


def a_ledger_url(path: str, value: Any) -> Iterator[str]:
    """The URL of a SQL ledger; None: none. Of a wrong one nothing is shown: it may hold a password."""
    if value is None or (isinstance(value, str) and _is_plain(value) and _LEDGER_URL.fullmatch(value)):
        return
    yield f'{path} must be a URL such as "sqlite:///ledger.db" or "postgresql://user:password@host/database"'


def a_table(faults: Callable[[Mapping[str, Any]], Iterable[str]]) -> Check:
    """A TOML table in which `faults` finds nothing."""

    def check(path: str, value: Any) -> Iterator[str]:
        if isinstance(value, Mapping):
            yield from (f"{path}.{fault}" for fault in faults(value))
        else:
            yield f"{path} must be a table: write [{path}] and its keys below, not {shown(value)}"

    return check


def tables(faults: Callable[[Mapping[str, Any]], Iterable[str]]) -> Check:
    """A TOML array of tables in each of which `faults` finds nothing. Those with a name are shown by it."""

    def check(path: str, value: Any) -> Iterator[str]:
        if not isinstance(value, list):
            hint = "two brackets" if isinstance(value, Mapping) else "its keys below"  # it may be a webhook: a secret
            yield f"{path} must be a list of tables: write [[{path}]] with {hint}"
            return
        for place, entry in enumerate(value):
            if not isinstance(entry, Mapping):
                yield f"{path}[{place}] must be a table: write [[{path}]] and its keys below"
                continue
            yield from (in_table(path, place, entry, fault) for fault in faults(entry))

    return check


def in_table(path: str, place: int, entry: Mapping[str, Any], fault: str) -> str:
    """A fault of one table of an array, with its place and, if it has one, its name."""
    name = entry.get("name")
    return f"{path}[{place}].{fault}" + (f" (in {quoted(name)})" if isinstance(name, str) and name else "")
