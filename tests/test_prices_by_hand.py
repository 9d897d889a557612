"""What calls cost, reckoned by hand from the providers' own price pages; dollars are for a million tokens.

(prompt_tokens x input price + completion_tokens x output price) / 1,000,000, and the cache classes likewise.
"""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from budgetguard.price import Price, price_faults
from budgetguard.pricing import PriceTable, cost_of
from budgetguard.usage import Usage

NONE = PriceTable()


def ms(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp()) * 1000


def cost(provider: str | None, model: str, usage: Usage, at_ms: int = ms(2026, 1, 15)) -> Decimal:
    nanousd, source = cost_of(NONE, model, usage, at_ms, provider=provider)
    assert nanousd is not None
    assert source.startswith("genai-prices ")
    return Decimal(nanousd) / 10**9


@pytest.mark.parametrize(
    ("provider", "model", "usage", "usd"),
    [
        # gpt-4o-mini: input $0.15, output $0.60. (1200 x 0.15 + 400 x 0.60) / 1e6
        ("openai", "gpt-4o-mini", Usage(1200, 400), "0.00042"),
        # gpt-4o: input $2.50, cached $1.25, output $10. (500 x 2.50 + 1500 x 1.25 + 100 x 10) / 1e6
        ("openai", "gpt-4o-2024-08-06", Usage(2000, 100, 1500), "0.004125"),
        # gpt-4.1: $2, $8; on Azure the same
        ("openai", "gpt-4.1", Usage(10_000, 1000), "0.028"),
        ("azure_openai", "gpt-4.1", Usage(10_000, 1000), "0.028"),
        # text-embedding-3-small: $0.02, nothing is generated. 123 x 0.02 / 1e6
        ("openai", "text-embedding-3-small", Usage(123, 0), "0.00000246"),
        # Claude Haiku 4.5: $1, $5, read $0.10, 5 minute write $1.25, 1 hour write $2.
        # (100 x 1 + 1000 x 0.10 + 2000 x 1.25 + 4000 x 2 + 50 x 5) / 1e6
        ("anthropic", "claude-haiku-4-5-20251001", Usage(7100, 50, 1000, 6000, 4000), "0.01095"),
        # Claude Opus 4.1: $15, $75, read $1.50, writes $18.75 and $30. (10 x 15 + 90 x 18.75 + 8 x 75) / 1e6
        ("anthropic", "claude-opus-4-1", Usage(100, 8, 0, 90), "0.0024375"),
        # Gemini 2.5 Flash: $0.30, $2.50, reasoning is output. (1000 x 0.30 + 2000 x 2.50) / 1e6
        ("gemini", "gemini-2.5-flash", Usage(1000, 2000, reasoning_tokens=1500), "0.0053"),
        # Groq's Llama 3.3 70B: $0.59, $0.79
        ("groq", "llama-3.3-70b-versatile", Usage(1_000_000, 1_000_000), "1.38"),
        # Command R+: $2.50, $10
        ("cohere", "command-r-plus-08-2024", Usage(4000, 100), "0.011"),
        # Sonar Pro: $3, $15, and $14 for a thousand requests. (100 x 3 + 200 x 15) / 1e6 + 0.014
        ("perplexity", "sonar-pro", Usage(100, 200), "0.0173"),
        # Claude Sonnet 4.5 in one region of Bedrock is a tenth dearer: $3.30, $16.50
        ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", Usage(1000, 100), "0.00495"),
    ],
)
def test_tokens_times_price(provider: str, model: str, usage: Usage, usd: str) -> None:
    assert cost(provider, model, usage) == Decimal(usd)


def test_above_its_threshold_a_prompt_costs_more_all_of_it_and_the_output_too() -> None:
    # Gemini 2.5 Pro: $1.25, $10, cached $0.125; prompts above 200k tokens: $2.50, $15, cached $0.25.
    assert cost("gemini", "gemini-2.5-pro", Usage(200_000, 1000)) == Decimal("0.26")
    assert cost("gemini", "gemini-2.5-pro", Usage(200_001, 1000)) == Decimal("0.5150025")
    assert cost("gemini", "gemini-2.5-pro", Usage(200_001, 1000, 200_000)) == Decimal("0.0650025")
    # Claude Sonnet 4.5: $3, $15, reads $0.30, writes $3.75 and $6; above 200k twice that, the output $22.50.
    assert cost("anthropic", "claude-sonnet-4-5", Usage(200_000, 100, 150_000, 30_000, 10_000)) == Decimal("0.2415")
    assert cost("anthropic", "claude-sonnet-4-5", Usage(200_001, 100, 150_000, 30_000, 10_000)) == Decimal("0.482256")
    # GPT-5.4: $2.50, $15; above 272k $5, $22.50.
    at_ms = ms(2026, 11, 1)
    assert cost("openai", "gpt-5.4", Usage(272_000, 10), at_ms) == Decimal("0.68015")
    assert cost("openai", "gpt-5.4", Usage(272_001, 10), at_ms) == Decimal("1.36023")


