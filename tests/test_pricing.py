"""What a call costs is exact to the nano-dollar and rounded up once; a wrong price is refused by its field."""

from __future__ import annotations

import copy
import pickle
import tomllib
from datetime import date
from decimal import Decimal
from fractions import Fraction
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budgetguard.core.amounts import MAX_AMOUNT
from budgetguard.errors import InvalidAmount, InvalidInput
from budgetguard.price import RATES, Price, price_faults
from budgetguard.pricing import PriceTable, cost_of
from budgetguard.usage import Usage

IO = {"input": "0.15", "output": "0.60"}


def dollars(usd: str) -> dict[str, str]:
    return {"input": usd, "output": usd}


def test_a_call_costs_each_kind_of_token_at_its_own_rate() -> None:
    rates = {"input": "1", "output": "10", "cache_read": "0.1", "cache_write": "1.25", "cache_write_1h": "2"}
    price = Price("m", rates, "0.01")
    usage = Usage(1_000_000, 100_000, 400_000, 300_000, 200_000, 50_000)
    # 300,000 plain, 400,000 read, 100,000 + 200,000 written, 100,000 out (reasoning is a part of them), one request
    want = Decimal("0.3") + Decimal("0.04") + Decimal("0.125") + Decimal("0.4") + 1 + Decimal("0.01")
    assert price.cost_nanousd(usage) == int(want * 10**9)


def test_an_absent_rate_is_that_of_the_whole_it_belongs_to() -> None:
    usage = Usage(900, 100, 300, 400, 200)
    plain = Price("m", {"input": "3", "output": "15"})
    assert plain.cost_nanousd(usage) == plain.cost_nanousd(Usage(900, 100))
    written = Price("m", {"input": "3", "output": "15", "cache_write": "6"})
    assert written.cost_nanousd(usage) == plain.cost_nanousd(usage) + 400 * 3000
    hour = Price("m", {"input": "3", "output": "15", "cache_write_1h": "6"})
    assert hour.cost_nanousd(usage) == plain.cost_nanousd(usage) + 200 * 3000


def test_a_price_for_each_request_alone_makes_tokens_free() -> None:
    assert Price("m", usd_per_request="0.012").cost_nanousd(Usage(10**9, 10**9)) == 12_000_000
    assert Price("m", dollars("0")).cost_nanousd(Usage(10**9, 10**9)) == 0


def test_the_cost_is_rounded_up_once() -> None:
    price = Price("m", {"input": "0.0001", "output": "0.0001"})  # a tenth of a nano-dollar for each token
    assert price.cost_nanousd(Usage(0, 0)) == 0
    assert price.cost_nanousd(Usage(1, 0)) == 1
    assert price.cost_nanousd(Usage(5, 5)) == 1
    assert price.cost_nanousd(Usage(6, 5)) == 2


RATE = st.decimals(0, 2000, places=9) | st.decimals(0, "0.001", places=18) | st.integers(0, 500).map(Decimal)
RATE_TABLE = st.fixed_dictionaries(
    {"input": RATE, "output": RATE}, optional={"cache_read": RATE, "cache_write": RATE, "cache_write_1h": RATE}
)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    plain, read, short, hour, output = (draw(st.integers(0, 2_000_000)) for _ in range(5))
    reasoning = draw(st.integers(0, output))
    return Usage(plain + read + short + hour, output, read, short + hour, hour, reasoning)


@settings(max_examples=300, deadline=None)
@given(rates=RATE_TABLE, request=st.none() | RATE, usage=usages(), form=st.sampled_from([str, Decimal]))
def test_the_cost_is_never_below_the_exact_one_and_less_than_a_nano_dollar_above(
    rates: dict[str, Decimal], request: Decimal | None, usage: Usage, form: Any
) -> None:
    price = Price("m", {key: form(rate) for key, rate in rates.items()}, None if request is None else form(request))
    full = {
        "cache_read": rates["input"],
        "cache_write": rates["input"],
        "cache_write_1h": rates.get("cache_write", rates["input"]),
        **rates,
    }
    tokens = {
        "input": usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens,
        "output": usage.output_tokens,
        "cache_read": usage.cache_read_tokens,
        "cache_write": usage.cache_write_tokens - usage.cache_write_1h_tokens,
        "cache_write_1h": usage.cache_write_1h_tokens,
    }
    usd = sum((Fraction(full[key]) * tokens[key] / 10**6 for key in RATES), Fraction(request or 0))
    cost = price.cost_nanousd(usage)
    assert isinstance(cost, int)
    assert 0 <= cost - usd * 10**9 < 1


def test_a_cost_above_the_bound_is_refused() -> None:
    price = Price("acme-1", dollars("1000000"))  # a dollar for each token
    assert price.cost_nanousd(Usage(9_007_199, 0)) == 9_007_199 * 10**9
    with pytest.raises(InvalidAmount, match=r"cost_usd of 9007200 input .*'acme-1' is above 2\*\*53 - 1"):
        price.cost_nanousd(Usage(9_007_200, 0))
    edge = Price("m", usd_per_request="9007199.254740991")
    assert edge.cost_nanousd(Usage(0, 0)) == MAX_AMOUNT


