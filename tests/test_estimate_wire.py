"""Estimates of recorded requests against what their responses say was billed."""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from copy import deepcopy

import pytest
from estimate_kit import api_of, billed_input, body_of_request, excluded, group
from wire_kit import Exchange, exchanges

from budgetguard.estimate import EstimateSettings, estimate, unbounded_answers, with_bound
from budgetguard.estimates.tokenizers import counter

LEAST_TOKENS = 100
COVERED_LEAST, MEDIAN_MOST = 0.95, 1.6
BYTES = EstimateSettings(tokenizer="bytes")
SETTINGS = {"bytes": BYTES, "auto": EstimateSettings()}


def raw_bytes(row: Exchange) -> int:
    return len(json.dumps(row["request"]["json"]))


def ratio(row: Exchange, settings: EstimateSettings) -> float:
    """The estimated input by the billed one."""
    known = estimate(api_of(row), row["request"]["json"], raw_bytes(row), settings).usage.input_tokens
    return known / (billed_input(row) or 1)


def held_to() -> list[Exchange]:
    return [row for row in exchanges() if group(row) == "text" and row["id"] not in excluded()]


def covered(ratios: list[float]) -> float:
    return sum(value >= 1 for value in ratios) / len(ratios)


@pytest.mark.parametrize("tokenizer", SETTINGS)
def test_input_is_at_least_what_is_billed_for_nearly_all_and_not_much_more(tokenizer: str) -> None:
    if tokenizer == "auto" and counter("o200k_base") is None:
        pytest.skip("no tokenizer is at hand: pip install rs-bpe")
    by_provider: dict[str, list[float]] = defaultdict(list)
    small: list[float] = []
    for row in held_to():
        large = (billed_input(row) or 0) >= LEAST_TOKENS
        (by_provider[row["provider"]] if large else small).append(ratio(row, SETTINGS[tokenizer]))
    ratios = [value for values in by_provider.values() for value in values]
    print(f"\n{tokenizer}: {len(ratios)} requests of {LEAST_TOKENS} tokens or more, by provider")
    for name, values in [*sorted(by_provider.items()), ("all of them", ratios), (f"below {LEAST_TOKENS}", small)]:
        low, middle, high = min(values), statistics.median(values), max(values)
        share = f"{covered(values):6.1%} covered"
        print(f"  {name:15} {len(values):4}  {share}  estimate/billed {low:5.2f} {middle:5.2f} {high:6.2f}")
    assert len(ratios) == 67
    assert covered(ratios) >= COVERED_LEAST
    assert statistics.median(ratios) <= MEDIAN_MOST


def test_tools_that_the_caller_runs_and_schemas_are_covered_too() -> None:
    """What providers add for them differs by far more than text does, so no median is asked."""
    ratios = []
    for row in exchanges():
        tools = (body_of_request(row) or {}).get("tools") or []
        runs = any(isinstance(tool, dict) and tool.get("type", "function") != "function" for tool in tools)
        if group(row) in ("tools", "schema") and not runs and not row.get("request_media_omitted_chars"):
            ratios.append(ratio(row, BYTES))
    print(f"\n{len(ratios)} requests, {covered(ratios):.1%} covered, median {statistics.median(ratios):.2f}")
    assert len(ratios) > 280
    assert covered(ratios) >= COVERED_LEAST


def test_no_provider_is_underestimated_on_the_whole() -> None:
    """Small requests too, where what a provider adds weighs most."""
    by_provider: dict[str, list[float]] = defaultdict(list)
    for row in held_to():
        by_provider[row["provider"]].append(ratio(row, BYTES))
    assert {name: values for name, values in by_provider.items() if statistics.median(values) < 1} == {}
    assert len(by_provider) > 20


def test_the_exclusions_are_requests_that_would_count_and_have_a_reason() -> None:
    rows = {row["id"]: row for row in exchanges()}
    assert {row_id: reason for row_id, reason in excluded().items() if len(reason) < 30} == {}
    assert [row_id for row_id in excluded() if row_id not in rows or group(rows[row_id]) != "text"] == []
    assert [row_id for row_id in excluded() if ratio(rows[row_id], BYTES) >= 1] == []


def test_every_request_falls_into_one_group() -> None:
    counted = Counter(group(row) for row in exchanges())
    print("\n", dict(counted))
    assert set(counted) == {"text", "tools", "schema", "media", "state", "nothing to compare"}
    assert counted["text"] > 400


def test_a_request_that_bounds_its_output_never_brings_more() -> None:
    seen = 0
    for row in exchanges():
        body, said = body_of_request(row), row["usage_truth"] or {}
        if body is None or said.get("output") is None:
            continue
        known = estimate(api_of(row), body, raw_bytes(row), BYTES)
        if known.bounded:
            seen += 1
            assert said["output"] <= known.usage.output_tokens, row["id"]
    assert seen > 180


def test_the_maximum_of_a_model_is_at_least_what_it_wrote() -> None:
    settings = EstimateSettings(default_output_tokens=10_000_000)
    written = 0
    for row in exchanges():
        body, said = body_of_request(row), row["usage_truth"] or {}
        if body is not None and said.get("output"):
            known = estimate(api_of(row), body, raw_bytes(row), settings)
            assert said["output"] <= known.usage.output_tokens, row["id"]
            written += known.usage.output_tokens < 10_000_000
    assert written > 600


def test_a_bound_is_written_where_the_estimate_then_finds_it_and_nothing_else_changes() -> None:
    changed = 0
    for row in exchanges():
        body = body_of_request(row)
        if body is None:
            continue
        api, before = api_of(row), deepcopy(body)
        bounded = with_bound(api, body, 1_000)
        assert body == before and bounded is not body
        assert (unbounded_answers(api, body) > 0) is (bounded != body)
        if estimate(api, body, 0).bounded:
            assert bounded == body
            continue
        new = {key: value for key, value in bounded.items() if key not in body or body[key] != value}
        assert len(new) == 1 and set(body) <= set(bounded), row["id"]
        known = estimate(api, bounded, 0)
        assert known.bounded and 0 < known.usage.output_tokens <= 1_000, row["id"]
        changed += 1
    assert changed > 700
