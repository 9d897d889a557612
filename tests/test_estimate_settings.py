"""The table `[estimate]` of a policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from budgetguard.errors import ConfigError
from budgetguard.estimate import EstimateSettings
from budgetguard.policy import Policy
from budgetguard.policy_file import parse_policy


def parse(text: str) -> Policy:
    return parse_policy(text, "budgetguard.toml", {}, Path())


def test_a_policy_says_how_to_estimate() -> None:
    policy = parse('[estimate]\ndefault_output_tokens = 500\ntokenizer = "bytes"')
    assert policy.estimate == EstimateSettings(default_output_tokens=500, tokenizer="bytes")


def test_without_the_table_there_are_defaults() -> None:
    assert parse("").estimate == Policy().estimate == EstimateSettings(4_096, "auto")


def test_every_fault_of_the_table_is_told_by_its_path() -> None:
    with pytest.raises(ConfigError) as caught:
        parse('[estimate]\ndefault_output_tokens = 0\ntokenizer = "byte"\ntokeniser = "auto"')
    assert [fault.split(" ")[0] for fault in caught.value.faults] == [
        "estimate.tokeniser",
        "estimate.default_output_tokens",
        "estimate.tokenizer",
    ]
    assert 'did you mean "bytes"?' in caught.value.faults[2]


@pytest.mark.parametrize("wrong", [True, -1, 0, 1.5, "100", None, 2**60])
def test_a_default_output_that_is_no_count_is_refused_in_python_too(wrong: object) -> None:
    with pytest.raises(ConfigError, match=r"estimate\.default_output_tokens must be a whole number"):
        EstimateSettings(default_output_tokens=wrong)  # type: ignore[arg-type]


def test_a_policy_takes_no_other_settings() -> None:
    with pytest.raises(ConfigError, match="estimate must be a EstimateSettings"):
        Policy(estimate={"tokenizer": "bytes"})  # type: ignore[arg-type]


def test_a_policy_says_how_careful_learned_estimates_are_and_how_fast_they_fade() -> None:
    policy = parse('[estimate]\nquantile = 0.99\nhalf_life = "12h"')
    assert policy.estimate == EstimateSettings(quantile=0.99, half_life_ms=43_200_000)
    with pytest.raises(ConfigError) as caught:
        parse('[estimate]\nquantile = 95\nhalf_life = "30s"')
    assert [fault.split(" ")[0] for fault in caught.value.faults] == ["estimate.half_life", "estimate.quantile"]


@pytest.mark.parametrize("wrong", [True, 0, 1, -0.5, "0.95", None, float("nan"), 95])
def test_a_quantile_that_is_no_share_is_refused_in_python_too(wrong: object) -> None:
    with pytest.raises(ConfigError, match=r"estimate\.quantile"):
        EstimateSettings(quantile=wrong)  # type: ignore[arg-type]
