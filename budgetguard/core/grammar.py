"""The text of a limit: "5M tokens/hour", "$50/day", "200k tokens/rolling 10 minutes", "20 concurrent", "$2/total"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from fractions import Fraction
from typing import Any, Literal, NoReturn

from budgetguard.core.amounts import UNITS, Unit, check_amount, shown
from budgetguard.core.model import Limit
from budgetguard.core.periods import CALENDAR_NAMES, MAX_SPAN_MS, SPAN_UNITS_MS, Period
from budgetguard.errors import InvalidAmount, InvalidLimit

_USD_DIGITS = 9
_SUFFIX_DIGITS = {"": 0, "k": 3, "M": 6, "B": 9}
_AMOUNT_AND_UNIT = re.compile(r"(\$ ?)?([0-9]+(?:_[0-9]+)*)(?:\.([0-9]+))?([kKMB]?) ?(\$|[A-Za-z_]{2,}[A-Za-z_ ]*|)")
_COUNTED_PERIOD = re.compile(r"(?:([0-9]{1,9}) )?([a-z]+)")
_LONGEST = 200


def parse_limit(text: str, zone: str = "UTC", *, default_period: Literal["total"] | None = None) -> Limit:
    """A limit from its text: amount, unit, "/" or "per", period. Units and periods in any case.

    Amounts are plain numbers, with underscores or a suffix k, M or B if one likes; dollars have up to nine decimals.
    `zone` is that of calendar periods; `default_period` is for a text without a period, otherwise an error.

    Raises:
        InvalidLimit: shows the text, what is wrong with it and what to write instead.
    """
    if type(text) is not str or not (text.isascii() and text.isprintable() and len(text) <= _LONGEST):
        _refuse(text, f"must be plain text of at most {_LONGEST} characters, such as '5M tokens/hour'")
    head, *tail = re.split(r" */ *| +per +", text.strip(), maxsplit=1, flags=re.IGNORECASE)
    unit, amount = _parse_amount(text, head)
    if unit == "concurrent":
        if tail:
            _refuse(text, f"concurrent has no period; write {head!a}")
        return Limit(amount, unit, Period("concurrent"))
    if not tail and default_period is None:
        _refuse(text, f"it has no period; write '{head}/day', or '{head}/total' for one that never resets")
    return Limit(amount, unit, _parse_period(text, tail[0].lower() if tail else "total", zone))


def limit_from(value: Any, zone: str = "UTC", *, default_period: Literal["total"] | None = None) -> Limit:
    """A limit from a `Limit`, its text, or a unit beside a `RateLimitItem` of the `limits` library.

    `("tokens", RateLimitItemPerHour(500_000))` is "500k tokens/hour"; beside "usd" the item's amount is dollars.
    `zone` and `default_period` are as in `parse_limit`; a `Limit` keeps its own.

    Raises:
        InvalidLimit: names what is wrong.
    """
    if isinstance(value, str):
        return parse_limit(value, zone, default_period=default_period)
    if isinstance(value, Limit):
        if value.unit not in UNITS or not isinstance(value.period, Period):
            _refuse(value, "its unit must be one of " + ", ".join(UNITS) + ", and its period a Period")
        if (value.unit == "concurrent") != (value.period.kind == "concurrent"):
            _refuse(value, "the unit concurrent goes with the period concurrent, and no other")
        _check(value, value.amount, "amount")
        return value
    unit, item = value if isinstance(value, tuple) and len(value) == 2 else (None, None)
    granularity = getattr(getattr(item, "GRANULARITY", None), "name", None)
    if unit not in (*UNITS, "$") or not isinstance(granularity, str):
        _refuse(value, "must be a text such as '5M tokens/hour', a Limit, or (unit, RateLimitItem)")
    amount = _check(value, getattr(item, "amount", None), "amount")
    multiples = _check(value, getattr(item, "multiples", None), "multiples")
    return parse_limit(f"{amount} {unit}/{multiples} {granularity}", zone)


def format_limit(limit: Limit) -> str:
    """The shortest text that `parse_limit` reads as this limit, apart from its zone: "$5/day", "20 concurrent".

    A rolling period that is not in whole minutes has no such text; it is shown in ms.
    """
    dollar, digits, word = ("$", _USD_DIGITS, "") if limit.unit == "usd" else ("", 0, f" {limit.unit}")
    numbers = [_number(limit.amount, digits + more) + suffix for suffix, more in _SUFFIX_DIGITS.items()]
    period = limit.period.label
    return dollar + min(numbers, key=len) + word + (f"/{period}" if period else "")


def _parse_amount(text: str, head: str) -> tuple[Unit, int]:
    """Unit and amount (dollars as nano-dollars) of "5M tokens" or "$50"."""
    match = _AMOUNT_AND_UNIT.fullmatch(head)
    if not match:
        _refuse(text, "it must begin with a plain amount such as 5M, 500k or 5_000_000 and its unit, or $50")
    dollar, whole, decimals, suffix, word = match.groups(default="")
    unit = "usd" if word == "$" else word.lower()
    if dollar:
        if unit:
            _refuse(text, f"an amount in $ has no other unit, but {word!a} follows it")
        unit = "usd"
    if unit not in UNITS:
        problem = f"unit {word!a} is not known" if word else "it has no unit"
        _refuse(text, f"{problem}; {_nearest(unit, UNITS)}")
    scale = (_USD_DIGITS if unit == "usd" else 0) + _SUFFIX_DIGITS["k" if suffix == "K" else suffix]
    exact = Fraction(int(whole + decimals), 10 ** len(decimals)) * 10**scale
    if exact.denominator != 1:
        _refuse(text, f"{'dollars have at most nine decimals' if unit == 'usd' else f'{unit} must be a whole number'}")
    return unit, _check(text, exact.numerator, "amount in nano-dollars" if unit == "usd" else "amount")


def _parse_period(text: str, words: str, zone: str) -> Period:
    """The period of "hour", "1 hour", "rolling 10 minutes" or "total"."""
    if words == "total":
        return Period("total")
    rolling = words.startswith("rolling ")
    match = _COUNTED_PERIOD.fullmatch(words.removeprefix("rolling "))
    if not match:
        _refuse(text, f"period {words!a} is not known; write hour, day, 'rolling 10 minutes', total ...")
    count = int(match[1] or 1)
    name = match[2].removesuffix("s") if match[1] else match[2]
    if name.removesuffix("s") == "second":
        _refuse(text, "second is not a period; the shortest is minute")
    if name.removesuffix("s") == "year":
        _refuse(text, "year is not a period; use month, 'rolling 365 days' or total")
    if name not in CALENDAR_NAMES:
        names = SPAN_UNITS_MS if rolling else (*CALENDAR_NAMES, "total", "rolling 10 minutes")
        _refuse(text, f"period {match[2]!a} is not known; {_nearest(name, tuple(names))}")
    days = f"'rolling {30 * count} days'"
    if not rolling and count != 1:
        wanted = days if name == "month" else f"'rolling {count} {name}s'"
        _refuse(text, f"'{count} {name}s' does not say when it begins; write {wanted} for one that slides, or {name}")
    if not rolling:
        return Period("calendar", name=name, zone=zone)
    if name == "month":
        _refuse(text, f"a rolling month has no fixed length; write {days}")
    if not 0 < count * SPAN_UNITS_MS[name] <= MAX_SPAN_MS:
        _refuse(text, f"a rolling period is from 1 minute to {MAX_SPAN_MS // SPAN_UNITS_MS['day']} days")
    return Period("rolling", span_ms=count * SPAN_UNITS_MS[name])


def _number(amount: int, digits: int) -> str:
    """`amount / 10**digits` as an exact plain decimal."""
    text = str(amount).zfill(digits + 1)
    whole, decimals = (text[:-digits], text[-digits:].rstrip("0")) if digits else (text, "")
    return f"{whole}.{decimals}" if decimals else whole


def _nearest(word: str, known: Sequence[str]) -> str:
    near = get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else f"it must be one of {', '.join(known)}"


def _check(value: Any, amount: Any, field: str) -> int:
    try:
        return check_amount(amount, field)
    except InvalidAmount as error:
        raise InvalidLimit(f"limit {shown(value)}: {error}") from None


def _refuse(value: Any, problem: str) -> NoReturn:
    raise InvalidLimit(f"limit {shown(value)}: {problem}")
