"""Which price holds for a call: by name, by glob, by the instant of its admission."""

from __future__ import annotations

import pickle
from datetime import UTC, date, datetime, timedelta, timezone
from fnmatch import fnmatchcase
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budgetguard.errors import ConfigError
from budgetguard.price import Price
from budgetguard.pricing import PriceTable

DAY_MS = 86_400_000


def ms(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp()) * 1000


def dollars(usd: str) -> dict[str, str]:
    return {"input": usd, "output": usd}


def test_an_exact_name_beats_a_glob_and_a_longer_glob_a_shorter_one() -> None:
    prices = [Price(model, dollars("1")) for model in ("acme-*", "*", "acme-mini", "acme-mini-*", "acme-m*")]
    table = PriceTable(prices)
    found = {name: table.find(name, 0) for name in ("acme-mini", "acme-mini-2", "acme-max", "acme-", "other", "Acme-x")}
    assert {name: price and price.model for name, price in found.items()} == {
        "acme-mini": "acme-mini",
        "acme-mini-2": "acme-mini-*",
        "acme-max": "acme-m*",
        "acme-": "acme-*",
        "other": "*",
        "Acme-x": "*",
    }


def test_a_short_exact_name_beats_a_longer_glob_and_a_name_may_look_like_a_glob() -> None:
    table = PriceTable([Price("a[b]", dollars("1")), Price("a[b][b]*****", dollars("2")), Price("ab", dollars("3"))])
    assert table.find("ab", 0) == Price("ab", dollars("3"))
    assert table.find("a[b]", 0) == Price("a[b]", dollars("1"))
    assert table.find("abb", 0) == Price("a[b][b]*****", dollars("2"))
    assert table.find("A[b]", 0) is None


@given(pattern=st.text("ab*?[]!-\n", min_size=1, max_size=7), model=st.text("ab-]\n", max_size=7))
@settings(max_examples=300, deadline=None)
def test_globs_match_as_fnmatchcase(pattern: str, model: str) -> None:
    found = PriceTable([Price(pattern, dollars("1"))]).find(model, 0)
    assert (found is not None) == (pattern == model or fnmatchcase(model, pattern))


def test_the_latest_price_not_after_the_admission_holds_also_when_times_go_back_and_forth() -> None:
    old = Price("m", dollars("1"))
    january = Price("m", dollars("2"), valid_from=date(2026, 1, 1))
    july = Price("m", dollars("3"), valid_from=datetime(2026, 7, 1, 12))  # noqa: DTZ001  # without a zone: UTC
    table = PriceTable([july, old, january])
    new_year, noon = ms(2026, 1, 1), ms(2026, 7, 1, 12)
    times = [0, new_year - 1, new_year, noon - 1, noon, noon + 10 * DAY_MS, -ms(2026, 1, 1)]
    want = [old, old, january, january, july, july, old]
    for _ in range(2):
        assert [table.find("m", at) for at in times] == want
        assert [table.find("m", at) for at in reversed(times)] == want[::-1]


def test_a_price_that_is_not_valid_yet_leaves_the_call_to_the_next_best() -> None:
    glob, exact = Price("acme-*", dollars("1")), Price("acme-1", dollars("2"), valid_from=date(2026, 1, 1))
    table = PriceTable([glob, exact])
    assert table.find("acme-1", ms(2026, 1, 1) - 1) is glob
    assert table.find("acme-1", ms(2026, 1, 1)) is exact
    assert table.find("acme-1", ms(2025, 1, 1)) is glob
    assert PriceTable([exact]).find("acme-1", ms(2026, 1, 1) - 1) is None


