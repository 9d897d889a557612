"""Usage keeps its promises about parts and wholes, and is read alike from every shape that providers answer with."""

from __future__ import annotations

import contextlib
import pickle
from dataclasses import FrozenInstanceError, replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budgetguard.core.amounts import MAX_AMOUNT
from budgetguard.errors import InvalidAmount
from budgetguard.usage import Usage, read_usage

COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
)


def test_anthropics_input_leaves_out_the_cache_and_openais_contains_it() -> None:
    anthropic = {
        "input_tokens": 10,
        "output_tokens": 5,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 40,
        "cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 10},
        "output_tokens_details": {"thinking_tokens": 2},
    }
    openai = {
        "input_tokens": 150,
        "output_tokens": 5,
        "input_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 40},
        "output_tokens_details": {"reasoning_tokens": 2},
    }
    assert read_usage(anthropic) == Usage(150, 5, 100, 40, 10, 2)
    assert read_usage(openai) == Usage(150, 5, 100, 40, 0, 2)


def test_a_message_stays_anthropics_whatever_details_it_gains() -> None:
    usage = {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 100, "input_tokens_details": {"new": 1}}
    assert read_usage({"type": "message", "usage": usage}) == Usage(110, 5, 100)


def test_cache_writes_known_only_by_their_age_are_added_up() -> None:
    by_age = {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4}
    usage = read_usage({"input_tokens": 10, "output_tokens": 5, "cache_creation": by_age})
    assert usage == Usage(17, 5, 0, 7, 4)


@pytest.mark.parametrize("total", [None, 312])
def test_reasoning_that_the_output_does_not_contain_is_added_to_it(total: int | None) -> None:
    """xAI's chat: the total tells it, or reasoning above its whole does."""
    reasoning = 228 if total is None else 290
    completion = 1 if total is None else 12
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": completion,
        "total_tokens": total,
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    assert read_usage(usage).output_tokens == completion + reasoning


def test_reasoning_below_the_output_is_added_only_where_the_total_says_so() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 50, "completion_tokens_details": {"reasoning_tokens": 20}}
    assert read_usage(usage | {"total_tokens": 60}) == Usage(10, 50, reasoning_tokens=20)
    assert read_usage(usage | {"total_tokens": 80}) == Usage(10, 70, reasoning_tokens=20)


def test_cached_parts_together_above_the_prompt_are_lowered_to_it() -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 1,
        "prompt_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 8},
    }
    assert read_usage(usage) == Usage(10, 1, 8, 2)


def test_embeddings_have_no_output() -> None:
    assert read_usage({"object": "list", "usage": {"prompt_tokens": 8, "total_tokens": 8}}) == Usage(8, 0)


def test_geminis_thoughts_are_output_and_its_tools_prompts_are_input() -> None:
    wire = {
        "promptTokenCount": 9,
        "toolUsePromptTokenCount": 61,
        "candidatesTokenCount": 27,
        "thoughtsTokenCount": 221,
        "cachedContentTokenCount": 5,
    }
    object_ = SimpleNamespace(prompt_token_count=9, candidates_token_count=None, thoughts_token_count=2)
    assert read_usage({"usageMetadata": wire}) == read_usage(wire) == Usage(70, 248, 5, reasoning_tokens=221)
    assert read_usage(SimpleNamespace(usage_metadata=object_)) == Usage(9, 2, reasoning_tokens=2)


def test_billed_units_are_what_is_billed() -> None:
    usage = {"billed_units": {"input_tokens": 7.0, "output_tokens": 115}, "tokens": {"input_tokens": 69}}
    assert read_usage({"usage": usage}) == read_usage({"meta": usage}) == read_usage(usage) == Usage(7, 115)


def test_bedrocks_converse_leaves_the_cache_out_of_its_input() -> None:
    usage = {"inputTokens": 3, "outputTokens": 61, "cacheReadInputTokens": 2074, "cacheWriteInputTokens": 297}
    assert read_usage({"output": {}, "usage": usage}) == Usage(2374, 61, 2074, 297)


