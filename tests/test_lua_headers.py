"""The header of every Lua script and verb says what its body does, and what the client sends and reads."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from lua_checks import (
    faults_of_arguments,
    faults_of_clocks,
    faults_of_endings,
    faults_of_headers,
    faults_of_includes,
    faults_of_keys,
    faults_of_marks,
    faults_of_names,
    faults_of_numbers,
    faults_of_operations,
    faults_of_records,
    faults_of_replies,
    faults_of_words,
)
from lua_text import VERBS, Files, composed, lua_files

from budgetguard.stores import scripts

CHECKS: dict[str, Callable[[Files], list[str]]] = {
    "headers": faults_of_headers, "endings": faults_of_endings, "marks": faults_of_marks,
    "includes": faults_of_includes, "clocks": faults_of_clocks, "numbers": faults_of_numbers,
    "records": faults_of_records, "names": faults_of_names,
    **{f"keys of {name}": lambda files, name=name: faults_of_keys(files, name) for name in scripts.NAMES},
    **{f"arguments of {name}": lambda files, name=name: faults_of_arguments(files, name) for name in scripts.NAMES},
    **{f"replies of {name}": lambda files, name=name: faults_of_replies(files, name) for name in scripts.NAMES},
    **{f"operation of {verb}": lambda files, verb=verb: faults_of_operations(files, verb) for verb in VERBS},
    **{f"words of {verb}": lambda files, verb=verb: faults_of_words(files, verb) for verb in VERBS},
}  # fmt: skip
PLANTED = r"""
headers               | reserve         | -- never  | -- Never
headers               | due             | -- Lists  | Lists
headers               | clock           | -- returns | -- tells
headers               | extend          | -- operation { | -- {
keys of batch         | batch           | KEYS[3] index | KEYS[3] outbox
keys of batch         | batch           | KEYS[4] outbox, then | then
keys of batch         | batch           | , then every | , every
keys of batch         | lib/tell_time   | KEYS[2] | KEYS[6]
keys of due           | due             | KEYS[2] open | KEYS[3] open
keys of due           | due             | -- KEYS[1] meta, KEYS[2] open | -- KEYS[1] meta
keys of prune         | prune           | KEYS[2] index, KEYS[3] outbox | KEYS[2] outbox, KEYS[3] index
arguments of batch    | batch           | heard_ms, | and
arguments of batch    | lib/asked       | bg.asked[7] | bg.asked[9]
arguments of batch    | batch           | ARGV[1] packed | ARGV[2] packed
arguments of open     | open            | clock_ms, heard_ms | clock_ms
arguments of open     | open            | bg.asked[6] | true
replies of due        | due             | {'ok', now_ms, lost_since_ms, ids} | {'ok', now_ms, ids}
replies of due        | due             | or what `meta_refusal` tells | alone
operation of reserve  | reserve         | estimate, info, usage | estimate, usage, info
operation of reserve  | reserve         | , tried_since_ms} | }
operation of reserve  | reserve         | op[9] | op[10]
operation of settle   | settle          | op[14] | op[13]
operation of settle   | settle          | {verb, id, plan, actual | {verb, id, plan, estimate
operation of announce | announce        | kind, term_ms | term_ms, kind
words of reserve      | reserve         | refused, replayed | replayed
words of reserve      | reserve         | 'too_old' | 'clock'
words of reserve      | reserve         | { 'clock' } | { 'clock', 0 }
words of settle       | settle          | conflict or | conflict, unknown or
words of settle       | settle          | 'uncounted' | 'late'
words of extend       | extend          | 'extended' | 'prolonged'
words of extend       | extend          | word is extended | word is prolonged
words of announce     | announce        | else no | else never
endings               | batch           | 'invalid' \| | 'wrong' \|
endings               | lib/refuse      | 'invalid', what | 'wrong', what
marks                 | reserve         | -- Past this line it must succeed. | --
marks                 | release         | -- Past this line | -- Beyond this line
marks                 | extend          | bg.change_hold(hold) | bg.demand(hold, '')\n  bg.change_hold(hold)
marks                 | settle          | local overage | bg.words_of(digests) local overage
marks                 | grow            | local found | bg.change_hold(hold) local found
includes              | batch           | --- include lib/rows |
includes              | batch           | --- include lib/rows | --- include lib/rows\n--- include lib/rows
includes              | batch           | include lib/rows | include lib/lines
includes              | clock           | --- include lib/now | --- include lib/slots\n--- include lib/now
clocks                | lib/live        | bg.first_live | redis.call('TIME')[1] and bg.first_live
numbers               | lib/meta        | bg.SCHEMA = 1 | bg.SCHEMA = 2
numbers               | lib/amounts     | 9007199254740991 | 9007199254740992
numbers               | lib/claims      | bg.HELD = 1, 2, 3, 4 | bg.HELD = 1, 2, 4, 3
numbers               | expire          | 7 * bg.DAY_MS | 8 * bg.DAY_MS
names                 | lib/stored      | bg.NONE = {} | bg.a, bg.b, bg.c, bg.d, bg.e, bg.f, bg.g, bg.h, bg.i, bg.j = {}
records               | lib/write_hold  | hold.usage, |
records               | lib/holds       | revision, plan, estimate | plan, revision, estimate
"""
"""A check, a file, what stands there, and the fault in its place."""


@pytest.mark.parametrize("check", CHECKS)
def test_headers_say_what_bodies_do(check: str) -> None:
    assert CHECKS[check](lua_files()) == []


def test_what_is_checked_is_what_redis_gets() -> None:
    files = lua_files()
    for name in scripts.NAMES:
        for manual in (False, True):
            assert composed(files, name, manual).encode() == scripts.script(name, manual).body


@pytest.mark.parametrize("planted", [line for line in PLANTED.splitlines() if line])
def test_each_check_sees_the_faults_that_it_is_for(planted: str) -> None:
    parts = (text.strip() for text in re.split(r"(?<!\\)\|", planted))
    check, part, old, new = (text.replace(r"\|", "|").replace(r"\n", "\n") for text in parts)
    files = lua_files()
    assert old in files[part], "stale: it does not stand there any more"
    files[part] = files[part].replace(old, new)
    assert CHECKS[check](files) != []


def test_a_file_without_a_header_is_noticed() -> None:
    files = lua_files()
    files["lib/meta"] = files["lib/meta"].partition("\n")[2]
    assert faults_of_headers(files) == ["lib/meta: the header has no purpose"]