@pytest.mark.parametrize(
    ("valid_from", "first_ms"),
    [
        (date(2026, 1, 1), ms(2026, 1, 1)),
        (datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2))), ms(2025, 12, 31, 22)),
        (datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC), ms(2026, 1, 1) + 1),
        (datetime(2026, 1, 1, 0, 0, 0, 999_000, tzinfo=UTC), ms(2026, 1, 1) + 999),
        (date(1969, 12, 31), -DAY_MS),
    ],
)
def test_valid_from_is_the_first_millisecond_of_a_price(valid_from: date, first_ms: int) -> None:
    table = PriceTable([Price("m", dollars("1"), valid_from=valid_from)])
    assert table.find("m", first_ms - 1) is None
    assert table.find("m", first_ms) is not None


def test_one_model_text_and_one_valid_from_twice_is_refused_with_every_case() -> None:
    day = date(2026, 1, 1)
    midnight = datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    prices = [
        Price("m", dollars("1")),
        Price("a*", dollars("1"), valid_from=day),
        Price("m", dollars("1")),
        Price("a*", dollars("2"), valid_from=midnight),
        Price("m", dollars("1"), valid_from=day),
    ]
    with pytest.raises(ConfigError) as caught:
        PriceTable(prices)
    assert len(caught.value.faults) == 2
    assert "'m' is given twice" in str(caught.value)
    assert "'a*' valid from 2026-01-01T01:00:00+01:00 is given twice" in str(caught.value)


def test_globs_of_one_length_that_both_match_tie_and_are_named_every_time() -> None:
    table = PriceTable([Price("ac*", dollars("1")), Price("*me", dollars("2")), Price("acme-1", dollars("3"))])
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"'ac\*' and the price of '\*me' tie for the model 'acme'"):
            table.find("acme", 0)
    assert table.find("ac-1", 0) == Price("ac*", dollars("1"))
    assert table.find("acme-1", 0) == Price("acme-1", dollars("3"))


def test_globs_of_one_length_are_told_apart_by_valid_from() -> None:
    late = Price("*me", dollars("2"), valid_from=date(2026, 1, 1))
    table = PriceTable([Price("ac*", dollars("1")), late])
    assert table.find("acme", ms(2026, 1, 1)) is late
    assert table.find("acme", ms(2026, 1, 1) - 1) == Price("ac*", dollars("1"))


NAMES = ["a", "ab", "abc", "b"]
PRICES = st.lists(
    st.builds(
        lambda model, day: (model, None if day == 0 else date(1970, 1, day)),
        st.sampled_from([*NAMES, "*", "a*", "*b", "ab*", "a?", "?b*"]),
        st.integers(0, 4),
    ),
    max_size=7,
    unique=True,
)


@settings(max_examples=200, deadline=None)
@given(entries=PRICES, asked=st.lists(st.tuples(st.sampled_from(NAMES), st.integers(-1, 5)), max_size=12))
def test_find_follows_the_rule_whatever_was_asked_before(
    entries: list[tuple[str, date | None]], asked: list[tuple[str, int]]
) -> None:
    table = PriceTable([Price(model, dollars("1"), valid_from=start) for model, start in entries])
    for model, day in asked:

        def days(start: date | None) -> float:
            return -inf if start is None else start.day - 1

        holding = [
            (text == model, len(text), days(start), text)
            for text, start in entries
            if (text == model or fnmatchcase(model, text)) and days(start) <= day
        ]
        best = max((rank[:3] for rank in holding), default=None)
        texts = {rank[3] for rank in holding if rank[:3] == best}
        if len(texts) > 1:
            with pytest.raises(ConfigError, match="tie"):
                table.find(model, day * DAY_MS)
        else:
            found = table.find(model, day * DAY_MS)
            assert (found and (found.model, days(found.valid_from))) == (
                (texts.pop(), best[2]) if best is not None else None
            )


def test_what_find_keeps_has_a_bound() -> None:
    table = PriceTable([Price("acme-*", dollars("1"))])
    for n in range(5_000):
        assert table.find(f"acme-{n}", 0) is not None
        assert table.find(f"other-{n}", 0) is None
    assert len(pickle.dumps(table)) < 100_000
