"""The built-in prices are those of genai-prices to the nano-dollar, for every model, tier and instant."""

from __future__ import annotations

import random
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Any

import pytest
from genai_prices import Usage as DataUsage
from genai_prices import __version__, calc_price
from genai_prices.data import providers
from genai_prices.types import ModelInfo, ModelPrice, TieredPrices
from wire_kit import exchanges

from budgetguard import price_data
from budgetguard.usage import Usage
from budgetguard.wire.providers import PROVIDERS

NOW_MS = int(datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()) * 1000
DAY_MS = 86_400_000
BY_TOKENS = {"input_mtok", "output_mtok"}
IDS = {
    "azure_openai": "azure", "bedrock": "aws", "bedrock_mantle": "aws", "gemini": "google", "vertex": "google",
    "gemini_openai_compat": "google", "xai": "x-ai", "moonshot": "moonshotai", "voyage": "voyageai",
}  # fmt: skip
"""What the recordings call a provider, and what the data does, where that differs."""


def instant(at_ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)


def nanousd(total: Decimal) -> int:
    return int((total * 10**9).to_integral_value(ROUND_CEILING))


def as_data(usage: Usage) -> DataUsage:
    return DataUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        output_reasoning_tokens=usage.reasoning_tokens,
    )


def usage_of(read: int, write: int, hour: int, plain: int, output: int, reasoning: int) -> Usage:
    return Usage(plain + read + write + hour, output, read, write + hour, hour, reasoning)


def any_usage(draw: random.Random, total: int) -> Usage:
    """One of about `total` input tokens, in any mixture."""
    cuts = sorted(draw.randint(0, total) for _ in range(3))
    output = draw.randint(0, 100_000)
    return usage_of(cuts[0], cuts[1] - cuts[0], cuts[2] - cuts[1], total - cuts[2], output, draw.randint(0, output))


def stated(model: ModelInfo) -> list[tuple[Any, ModelPrice]]:
    if isinstance(model.prices, ModelPrice):
        return [(None, model.prices)]
    return [(each.constraint, each.prices) for each in model.prices]


def turns_ms(model: ModelInfo) -> Iterator[int]:
    """Instants at which another price of the model begins, near now where that happens every day."""
    for rule, _ in stated(model):
        if rule is not None and hasattr(rule, "start_date"):
            assert isinstance(rule.start_date, date)
            yield (rule.start_date - date(1970, 1, 1)).days * DAY_MS
        elif rule is not None:
            for at in (rule.start_time, rule.end_time):
                assert isinstance(at, time)
                yield NOW_MS - NOW_MS % DAY_MS + (at.hour * 60 + at.minute) * 60_000


def sizes(model: ModelInfo) -> list[int]:
    """Sizes of input on both sides of every tier."""
    starts = {
        tier.start
        for _, prices in stated(model)
        for price in vars(prices).values()
        if isinstance(price, TieredPrices)
        for tier in price.tiers
    }
    return [size for start in sorted(starts) for size in (start, start + 1)]


def test_every_model_costs_what_its_data_says_at_every_turn_and_tier() -> None:
    draw, compared, unpriced = random.Random(4), 0, 0
    for provider in providers:
        for model in provider.models:
            for turn_ms in {NOW_MS, *(turn + step for turn in turns_ms(model) for step in (-1, 0))}:
                span = price_data.span_of(model, "here", turn_ms)
                assert span.since_ms <= turn_ms < span.until_ms
                prices = {key for key, price in vars(model.get_prices(instant(turn_ms))).items() if price is not None}
                if prices and not prices & BY_TOKENS:
                    assert span.price is None, f"{model.id} is not billed by tokens"
                    unpriced += 1
                    continue
                assert span.price is not None
                for size in [draw.randint(0, 300_000), *sizes(model)]:
                    usage = any_usage(draw, size)
                    want = model.calc_price(as_data(usage), provider, genai_request_timestamp=instant(turn_ms))
                    assert span.price.cost_nanousd(usage) == nanousd(want.total_price), (provider.id, model.id, usage)
                    compared += 1
    print(f"{compared} calls priced as genai-prices prices them; {unpriced} prices by other units than tokens")
    assert compared > 3_000


def test_a_price_holds_as_long_as_its_span_says() -> None:
    """Between two turns nothing changes: what is remembered for a span is right at any instant of it."""
    draw = random.Random(5)
    timed = [model for provider in providers for model in provider.models if len(stated(model)) > 1]
    for model in draw.sample(timed, 60):
        for _ in range(20):
            at_ms = NOW_MS - draw.randint(0, 1500 * DAY_MS)
            span = price_data.span_of(model, "here", at_ms)
            for other_ms in (max(span.since_ms, 0), min(span.until_ms, NOW_MS + 2000 * DAY_MS) - 1):
                assert model.get_prices(instant(other_ms)) == model.get_prices(instant(at_ms)), (model.id, at_ms)


