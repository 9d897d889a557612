"""What a policy says of calls over HTTP: what becomes of those that are no ordinary ones."""

from __future__ import annotations

from pathlib import Path

from budgetguard.policy import GuardSettings, Policy
from budgetguard.policy_file import parse_policy


def parse(text: str) -> Policy:
    return parse_policy(text, "budgetguard.toml", {}, Path())


def test_calls_that_are_no_ordinary_ones_are_refused_or_settled_at_what_is_known() -> None:
    assert parse("").guard == GuardSettings(
        on_unknown_api="refuse",
        on_unknown_price="refuse",
        on_cancel="streamed",
        on_error="streamed",
        on_unknown_outcome="streamed",
        on_stream_exceed="stop",
        inject_max_tokens=False,
    )


def test_what_becomes_of_them_is_read() -> None:
    policy = parse(
        """
        [guard]
        on_unknown_api = "pass"
        on_unknown_price = "upper_bound"
        on_cancel = "input"
        on_error = "release"
        on_unknown_outcome = "estimate"
        on_stream_exceed = "finish"
        inject_max_tokens = true
        """
    )
    assert policy.guard == GuardSettings(
        on_unknown_api="pass",
        on_unknown_price="upper_bound",
        on_cancel="input",
        on_error="release",
        on_unknown_outcome="estimate",
        on_stream_exceed="finish",
        inject_max_tokens=True,
    )
