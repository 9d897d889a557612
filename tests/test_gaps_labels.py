"""Labels are kept exactly, and each has an account of its own whatever it looks like.

Written where the bugs of `test_mutants` were found by no other test.
"""

from __future__ import annotations

import asyncio
from itertools import combinations

import pytest

import budgetguard as bg
from budgetguard.core.model import Account
from budgetguard.core.periods import Period

ONE_CALL = bg.Usage(60, 0)
ALIKE = [
    ("é", "e\N{COMBINING ACUTE ACCENT}"),
    ("a", "A"),
    ("a", "\N{CYRILLIC SMALL LETTER A}"),
    ("a", "a\N{ZERO WIDTH SPACE}"),
    ("a", " a"),
    ("ﬁ", "fi"),
    ("(none)", "none"),
    ("{x}", "x"),
    ("a\n", "a"),
    ("a\0", "a"),
]


def guard_of(*budgets: bg.Budget) -> bg.Guard:
    return bg.Guard(budgets=budgets, store="sqlite:///:memory:")


@pytest.mark.parametrize(("one", "other"), ALIKE, ids=[ascii(pair) for pair in ALIKE])
def test_labels_that_look_alike_are_two_accounts_and_come_back_exactly(one: str, other: str) -> None:
    async def scenario() -> None:
        async with guard_of(bg.Budget("each", ["100 tokens/day"], per=["agent"])) as guard:
            for agent in (one, other):
                hold = await guard.reserve(agent=agent, estimate=ONE_CALL)
                assert hold.subject["agent"] == agent
                await hold.settle(ONE_CALL)
                with pytest.raises(bg.BudgetExceeded) as refusal:
                    await guard.reserve(agent=agent, estimate=ONE_CALL)
                assert refusal.value.violations[0].account.subject == {"agent": agent}
            assert {row.subject["agent"]: row.spent for row in await guard.status()} == {one: 60, other: 60}

    asyncio.run(scenario())


def test_a_call_without_the_label_does_not_share_the_account_of_a_label_called_none() -> None:
    async def scenario() -> None:
        async with guard_of(bg.Budget("each", ["100 tokens/day"], per=["agent"])) as guard:
            await (await guard.reserve(estimate=ONE_CALL)).settle(ONE_CALL)
            await (await guard.reserve(agent="(none)", estimate=ONE_CALL)).settle(ONE_CALL)
            assert [(row.subject["agent"], row.spent) for row in await guard.status()] == [("(none)", 60)] * 2

    asyncio.run(scenario())


DAY, BERLIN = Period("calendar", "day"), Period("calendar", "day", zone="Europe/Berlin")
APART = [
    Account("a", (), "tokens", DAY, "2026-11-22"),
    Account("a", (), "tokens", BERLIN, "2026-11-22"),
    Account("a", (), "tokens", Period("calendar", "month"), "2026-11-22"),
    Account("a", (), "input_tokens", DAY, "2026-11-22"),
    Account("A", (), "tokens", DAY, "2026-11-22"),
    Account("a", (("x", "b:c"), ("y", "d")), "tokens", DAY, "2026-11-22"),
    Account("a", (("x", "b"), ("y", "c:d")), "tokens", DAY, "2026-11-22"),
    Account("a", (("x", "b:y:c"), ("y", "d")), "tokens", DAY, "2026-11-22"),
    Account("a", (("x", "b"), ("y", "c:y:d")), "tokens", DAY, "2026-11-22"),
    Account("a", (("x", "b,c"),), "tokens", DAY, "2026-11-22"),
    Account("a", (("x", 'b","c'),), "tokens", DAY, "2026-11-22"),
    Account("a", (("x", "b"), ("c", "")), "tokens", DAY, "2026-11-22"),
    Account('a",[],"tokens', (), "tokens", DAY, "2026-11-22"),
    Account("a", (("x", None),), "tokens", DAY, "2026-11-22"),
    Account("a", (("x", "(none)"),), "tokens", DAY, "2026-11-22"),
    Account("a", (("x", "null"),), "tokens", DAY, "2026-11-22"),
    Account("a", (("y", None),), "tokens", DAY, "2026-11-22"),
]


def test_no_two_accounts_have_one_key_whatever_their_names_contain() -> None:
    for one, other in combinations(APART, 2):
        assert one.key != other.key
        assert one.identity != other.identity
    assert all(account.key.isascii() for account in APART)
    tomorrow = Account("a", (), "tokens", DAY, "2026-11-23")
    assert (tomorrow.key == APART[0].key, tomorrow.identity == APART[0].identity) == (False, True)
