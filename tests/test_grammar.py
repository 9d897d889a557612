"""The text of a limit: what is read, what is refused and with which advice, and that what is written reads back."""

from __future__ import annotations

import re
from typing import Any

import limits
import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgetguard.core.amounts import MAX_AMOUNT, UNITS, shown
from budgetguard.core.grammar import format_limit, limit_from, parse_limit
from budgetguard.core.model import Limit
from budgetguard.core.periods import MAX_SPAN_MS, Period
from budgetguard.errors import InvalidLimit

HOUR, DAY, MINUTE = (Period("calendar", name=name) for name in ("hour", "day", "minute"))
TOTAL, CONCURRENT = Period("total"), Period("concurrent")
TEN_MINUTES = Period("rolling", span_ms=600_000)
USD = 10**9

READ = [
    ("5M tokens/hour", Limit(5_000_000, "tokens", HOUR), "5M tokens/hour"),
    ("5M tokens/1 hour", Limit(5_000_000, "tokens", HOUR), "5M tokens/hour"),
    ("500k tokens per hour", Limit(500_000, "tokens", HOUR), "500k tokens/hour"),
    ("  500K Tokens  PER  Hour ", Limit(500_000, "tokens", HOUR), "500k tokens/hour"),
    ("5_000_000 input_tokens/day", Limit(5_000_000, "input_tokens", DAY), "5M input_tokens/day"),
    ("1.5M output_tokens / day", Limit(1_500_000, "output_tokens", DAY), "1.5M output_tokens/day"),
    ("1500 tokens/day", Limit(1_500, "tokens", DAY), "1500 tokens/day"),
    ("2B tokens/month", Limit(2 * 10**9, "tokens", Period("calendar", name="month")), "2B tokens/month"),
    ("0 requests/week", Limit(0, "requests", Period("calendar", name="week")), "0 requests/week"),
    ("9_007_199_254_740_991 tokens/day", Limit(MAX_AMOUNT, "tokens", DAY), "9007199254740991 tokens/day"),
    ("$50/day", Limit(50 * USD, "usd", DAY), "$50/day"),
    ("50usd/day", Limit(50 * USD, "usd", DAY), "$50/day"),
    ("50 USD per day", Limit(50 * USD, "usd", DAY), "$50/day"),
    ("50 $/day", Limit(50 * USD, "usd", DAY), "$50/day"),
    ("$0.50/hour", Limit(USD // 2, "usd", HOUR), "$0.5/hour"),
    ("$5k/day", Limit(5_000 * USD, "usd", DAY), "$5k/day"),
    ("$1.25k/day", Limit(1_250 * USD, "usd", DAY), "$1250/day"),
    ("$0.000000001/day", Limit(1, "usd", DAY), "$0.000000001/day"),
    ("$9007199.254740991/day", Limit(MAX_AMOUNT, "usd", DAY), "$9007199.254740991/day"),
    ("600 requests/minute", Limit(600, "requests", MINUTE), "600 requests/minute"),
    ("200k tokens/rolling 10 minutes", Limit(200_000, "tokens", TEN_MINUTES), "200k tokens/rolling 10 minutes"),
    ("$2/rolling 60 minutes", Limit(2 * USD, "usd", Period("rolling", span_ms=3_600_000)), "$2/rolling hour"),
    ("$2/total", Limit(2 * USD, "usd", TOTAL), "$2/total"),
    ("20 concurrent", Limit(20, "concurrent", CONCURRENT), "20 concurrent"),
]


@pytest.mark.parametrize(("text", "limit", "shortest"), READ)
def test_a_text_is_read_and_written(text: str, limit: Limit, shortest: str) -> None:
    assert parse_limit(text) == limit
    assert limit_from(text) == limit
    assert format_limit(limit) == shortest
    assert parse_limit(shortest) == limit


REFUSED = [
    ("$2", "write '$2/day', or '$2/total'"),
    ("200k tokens", "write '200k tokens/day', or '200k tokens/total'"),
    ("5 tokens/2 hours", "write 'rolling 2 hours'"),
    ("5 tokens/3 months", "write 'rolling 90 days'"),
    ("5 tokens/second", "second is not a period; the shortest is minute"),
    ("5 tokens/30 seconds", "second is not a period"),
    ("5 tokens/rolling 30 seconds", "second is not a period"),
    ("5 tokens/year", "year is not a period; use month"),
    ("5 tokens/rolling year", "year is not a period"),
    ("5 tokens/rolling month", "write 'rolling 30 days'"),
    ("5 tokens/rolling 2 months", "write 'rolling 60 days'"),
    ("5 tokens/rolling 0 minutes", "from 1 minute to 3660 days"),
    ("5 tokens/rolling 3661 days", "from 1 minute to 3660 days"),
    ("5 tokens/rolling", "period 'rolling' is not known"),
    ("5 tokens/hourr", "did you mean hour?"),
    ("5 tokens/hours", "did you mean hour?"),
    ("5 tokens/totals", "did you mean total?"),
    ("5 tokens/hour/day", "period 'hour/day' is not known"),
    ("5 tokens/", "period '' is not known"),
    ("20 concurrent/hour", "concurrent has no period; write '20 concurrent'"),
    ("20 concurrent/total", "concurrent has no period"),
    ("5 tokns/hour", "did you mean tokens?"),
    ("1 request/hour", "did you mean requests?"),
    ("5 input tokens/hour", "did you mean input_tokens?"),
    ("5 bananas/hour", "it must be one of tokens, input_tokens, output_tokens, usd, requests, concurrent"),
    ("5/hour", "it has no unit"),
    ("$5 tokens/hour", "an amount in $ has no other unit"),
    ("$5 usd/hour", "an amount in $ has no other unit"),
    ("1.5 tokens/hour", "tokens must be a whole number"),
    ("1.0001k tokens/hour", "tokens must be a whole number"),
    ("$0.0000000001/hour", "dollars have at most nine decimals"),
    ("9007199254740992 tokens/day", "amount must be from 0 to 2**53 - 1"),
    ("$9007199.254740992/day", "amount in nano-dollars must be from 0 to 2**53 - 1"),
    ("9" * 150 + "B tokens/day", "must be from 0 to 2**53 - 1"),
    *(
        (f"{number} tokens/day", "a plain amount such as 5M")
        for number in (
            "-5",
            "+5",
            "NaN",
            "inf",
            "1e3",
            "1E3",
            "0x10",
            "5,000",
            "5__0",
            "_5",
            "5_",
            ".5",
            "5.",
            "5m",
            "5 k",
            "",
        )
    ),
    ("-$5/day", "a plain amount"),
    ("$-5/day", "a plain amount"),
    ("", "a plain amount"),
    ("/", "a plain amount"),
    ("\u0665 tokens/day", "must be plain text"),
    ("\uff15 tokens/day", "must be plain text"),
    ("5 tokens/day\n", "must be plain text"),
    ("5 tokens\0/day", "must be plain text"),
    ("5 tokens/day\ud800", "must be plain text"),
    ("5" * 5_000_000, "must be plain text of at most 200"),
    (5, "must be plain text"),
    (b"$5/day", "must be plain text"),
]


@pytest.mark.parametrize(("text", "advice"), REFUSED, ids=shown)
def test_what_is_refused_is_shown_with_advice(text: Any, advice: str) -> None:
    with pytest.raises(InvalidLimit) as refused:
        parse_limit(text)
    message = str(refused.value)
    assert len(message) < 400
    assert advice in message
    assert message.startswith("limit ")
    assert message.isascii()
    assert ascii(text)[:50] in message


def test_a_text_without_a_period_is_a_total_only_where_that_is_asked_for() -> None:
    assert parse_limit("$2", default_period="total") == Limit(2 * USD, "usd", TOTAL)
    assert limit_from("200k tokens", default_period="total") == Limit(200_000, "tokens", TOTAL)
    assert parse_limit("$2/day", default_period="total") == Limit(2 * USD, "usd", DAY)
    assert parse_limit("3 concurrent", default_period="total") == Limit(3, "concurrent", CONCURRENT)


def test_the_zone_is_that_of_calendar_periods_alone() -> None:
    assert parse_limit("$5/day", "Europe/Berlin").period == Period("calendar", name="day", zone="Europe/Berlin")
    assert parse_limit("$5/total", "Europe/Berlin").period == TOTAL
    assert parse_limit("5 tokens/rolling 10 minutes", "Europe/Berlin").period == TEN_MINUTES
    with pytest.raises(InvalidLimit, match=re.escape("did you mean Europe/Berlin?")):
        parse_limit("$5/day", "Europe/Berln")


@st.composite
def any_limits(draw: st.DrawFn) -> Limit:
    """Every limit that a text can say, in UTC."""
    round_ones = st.builds(lambda n, zeros: n * 10**zeros, st.integers(0, 9_999), st.integers(0, 11))
    amount = draw(st.integers(0, MAX_AMOUNT) | round_ones)
    unit = draw(st.sampled_from(UNITS))
    if unit == "concurrent":
        return Limit(amount, unit, CONCURRENT)
    named = st.sampled_from(["minute", "hour", "day", "week", "month"]).map(lambda name: Period("calendar", name=name))
    sliding = st.integers(1, MAX_SPAN_MS // 60_000).map(lambda minutes: Period("rolling", span_ms=minutes * 60_000))
    return Limit(amount, unit, draw(named | sliding | st.just(TOTAL)))


@given(any_limits())
def test_what_is_written_reads_back_and_is_no_longer_than_the_plain_number(limit: Limit) -> None:
    text = format_limit(limit)
    assert parse_limit(text) == limit
    if limit.unit != "usd":
        assert len(text.split(" ")[0]) <= len(str(limit.amount))


PIECES = ["$", "5", "0", "1.5", "_", "k", "M", "B", " ", "/", "per", "usd", "tokens", "requests", "concurrent", "hour",
          "rolling", "10", "minutes", "month", "total", "-", "e3", "NaN", "\n", "\u0665", "\0", "9" * 30]  # fmt: skip


@given(st.text(max_size=30) | st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_hostile_text_is_refused_by_a_typed_error_or_means_what_it_says(text: str) -> None:
    try:
        limit = parse_limit(text)
    except InvalidLimit:
        return
    assert 0 <= limit.amount <= MAX_AMOUNT
    assert parse_limit(format_limit(limit)) == limit


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        (("tokens", limits.RateLimitItemPerHour(500_000)), Limit(500_000, "tokens", HOUR)),
        (("requests", limits.RateLimitItemPerMinute(600, 1)), Limit(600, "requests", MINUTE)),
        (("usd", limits.RateLimitItemPerDay(5)), Limit(5 * USD, "usd", DAY)),
        (("$", limits.parse("5/month")), Limit(5 * USD, "usd", Period("calendar", name="month"))),
        (Limit(7, "tokens", TEN_MINUTES), Limit(7, "tokens", TEN_MINUTES)),
        (Limit(20, "concurrent", CONCURRENT), Limit(20, "concurrent", CONCURRENT)),
    ],
)
def test_limits_and_items_of_the_limits_library_are_taken(value: Any, limit: Limit) -> None:
    assert limit_from(value) == limit


def test_an_item_of_the_limits_library_takes_the_zone() -> None:
    limit = limit_from(("usd", limits.RateLimitItemPerDay(5)), "Europe/Berlin")
    assert limit == parse_limit("$5/day", "Europe/Berlin")


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (("tokens", limits.RateLimitItemPerHour(5, 2)), "write 'rolling 2 hours'"),
        (("tokens", limits.RateLimitItemPerSecond(5)), "second is not a period"),
        (("tokens", limits.RateLimitItemPerYear(5)), "year is not a period"),
        (("concurrent", limits.RateLimitItemPerHour(5)), "concurrent has no period"),
        (("tokns", limits.RateLimitItemPerHour(5)), "or (unit, RateLimitItem)"),
        (("tokens", limits.RateLimitItemPerHour(-5)), "amount must be from 0"),
        (("tokens", limits.RateLimitItemPerHour(10**5000)), "amount must be from 0"),
        (("usd", limits.RateLimitItemPerHour(9_007_200)), "2**53 - 1"),
        (("tokens", 5), "or (unit, RateLimitItem)"),
        (([], limits.RateLimitItemPerHour(5)), "or (unit, RateLimitItem)"),
        (limits.RateLimitItemPerHour(5), "or (unit, RateLimitItem)"),
        (5, "or (unit, RateLimitItem)"),
        (None, "or (unit, RateLimitItem)"),
        ((), "or (unit, RateLimitItem)"),
        (Limit(-1, "tokens", DAY), "amount must be from 0"),
        (Limit(2**53, "tokens", DAY), "amount must be from 0"),
        (Limit(1.5, "tokens", DAY), "amount must be a whole number"),  # type: ignore[arg-type]
        (Limit(True, "tokens", DAY), "amount must be a whole number"),
        (Limit(5, "bananas", DAY), "its unit must be one of"),  # type: ignore[arg-type]
        (Limit(5, "tokens", "day"), "its period a Period"),  # type: ignore[arg-type]
        (Limit(5, "concurrent", DAY), "concurrent goes with"),
        (Limit(5, "tokens", CONCURRENT), "concurrent goes with"),
    ],
    ids=shown,
)
def test_other_values_are_refused_with_advice(value: Any, advice: str) -> None:
    with pytest.raises(InvalidLimit, match=re.escape(advice)):
        limit_from(value)
