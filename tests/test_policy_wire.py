"""What a policy says of calls over HTTP: what becomes of those that are no ordinary ones, which hosts speak what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from budgetguard.errors import ConfigError
from budgetguard.policy import GuardSettings, Policy
from budgetguard.policy_file import parse_policy
from budgetguard.wire.hosts import Host


def faults_of(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return list(caught.value.faults)


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


def test_hosts_are_read_in_their_order() -> None:
    policy = parse(
        """
        [[host]]
        name = "*.llm.corp.example"
        provider = "gateway"
        api = "openai"
        [[host]]
        name = "localhost:8000"
        provider = "vllm"
        api = "openai"
        refuses_stream_options = true
        """
    )
    assert policy.hosts == (
        Host("*.llm.corp.example", "gateway", "openai"),
        Host("localhost:8000", "vllm", "openai", refuses_stream_options=True),
    )
    assert policy.hosts == Policy(hosts=list(policy.hosts)).hosts
    assert parse("").hosts == ()


def test_every_fault_of_hosts_is_told_by_its_key_path() -> None:
    faults = faults_of(
        """
        [[host]]
        name = "https://llm.example.com/v1"
        provider = ""
        api = "opennai"
        [[host]]
        name = "llm.example.com"
        providr = "x"
        [[host]]
        name = "LLM.example.com"
        provider = "x"
        api = "gemini"
        """
    )
    wanted = [
        ("host[0].name must be a host", "leave out the scheme and the path"),
        ("host[0].provider", "1 to 512"),
        ("host[0].api must be one of", 'did you mean "openai"?'),
        ("host[1].providr is not a known key", 'did you mean "provider"?'),
        ("host[1].provider is required", ""),
        ("host[1].api is required", ""),
        ("host[2].name: host[1] already says", '"LLM.example.com"'),
    ]
    assert len(faults) == len(wanted), faults
    for fault, (start, hint) in zip(faults, wanted, strict=True):
        assert fault.startswith(start) and hint in fault, fault


@pytest.mark.parametrize(
    "name", ["", "a b", "h/", "h:0", "h:65536", "h:x", "http://h", "user@h", "[::1", "[x]", "h,i", "é.example", 5, None]
)
def test_what_is_no_host_is_refused(name: Any) -> None:
    with pytest.raises(ConfigError, match=r"host\.name must be a host"):
        Host(name, "p", "openai")


def test_hosts_of_a_policy_in_python_are_checked_alike() -> None:
    host = Host("h", "p", "openai")
    with pytest.raises(ConfigError, match=r"host\[1\].name: host\[0\] already says"):
        Policy(hosts=[host, Host("H", "q", "cohere")])
    for wrong in (host, ["h"]):
        with pytest.raises(ConfigError, match="hosts must be a list of Host"):
            Policy(hosts=wrong)  # type: ignore[arg-type]