def test_the_price_is_that_of_the_day_of_the_call() -> None:
    # o3 began at $10 and $40; on 2025-06-10 it became $2 and $8.
    usage = Usage(1000, 1000)
    assert cost("openai", "o3", usage, ms(2025, 5, 1)) == Decimal("0.05")
    assert cost("openai", "o3", usage, ms(2025, 6, 10) - 1) == Decimal("0.05")
    assert cost("openai", "o3", usage, ms(2025, 6, 10)) == Decimal("0.01")
    assert cost("openai", "o3", usage, ms(2025, 8, 1)) == Decimal("0.01")
    assert cost("openai", "o3", usage, ms(2025, 5, 1)) == Decimal("0.05"), "asked again, out of order"


def test_the_price_is_that_of_the_time_of_day() -> None:
    # DeepSeek's chat model in 2025: $0.27 and $1.10, half of that from 16:30 to 00:30 UTC.
    def at(*when: int) -> Decimal:
        return cost("deepseek", "deepseek-chat", Usage(1_000_000, 1_000_000), ms(2025, 3, *when))

    day, night = Decimal("1.37"), Decimal("0.685")
    assert [at(3, 12), at(3, 16, 29, 59), at(3, 16, 30), at(3, 23), at(4, 0, 29), at(4, 0, 30)] == [
        day, day, night, night, night, day,
    ]  # fmt: skip


def test_a_cost_is_rounded_up_once() -> None:
    # Nova Micro: $0.035, $0.14; a cached token costs $0.00875 / 1e6, which is 8.75 nano-dollars.
    def nanousd(usage: Usage) -> int | None:
        return cost_of(NONE, "amazon.nova-micro-v1:0", usage, ms(2026, 1, 15), provider="bedrock")[0]

    assert [nanousd(Usage(count, 0, count)) for count in (1, 2, 3, 4)] == [9, 18, 27, 35]
    assert nanousd(Usage(4, 1, 3)) == 202, "26.25 + 35 + 140"


def test_the_users_price_wins() -> None:
    own = PriceTable([Price("gpt-4o*", {"input": "1", "output": "1"})])
    assert cost_of(own, "gpt-4o-mini", Usage(500, 500), 0, provider="openai") == (1_000_000, "price:gpt-4o*")
    assert cost_of(own, "gpt-4.1", Usage(500, 500), 0, provider="openai")[0] == 5_000_000


def test_a_cost_that_the_usage_states_wins_over_all() -> None:
    own = PriceTable([Price("gpt-4o*", {"input": "1", "output": "1"})])
    stated = Usage(500, 500, cost_usd="0.25")
    assert cost_of(own, "gpt-4o-mini", stated, 0) == (250_000_000, "stated")
    assert cost_of(NONE, "gpt-4o-mini", stated, 0) == (250_000_000, "stated")


def test_models_on_the_users_machine_are_free_where_the_policy_says_so() -> None:
    (entry,) = tomllib.loads('[[price]]\nmodel = "llama*"\nusd_per_mtok = { input = "0", output = "0" }')["price"]
    assert price_faults(entry) == []
    own = PriceTable([Price(**entry)])
    assert cost_of(own, "llama3.2:1b", Usage(10**6, 10**6), 0, provider="ollama") == (0, "price:llama*")


def test_the_price_of_the_model_that_answered_holds_where_that_of_the_one_asked_for_is_unknown() -> None:
    usage, at_ms = Usage(1200, 400), ms(2026, 1, 15)

    def answered(own: PriceTable, asked: str | None, model: str) -> tuple[int | None, str]:
        return cost_of(own, asked, usage, at_ms, provider="azure_openai", answered_model=model)

    by_data, source = answered(NONE, "our-deployment", "gpt-4o-mini-2024-07-18")
    assert (by_data, source[:12]) == (420_000, "genai-prices")
    assert answered(NONE, "gpt-4o-mini", "gpt-4o")[0] == 420_000, "the one asked for has a price"
    assert answered(NONE, None, "gpt-4o-mini")[0] == 420_000
    assert answered(NONE, "our-deployment", "unheard-of") == (None, "unknown")
    own = PriceTable([Price("our-*", {"input": "1", "output": "1"})])
    assert answered(own, "our-deployment", "gpt-4o-mini") == (1_600_000, "price:our-*")