def test_a_usage_is_read_as_itself_also_inside_something_else() -> None:
    usage = Usage(10, 5, 4, 3, 2, 1, "0.01")
    assert read_usage(usage) is usage
    assert read_usage({"usage": usage}) is usage
    assert read_usage(SimpleNamespace(text="...", usage=usage)) is usage


@pytest.mark.parametrize(
    ("response", "text"),
    [
        (None, "this NoneType has no usage"),
        ("a text", "this str has no usage"),
        ({}, "this dict has no usage"),
        ({"input_tokens": 8}, "this dict has no usage"),  # a token count, which nobody bills
        ({"usage": None}, "the usage of this dict is None"),
        (SimpleNamespace(usage=None), "the usage of this SimpleNamespace is None"),
        ({"usage": {"billed_units": {"classifications": 1}}}, "the usage of this dict has an unknown shape"),
        ({"usage": {"prompt_tokens": None, "completion_tokens": None}}, "the usage of this dict has an unknown shape"),
        (SimpleNamespace(usage=lambda: 1), "the usage of this SimpleNamespace has an unknown shape"),
    ],
)
def test_what_cannot_be_read_is_a_type_error_that_says_what_can(response: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text) as caught:
        read_usage(response)
    assert "Anthropic's messages (input_tokens, output_tokens)" in str(caught.value)


@pytest.mark.parametrize("bad", [-1, 1.0, True, "12", float("nan"), MAX_AMOUNT + 1, [1], {}])
@pytest.mark.parametrize(
    "path",
    [
        "prompt_tokens",
        "completion_tokens",
        "prompt_tokens_details.cached_tokens",
        "prompt_tokens_details.cache_write_tokens",
        "completion_tokens_details.reasoning_tokens",
        "num_cached_tokens",
        "output_tokens",
        "input_tokens",
        "output_tokens_details.thinking_tokens",
        "output_tokens_details.reasoning_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "cache_creation.ephemeral_1h_input_tokens",
    ],
)
def test_garbage_from_a_provider_is_refused_by_its_field(path: str, bad: Any) -> None:
    usage: dict[str, Any]
    if path.split("_")[0] in ("prompt", "completion", "num"):
        usage = {"prompt_tokens": 1, "completion_tokens": 1}
    elif path.endswith("reasoning_tokens"):
        usage = {"input_tokens": 1, "output_tokens": 1, "input_tokens_details": {}}
    else:
        usage = {"input_tokens": 1, "output_tokens": 1}
    *outer, name = path.split(".")
    (usage.setdefault(outer[0], {}) if outer else usage)[name] = bad
    with pytest.raises(InvalidAmount, match=rf"usage\.{path} "):
        read_usage({"usage": usage})


KNOWN = """usage type prompt_tokens completion_tokens input_tokens output_tokens total_tokens prompt_tokens_details
input_tokens_details output_tokens_details cached_tokens reasoning_tokens thinking_tokens cache_creation
cache_read_input_tokens cache_creation_input_tokens ephemeral_1h_input_tokens"""
NAMES = st.sampled_from(KNOWN.split())
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 40) | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=8),
    max_leaves=25,
)