def test_the_recorded_calls_cost_what_genai_prices_says() -> None:
    """Over the usage of every recorded exchange that it can price."""
    compared: Counter[str] = Counter()
    other: Counter[str] = Counter()
    for row in exchanges():
        truth = row["usage_truth"]
        if not truth or row["model"] is None:
            continue
        names = ("input", "output", "cached_input", "cache_write", "cache_write_1h", "reasoning")
        counts = {name: int(truth.get(name) or 0) for name in names}  # Cohere writes 6.0
        read = min(counts["cached_input"], counts["input"])
        write = min(counts["cache_write"], counts["input"] - read)
        hour = min(counts["cache_write_1h"], write)
        output = max(counts["output"], counts["reasoning"])
        usage = Usage(counts["input"], output, read, write, hour, counts["reasoning"])
        day = date.fromisoformat(row["recorded_on"]) if row["recorded_on"] else date(2026, 11, 22)
        at = datetime.combine(day, time(12), tzinfo=UTC)
        provider = row["provider"]
        ours = price_data.find(provider, row["model"], int(at.timestamp()) * 1000)
        try:
            theirs = calc_price(
                as_data(usage), row["model"], provider_id=IDS.get(provider, provider), genai_request_timestamp=at
            )
        except LookupError:
            other[provider] += 1
            continue
        assert ours is not None, (provider, row["model"])
        assert ours.cost_nanousd(usage) == nanousd(theirs.total_price), (provider, row["model"], usage)
        compared[provider] += 1
    print(
        f"{compared.total()} recorded calls: {dict(compared)}; by provider genai-prices knows no price: {dict(other)}"
    )
    assert compared.total() > 850


def test_the_name_of_the_model_tells_the_provider_where_nobody_says_him() -> None:
    def model(provider: str | None, name: str) -> str | None:
        found = price_data.find(provider, name, NOW_MS)
        return found and found.model

    assert model(None, "gpt-4o-mini-2024-07-18") == "gpt-4o-mini"
    assert model("llm.example.internal", "gpt-4o-mini") == "gpt-4o-mini"
    assert model(None, "anthropic/claude-sonnet-4-5") == "claude-sonnet-4-5"
    assert model("openai", "claude-sonnet-4-5") is None
    assert model("azure_openai", "gpt-4o-mini") == "gpt-4o-mini"
    assert model("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0") is not None
    assert model(None, "unheard-of") is None


def test_whoever_runs_a_model_on_his_own_machine_has_no_built_in_price() -> None:
    assert price_data.find(None, "mistral-small-latest", NOW_MS) is not None
    assert price_data.find("ollama", "mistral-small-latest", NOW_MS) is None


def test_every_provider_whose_host_is_known_has_prices_or_is_known_to_have_his_own() -> None:
    by_name = {name for name in PROVIDERS.values() if price_data.names(name) == price_data.names(None)}
    gateways = {"portkey", "vercel"}  # sell what they pass on at the makers' prices
    assert by_name - price_data.LOCAL - price_data.OWN_PRICES == gateways
    assert by_name >= price_data.OWN_PRICES


def test_a_model_is_free_only_at_the_provider_who_gives_it_away() -> None:
    given = price_data.find("gemini", "gemma-3-27b-it", NOW_MS)
    assert given is not None
    assert given.cost_nanousd(Usage(10**9, 10**9)) == 0
    assert price_data.find(None, "google/gemma-3-27b-it", NOW_MS) is None


def test_a_model_billed_by_the_hour_or_by_characters_has_no_price_by_tokens() -> None:
    assert price_data.find("openai", "whisper-1", NOW_MS) is None
    assert price_data.find("openai", "tts-1", NOW_MS) is None


def test_the_source_names_the_data_and_its_version() -> None:
    found = price_data.find("openai", "gpt-4o-mini", NOW_MS)
    assert found is not None
    assert found.source == f"genai-prices {__version__}"


@pytest.mark.parametrize("provider", ["openai", "azure_openai", "bedrock", "voyage", None, "nobody-known"])
def test_the_dearest_model_is_at_least_as_dear_as_any_of_the_provider(provider: str | None) -> None:
    dear = price_data.dearest(provider, NOW_MS)
    assert dear is not None
    both = Usage(1_000_000, 1_000_000)
    for name in price_data.names(provider):
        other = price_data.find(provider, name, NOW_MS)
        assert other is None or other.cost_nanousd(both) <= dear.cost_nanousd(both), name


def test_what_is_remembered_of_names_that_callers_send_has_a_bound() -> None:
    def ask(number: int) -> None:
        price_data.find(f"host-{number}.example", f"gpt-4o-{number}" + "x" * 400, NOW_MS)

    for number in range(1030):
        ask(number)
    tracemalloc.start()
    try:
        for number in range(1030, 2060):
            ask(number)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 200_000, "names of 400 characters, a thousand of them"


def test_import_budgetguard_leaves_the_data_alone() -> None:
    program = "import sys, budgetguard; assert not {'genai_prices', 'pydantic', 'httpx2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