def test_the_source_of_a_cost_is_told() -> None:
    table = PriceTable([Price("acme-*", dollars("1"))])
    assert cost_of(table, "acme-1", Usage(1000, 0), 0) == (1_000_000, "price:acme-*")
    assert cost_of(table, "acme-1", Usage(1000, 0, cost_usd="0.5"), 0) == (500_000_000, "stated")
    assert cost_of(table, None, Usage(1000, 0, cost_usd=0), 0) == (0, "stated")
    assert cost_of(table, "other", Usage(1000, 0), 0) == (None, "unknown")
    assert cost_of(table, None, Usage(1000, 0), 0) == (None, "unknown")
    assert cost_of(PriceTable(), "acme-1", Usage(0, 0), 0) == (None, "unknown")


NO_DECIMALS = [0.15, nan, inf, -1, "-0.1", "NaN", "Infinity", "", "ten", True, [1], "1" * 50]


@pytest.mark.parametrize("bad", [*NO_DECIMALS, None])
@pytest.mark.parametrize("key", RATES)
def test_a_rate_that_is_no_exact_decimal_is_refused_by_its_key(key: str, bad: Any) -> None:
    with pytest.raises(InvalidAmount, match=rf"^usd_per_mtok\.{key} "):
        Price("m", IO | {key: bad})


@pytest.mark.parametrize("bad", NO_DECIMALS)
def test_a_price_for_each_request_that_is_no_exact_decimal_is_refused_by_its_name(bad: Any) -> None:
    with pytest.raises(InvalidAmount, match=r"^usd_per_request "):
        Price("m", IO, bad)


def test_a_float_is_told_to_go_into_quotes() -> None:
    with pytest.raises(InvalidAmount, match=r'put it in quotes, "0\.15"$'):
        Price("m", {"input": 0.15, "output": "0.6"})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"model": ""}, "model must be"),
        ({"model": 4}, "model must be"),
        ({"model": "\ud800"}, "model must be"),
        ({"model": "m" * 513}, "model must be"),
        ({"usd_per_mtok": None}, r"usd_per_mtok \(or usd_per_request\) is required"),
        ({"usd_per_mtok": {}}, "usd_per_mtok.input is required"),
        ({"usd_per_mtok": {"input": 1}}, 'usd_per_mtok.output is required; write "0"'),
        ({"usd_per_mtok": {}, "usd_per_request": 1}, "usd_per_mtok.input is required"),
        ({"usd_per_mtok": "0.15"}, "usd_per_mtok must say dollars by input, output"),
        ({"usd_per_mtok": [1]}, "usd_per_mtok must say dollars by input, output"),
        ({"usd_per_mtok": IO | {"cache_raed": 1}}, "usd_per_mtok.cache_raed is not known; did you mean cache_read"),
        ({"usd_per_mtok": IO | {"zzz": 1}}, "usd_per_mtok.zzz is not known; known are input, output, cache_read"),
        ({"usd_per_mtok": IO | {7: 1}}, "usd_per_mtok.7 is not known"),
        ({"valid_from": "2026-01-01"}, "valid_from must be a date or datetime, such as 2026-01-01 without quotes"),
        ({"valid_from": 1767225600}, "valid_from must be a date"),
    ],
)
def test_any_other_wrong_field_is_refused_by_its_name(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidInput, match="^" + text):
        Price(**({"model": "m", "usd_per_mtok": IO} | fields))


def test_the_table_of_a_policy_file_is_a_price() -> None:
    text = """
    [[price]]
    model = "acme-*"
    usd_per_mtok = { input = "0.15", output = "0.60", cache_read = "0.075" }
    usd_per_request = 1
    valid_from = 2026-01-01
    """
    (entry,) = tomllib.loads(text)["price"]
    rates = {"input": "0.15", "output": "0.60", "cache_read": "0.075"}
    assert price_faults(entry) == []
    assert Price(**entry) == Price("acme-*", rates, 1, date(2026, 1, 1))


def test_price_faults_lists_every_fault_of_an_entry_and_none_of_a_good_one() -> None:
    assert price_faults({"model": "acme-*", "usd_per_mtok": IO, "valid_from": date(2026, 1, 1)}) == []
    entry = {"model": "", "usd_per_mtok": {"input": 0.15, "ouput": "1"}, "valid_form": "x", "usd_per_request": -1}
    begun = [fault.split()[0] for fault in price_faults(entry)]
    assert begun == [
        "valid_form",
        "model",
        "usd_per_mtok.input",
        "usd_per_mtok.ouput",
        "usd_per_mtok.output",
        "usd_per_request",
    ]


def test_a_price_is_a_value() -> None:
    rates = dict(IO)
    price = Price("m", rates, "0.01", date(2026, 1, 1))
    rates["input"] = "99"
    assert price == Price("m", {"input": Decimal("0.150"), "output": "0.6"}, "0.010", date(2026, 1, 1))
    assert price != Price("m", IO, "0.02", date(2026, 1, 1))
    assert price.usd_per_mtok == {"input": Decimal("0.15"), "output": Decimal("0.60")}
    for twin in (copy.deepcopy(price), pickle.loads(pickle.dumps(price))):  # noqa: S301  # its own
        assert twin == price
        assert hash(twin) == hash(price)
        assert twin.cost_nanousd(Usage(1000, 10)) == price.cost_nanousd(Usage(1000, 10)) == 10_156_000
