"""What a refusal tells its caller: well-formed whatever names there are, and nothing of what others spend."""

from __future__ import annotations

import asyncio
import json

import pytest
from guard_kit import ESTIMATE, MODEL, World

import budgetguard as bg
from budgetguard.integrations.http_refusals import headers_of, problem_of

HOSTILE = ['a"b\\c', "x\r\nSet-Cookie: a=b", "naïve ☃ \x7f\x00", '50%;q=9, "b";r=1', "\u202egnp", "#" * 40, " "]
ANN = {"user": "ann"}


def refused(world: World, *budgets: bg.Budget, user: str = "ann") -> bg.BudgetExceeded:
    """The refusal of somebody's second call, beside their first and one of Bob's, which are under way."""

    async def main() -> bg.BudgetExceeded:
        async with world.guard(budgets=budgets) as guard:
            holds = [await guard.reserve(user=whose, model=MODEL, estimate=ESTIMATE) for whose in ("bob", user)]
            with pytest.raises(bg.BudgetExceeded) as info:
                await guard.reserve(user=user, model=MODEL, estimate=ESTIMATE)
            for hold in holds:
                await hold.release()
        return info.value

    return asyncio.run(main())


def refused_by_names(world: World, name: str) -> bg.BudgetExceeded:
    """By all five limits of two budgets."""
    limits = ["2k tokens/hour", "2 concurrent", "$0.002/rolling 10 minutes", "2 requests/total"]
    hers = bg.Budget(f"{name}2", per=["user"], limits=["1k tokens/day"])
    return refused(world, bg.Budget(name, limits=limits), hers)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_any_text_make_one_line_of_ascii(name: str, world: World) -> None:
    refusal = refused_by_names(world, name)
    headers, told = headers_of(refusal, ANN), json.loads(problem_of(refusal, ANN))
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    lines = str(refusal).split("\n")
    assert len(lines) == 2 * 5 + 1 and all(line.isprintable() for line in lines)
    assert told["detail"].isprintable()
    assert told["detail"].endswith(" refused this call: 2k tokens/hour is held by open calls; try again in 1 s")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_parser_of_structured_fields_reads_headers_with_names_of_any_text(name: str, world: World) -> None:
    http_sf = pytest.importorskip("http_sf", reason="http-sf is not installed")
    refusal = refused_by_names(world, name)
    headers, told = headers_of(refusal, ANN), json.loads(problem_of(refusal, ANN))
    policies = http_sf.parse(headers["RateLimit-Policy"].encode(), tltype="list")
    standings = http_sf.parse(headers["RateLimit"].encode(), tltype="list")
    assert [found for found, _ in policies] == [found for found, _ in standings] == told["violated-policies"]
    assert len(policies) == len(refusal.violations) == 5
    assert all(type(found["q"]) is int and found.keys() <= {"q", "qu", "w"} for _, found in policies)
    assert all(type(found["r"]) is int and found.keys() <= {"r", "t"} for _, found in standings)


@pytest.mark.parametrize("user", HOSTILE)
def test_no_label_is_told_to_anybody(user: str, world: World) -> None:
    budget = bg.Budget("each", per=["user"], limits=["1k tokens/day"])
    refusal = refused(world, budget, user=user)
    labels = {"user": user}
    assert headers_of(refusal, labels) == {
        "x-should-retry": "false",
        "Retry-After": "1",
        "RateLimit-Policy": '"each tokens/day";q=1000;qu="tokens";w=86400',
        "RateLimit": '"each tokens/day";r=200;t=1',
    }
    detail = json.loads(problem_of(refusal, labels))["detail"]
    assert detail == "each refused this call: 800 tokens is held by 1 open call; try again in 1 s"


@pytest.mark.parametrize(
    ("per", "labels", "is_own"),
    [
        (["user"], {"user": "ann"}, True),
        (["agent", "user"], {"user": "ann", "team": "search"}, True),
        (["user"], {"user": "bob"}, False),  # on behalf of somebody else
        (["user"], {}, False),
        ([], {"user": "ann"}, False),
        (["model"], {"user": "ann"}, False),
        (["agent"], {"user": "ann"}, False),  # which nobody has: all such calls share it
    ],
)  # fmt: skip
def test_how_much_is_left_or_held_is_told_of_the_callers_own_accounts_only(
    per: list[str], labels: dict[str, str], is_own: bool, world: World
) -> None:
    limit, left, held = ("1k", 200, "800 tokens is held by 1 open call") if "user" in per else ("2k", 400, "")
    refusal = refused(world, bg.Budget("each", per=per, limits=[f"{limit} tokens/hour"]))
    headers, detail = headers_of(refusal, labels), json.loads(problem_of(refusal, labels))["detail"]
    told = held if is_own else f"{limit} tokens/hour is held by open calls"
    assert detail == f"each refused this call: {told}; try again in 1 s"
    assert headers["RateLimit"] == f'"each tokens/hour";r={left if is_own else 0};t=1'
    assert headers["RateLimit-Policy"].startswith(f'"each tokens/hour";q={limit[0]}000;')


def test_a_refusal_without_limits_tells_no_limits() -> None:
    refusal = bg.BudgetExceeded("the agent has spent enough\n  today", (), 1.001, "r-1", {})
    assert headers_of(refusal) == {"x-should-retry": "false", "Retry-After": "2"}
    told = json.loads(problem_of(refusal))
    assert (told["detail"], told["violated-policies"]) == ("the agent has spent enough", [])
