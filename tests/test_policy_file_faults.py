"""A policy file that is wrong, in every way: one error, every fault by its key path, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgetguard.errors import ConfigError
from budgetguard.policy import Policy
from budgetguard.policy_file import load_policy, parse_policy


def faults_of(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_policy(text, "budgetguard.toml", {}, Path())
    return list(caught.value.faults)


WRONG_EVERYWHERE = """
mode = "enforced"
timezone = "Europe/Belrin"
tmezone = "UTC"
[store]
url = "postgres://h"
timeout = "2"
"on store away" = 1
[guard]
lease = "1 minute"
on_expiry = "charged"
[labels]
required = ["taem"]
known = ["team", "agent"]
[[budget]]
name = "a"
limits = ["$5/day", "0 tokens/hour", "5 toknes/hour", "2 tokens/2 hours", "$6/day"]
where = { tenant = "x" }
[[budget]]
name = "a"
per = ["agnet"]
limit = ["$5/day"]
timezone = "europe/paris"
[[budget]]
[[price]]
model = "m"
usd_per_mtok = { input = 0.15, output = "0.60", cached = "0.1" }
[[price]]
model = "m"
"""


def test_every_fault_of_a_file_is_listed_at_once_with_a_suggestion() -> None:
    wanted = [
        ("tmezone", 'did you mean "timezone"?'),
        ("mode", 'did you mean "enforce"?'),
        ("timezone", "did you mean Europe/Berlin?"),
        ("store.url", "it begins with 'postgres'"),
        ("store.timeout", 'did you mean "2s"?'),
        ('store."on store away"', 'did you mean "on_store_away"?'),
        ("guard.lease", 'such as "30s"'),
        ("guard.on_expiry", 'did you mean "charge"?'),
        ("labels.required[0]", 'did you mean "team"?'),
        ("budget[0].limits[1]", "write block = true"),
        ("budget[0].limits[2]", "did you mean tokens?"),
        ("budget[0].limits[3]", "'rolling 2 hours'"),
        ("budget[0].limits[4]", "has the unit and period of limits[0]"),
        ("budget[0].where.tenant", "is not a known label"),
        ("budget[1].name", "is already the name of budget[0]"),
        ("budget[1].per[0]", '"agnet" is not a known label'),
        ("budget[1].limit", 'did you mean "limits"?'),
        ("budget[1].limits", "is required"),
        ("budget[1].timezone", "did you mean Europe/Paris?"),
        ("budget[2].name", "is required"),
        ("budget[2].limits", "is required"),
        ("price[0].usd_per_mtok.input", 'put it in quotes, "0.15"'),
        ("price[0].usd_per_mtok.cached", "did you mean cache_read?"),
        ("price[1].usd_per_mtok", "is required"),
    ]
    faults = faults_of(WRONG_EVERYWHERE)
    for path, words in wanted:
        assert any(fault.startswith((f"{path} ", f"{path}:")) and words in fault for fault in faults), (path, words)
    assert len(faults) == len(wanted)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("mode = ", "TOML: Invalid value (at end of document)"),
        ("mode = 'off'\n[store\n", "line 2, column 7"),
        ("mode = 'off'\nmode = 'off'\n", "line 2"),
        ("a = " + "[" * 100_000, "TOML: it is nested too deeply"),
        ("a = " + "9" * 10_000, "TOML: it has a number with more digits than can be read"),
        ("a = 2026-02-31", "TOML: "),
        ("\0", "TOML: "),
        ("[budget]\nname = 'b'", "budget must be a list of tables: write [[budget]] with two brackets"),
        ("budget = [5]", "budget[0] must be a table: write [[budget]]"),
        ("budget = 5", "budget must be a list of tables: write [[budget]]"),
        ("store = 'x'", "store must be a table: write [store]"),
        ("[[store]]", "store must be a table: write [store]"),
        ("[store]\nledger = 'nowhere'", 'store.ledger must be one of "outbox", "none", not \'nowhere\''),
        ("[store]\nledger = 'non'", 'did you mean "none"?'),
        ("[store]\noutbox_max = 0", "store.outbox_max must be a whole number from 1 to 9007199254740991, not 0"),
        ("[store]\noutbox_max = true", "store.outbox_max must be a whole number from 1"),
        ("[store]\nallow_eviction = 'yes'", "store.allow_eviction must be true or false, not 'yes'"),
        ("[store]\nallow_evicton = true", 'did you mean "allow_eviction"?'),
        ("[stores]", "stores is not a known key; did you mean \"store\"?"),
        ("[[budgets]]", "budgets is not a known key; did you mean \"budget\"?"),
        ("[[price]]\nmodel='m'\nusd_per_request='1'\n" * 2, "price: the price of 'm' is given twice"),
        ("[labels]\ndefault = { team = 5 }", 'labels.default.team must be text, not 5; did you mean "5"?'),
        ("[labels]\ndefault = { \"\" = 'x' }", "labels.default.\"\": a label's name must be text"),
        ("[labels]\nknown = ['team', 'team']", 'labels.known[1] names "team" again'),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_as_a_whole_is_told_in_one_line(text: str, fault: str) -> None:
    (found,) = faults_of(text)
    assert fault in found
    assert found.isprintable()


def test_a_file_that_cannot_be_read_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b"mode = 'off'\n# caf\xe9")
    cases = [
        ("none.toml", "there is no such file"),
        ("latin.toml", "the file is not UTF-8 (line 2)"),
        (".", "the file cannot be read: Is a directory"),
    ]
    for name, fault in cases:
        with pytest.raises(ConfigError) as caught:
            load_policy(tmp_path / name, {})
        assert len(caught.value.faults) == 1
        assert fault in caught.value.faults[0]
        assert caught.value.source == str(tmp_path / name)


def test_a_file_with_a_byte_order_mark_and_carriage_returns_is_read(tmp_path: Path) -> None:
    path = tmp_path / "b.toml"
    path.write_bytes(b"\xef\xbb\xbfmode = 'off'\r\n[guard]\r\nlease = '30s'\r\n")
    assert (load_policy(path, {}).mode, load_policy(path, {}).guard.lease_ms) == ("off", 30_000)


TEXTS = {'""', '"x"', r'"\u0000"'}
NUMBERS = {"0", "-1", "1.5", "nan", "inf", "9223372036854775808"}
VALUES = [*TEXTS, *NUMBERS, "true", "[]", "[5]", '[""]', "[[]]", "{}", "{ x = 5 }", "2026-01-01", "07:32:00"]
LABELS = {"required": "[]", "known": "[]", "default": "{}"}
KEYS: dict[str, tuple[str, set[str]]] = {
    # Each key of the file, the tables around it, and the values above that are right for it.
    "mode": ("", set()),
    "timezone": ("", set()),
    "store": ("", {"{}"}),
    "guard": ("", {"{}"}),
    "labels": ("", {"{}"}),
    "budget": ("", {"[]"}),
    "price": ("", {"[]"}),
    "host": ("", {"[]"}),
    "owner": ("", {"[]"}),
    "store.url": ("[store]", set()),
    "store.namespace": ("[store]", {'"x"'}),
    "store.timeout": ("[store]", {"1.5"}),
    "store.on_store_away": ("[store]", set()),
    "store.spool": ("[store]", {'"x"'}),
    "store.outbox_max": ("[store]", set()),
    "store.ledger": ("[store]", set()),
    "store.allow_eviction": ("[store]", {"true"}),
    "guard.lease": ("[guard]", {"1.5"}),
    "guard.max_hold": ("[guard]", {"1.5"}),
    "guard.replay_keep": ("[guard]", {"1.5"}),
    "guard.on_expiry": ("[guard]", set()),
    "guard.on_unmatched": ("[guard]", set()),
    "guard.on_unknown_api": ("[guard]", set()),
    "guard.on_unknown_price": ("[guard]", set()),
    "guard.on_cancel": ("[guard]", set()),
    "guard.on_error": ("[guard]", set()),
    "guard.on_unknown_outcome": ("[guard]", set()),
    "guard.on_stream_exceed": ("[guard]", set()),
    "guard.inject_max_tokens": ("[guard]", {"true"}),
    "labels.required": ("[labels]", {"[]"}),
    "labels.known": ("[labels]", {"[]"}),
    "labels.default": ("[labels]", {"{}"}),
    "budget[0].name": ("[[budget]]\nlimits = ['$1/day']", {'"x"', r'"\u0000"'}),
    "budget[0].limits": ("[[budget]]\nname = 'b'", set()),
    "budget[0].where": ("[[budget]]\nname = 'b'\nlimits = ['$1/day']", {"{}"}),
    "budget[0].per": ("[[budget]]\nname = 'b'\nlimits = ['$1/day']", {"[]"}),
    "budget[0].on_exceed": ("[[budget]]\nname = 'b'\nlimits = ['$1/day']", set()),
    "budget[0].max_delay": ("[[budget]]\nname = 'b'\nlimits = ['$1/day']", {"0", "1.5"}),
    "budget[0].alert_at": ("[[budget]]\nname = 'b'\nlimits = ['$1/day']", {"[]", "[5]"}),
    "budget[0].timezone": ("[[budget]]\nname = 'b'\nlimits = ['$1/day']", set()),
    "budget[0].block": ("[[budget]]\nname = 'b'\nlimits = ['$1/day']", {"true"}),
    "price[0].model": ("[[price]]\nusd_per_request = '1'", {'"x"', r'"\u0000"'}),
    "price[0].usd_per_mtok": ("[[price]]\nmodel = 'm'", set()),
    "price[0].usd_per_request": ("[[price]]\nmodel = 'm'", {"0", "9223372036854775808"}),
    "host[0].name": ("[[host]]\nprovider = 'p'\napi = 'openai'", {'"x"'}),
    "host[0].provider": ("[[host]]\nname = 'h'\napi = 'openai'", {'"x"', r'"\u0000"'}),
    "host[0].api": ("[[host]]\nname = 'h'\nprovider = 'p'", set()),
    "host[0].refuses_stream_options": ("[[host]]\nname = 'h'\nprovider = 'p'\napi = 'openai'", {"true"}),
    "owner[0].team": ("[[owner]]\ncost_center = '1'", {'"x"', r'"\u0000"'}),
    "owner[0].cost_center": ("[[owner]]\nteam = 't'", {'"x"', r'"\u0000"'}),
    "price[0].valid_from": ("[[price]]\nmodel = 'm'\nusd_per_request = '1'", {"2026-01-01"}),
}


@pytest.mark.parametrize("path", KEYS)
def test_every_key_refuses_values_of_every_wrong_kind_and_names_itself(path: str) -> None:
    around, right = KEYS[path]
    for value in VALUES:
        text = f"{around}\n{path.split('.')[-1]} = {value}"
        if value in right:
            parse_policy(text, "budgetguard.toml", {}, Path())
        else:
            faults = faults_of(text)
            assert all(fault.startswith(path) and fault.isprintable() for fault in faults), (value, faults)


def as_toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {as_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return str(value) if isinstance(value, float) else json.dumps(value)


WORDS = st.sampled_from(
    [path.split(".")[-1] for path in KEYS] + ["team", "input", "$5/day", "0 tokens/hour", "${X}", "é"]
)
LEAVES = WORDS | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8"), max_size=5)
TREES = st.recursive(LEAVES, lambda some: st.lists(some, max_size=3) | st.dictionaries(WORDS, some, max_size=4))
TOP = st.dictionaries(st.sampled_from([path for path in KEYS if "." not in path]) | WORDS, TREES, max_size=4)


def policy_or_faults(text: str) -> Policy | tuple[str, ...]:
    try:
        return parse_policy(text, "budgetguard.toml", {"X": "x"}, Path())
    except ConfigError as error:
        return error.faults


@given(TOP)
def test_any_tree_of_values_is_a_policy_or_one_error(document: dict[str, Any]) -> None:
    result = policy_or_faults("\n".join(f"{json.dumps(key)} = {as_toml(value)}" for key, value in document.items()))
    assert isinstance(result, Policy) or (result and all(fault.isprintable() for fault in result))


@given(st.text(st.characters(), max_size=60))
def test_any_text_is_a_policy_or_one_error(text: str) -> None:
    result = policy_or_faults(text)
    assert isinstance(result, Policy) or (result and sum(map(len, result)) < 4_000)