@settings(max_examples=200, deadline=None)
@given(ANYTHING)
def test_any_body_ends_as_a_good_usage_or_as_one_of_two_errors(body: Any) -> None:
    usage = None
    with contextlib.suppress(TypeError, InvalidAmount):  # any other error fails the test
        usage = read_usage(body)
    if usage is not None:
        assert Usage(*(getattr(usage, name) for name in COUNTS)) == usage


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("bad", [-1, 1.5, True, None, "7", float("inf"), 2**53, Decimal(1)])
def test_a_count_is_a_whole_number_in_range_or_refused_by_name(name: str, bad: Any) -> None:
    with pytest.raises(InvalidAmount, match=f"^{name} must be"):
        Usage(**({"input_tokens": 10, "output_tokens": 10, "cache_write_tokens": 5} | {name: bad}))


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ((10, 5, 6, 5), r"cache_read_tokens \+ cache_write_tokens are parts of input_tokens: 6 \+ 5 is above 10"),
        ((10, 5, 0, 2, 3), "cache_write_1h_tokens is a part of cache_write_tokens: 3 is above 2"),
        ((10, 5, 0, 0, 0, 6), "reasoning_tokens is a part of output_tokens: 6 is above 5"),
        ((MAX_AMOUNT, 1), r"input_tokens \+ output_tokens must not be above 2\*\*53 - 1"),
    ],
)
def test_a_part_above_its_whole_is_refused(counts: tuple[int, ...], text: str) -> None:
    with pytest.raises(InvalidAmount, match=text):
        Usage(*counts)


def test_the_bounds_themselves_are_good() -> None:
    assert Usage(10, 5, 6, 4, 4, 5).total_tokens == 15
    assert Usage(MAX_AMOUNT, 0).total_tokens == MAX_AMOUNT
    assert Usage(0, 0).total_tokens == 0


@pytest.mark.parametrize(
    ("cost", "nanousd"),
    [("0.0142", 14_200_000), (Decimal("5"), 5 * 10**9), (0, 0), ("0.0000000001", 1), ("9007199.254740991", MAX_AMOUNT)],
)
def test_a_stated_cost_is_kept_exactly_and_rounded_up_to_nano_dollars(cost: Any, nanousd: int) -> None:
    usage = Usage(1, 1, cost_usd=cost)
    assert usage.cost_usd == Decimal(cost)
    assert usage.cost_nanousd == nanousd


@pytest.mark.parametrize("bad", [0.5, True, -1, "NaN", "inf", "five", "", "9007199.254740992", Decimal("-0.1"), [1]])
def test_a_cost_that_is_no_exact_decimal_in_range_is_refused(bad: Any) -> None:
    with pytest.raises(InvalidAmount, match=r"^cost_usd"):
        Usage(1, 1, cost_usd=bad)


def test_a_usage_cannot_be_changed_and_survives_pickling_and_replacement() -> None:
    usage = Usage(10, 5, 4, 3, 2, 1, "0.01")
    with pytest.raises(FrozenInstanceError):
        usage.input_tokens = 11  # type: ignore[misc]
    assert not hasattr(usage, "__dict__")
    assert pickle.loads(pickle.dumps(usage)) == usage  # noqa: S301  # its own
    assert replace(usage, input_tokens=20) == Usage(20, 5, 4, 3, 2, 1, "0.01")
    assert hash(usage) == hash(Usage(10, 5, 4, 3, 2, 1, "0.010"))
    assert repr(Usage(1, 2)).startswith("Usage(input_tokens=1, output_tokens=2, cache_read_tokens=0")


def test_adding_adds_every_count() -> None:
    assert Usage(10, 5, 4, 3, 2, 1) + Usage(100, 50, 40, 30, 20, 10) == Usage(110, 55, 44, 33, 22, 11)
    with pytest.raises(InvalidAmount, match="input_tokens"):
        Usage(MAX_AMOUNT, 0) + Usage(1, 0)
    with pytest.raises(TypeError):
        Usage(1, 1) + 1  # type: ignore[operator]


def test_the_sum_states_a_cost_only_where_both_sides_do() -> None:
    exact = Usage(1, 1, cost_usd="123456.000000000000000000000000000001")
    assert (exact + Usage(1, 1, cost_usd="0.1")).cost_usd == Decimal("123456.100000000000000000000000000001")
    assert (exact + Usage(1, 1)).cost_usd is None
    assert (Usage(1, 1) + exact).cost_nanousd is None
    assert (Usage(1, 1, cost_usd=0) + Usage(1, 1, cost_usd=0)).cost_nanousd == 0
