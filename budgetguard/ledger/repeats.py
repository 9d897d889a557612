"""Prompts that were asked again, found by their hashes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from budgetguard.ledger.charges import instant_ms
from budgetguard.ledger.sums import Dialect, condition
from budgetguard.ledger.totals import Ask, Between


class Repeat(NamedTuple):
    """A prompt that several operations asked: how often, when first and last, and by which agents ('' for none).

    `again_tokens` and `again_nanousd` are what all but the first of them took and cost; `again_unpriced_calls` of them
    have no known price and cost 0 here. The attempts of one operation are one asking.
    """

    prompt_hash: str
    times: int
    first_ms: int
    last_ms: int
    tokens: int
    cost_nanousd: int
    again_tokens: int
    again_nanousd: int
    again_unpriced_calls: int
    agents: tuple[str, ...] = ()


class Repeats(NamedTuple):
    """The repeats that cost most, and of all of them: how many prompts, asked how often again, at what cost, which is
    that of all calls but `again_unpriced_calls`.

    `hashed_calls` of the `calls` have a prompt hash at all.
    """

    calls: int
    hashed_calls: int
    prompts: int
    again: int
    again_nanousd: int
    again_unpriced_calls: int
    told: Sequence[Repeat]


def repeats(ask: Ask, dialect: Dialect, between: Between, where: Mapping[str, str], most: int) -> Repeats:
    """As `Book.repeats`."""
    holds, bindings = condition(ask, dialect, between, where)
    ((calls, hashed_calls),) = ask(f"SELECT count(*), count(prompt_hash) FROM token_usage WHERE {holds}", bindings)  # noqa: S608 - of constants
    found = [
        Repeat._make([prompt_hash, int(times), instant_ms(first), instant_ms(last), *map(int, sums), ()])
        for prompt_hash, times, first, last, *sums in ask(_question(holds), bindings)
    ]
    found.sort(key=lambda one: (-one.again_nanousd, -one.again_tokens, -one.times, one.prompt_hash))
    told = found[:most]
    agents: dict[str, list[str]] = {one.prompt_hash: [] for one in told}
    question = (
        f"SELECT DISTINCT prompt_hash, coalesce(agent, '') FROM token_usage WHERE {holds} "  # noqa: S608 - of constants
        f"AND prompt_hash IN ({dialect.members})"
    )
    for prompt_hash, agent in ask(question, [*bindings, json.dumps(list(agents))]):
        agents[str(prompt_hash)].append(str(agent))
    told = [one._replace(agents=tuple(sorted(agents[one.prompt_hash]))) for one in told]
    again = sum(one.times - 1 for one in found)
    again_nanousd, unpriced = sum(one.again_nanousd for one in found), sum(one.again_unpriced_calls for one in found)
    return Repeats(calls, hashed_calls, len(found), again, again_nanousd, unpriced, told)


def _question(holds: str) -> str:
    """Every repeat. The first asking of a prompt is the operation that was admitted first."""
    return f"""
WITH operations AS (
    SELECT prompt_hash, operation_id, min(timestamp) AS first, max(timestamp) AS last,
           sum(total_tokens) AS tokens, sum(coalesce(cost_nanousd, 0)) AS nanousd,
           sum(CASE WHEN cost_nanousd IS NULL THEN 1 ELSE 0 END) AS unpriced
    FROM token_usage WHERE {holds} AND prompt_hash IS NOT NULL GROUP BY prompt_hash, operation_id
), askings AS (
    SELECT *, row_number() OVER (PARTITION BY prompt_hash ORDER BY first, operation_id) AS place FROM operations
)
SELECT prompt_hash, count(*), min(first), max(last), sum(tokens), sum(nanousd),
       sum(CASE WHEN place > 1 THEN tokens ELSE 0 END), sum(CASE WHEN place > 1 THEN nanousd ELSE 0 END),
       sum(CASE WHEN place > 1 THEN unpriced ELSE 0 END)
FROM askings GROUP BY prompt_hash HAVING count(*) > 1"""  # noqa: S608 - of constants
