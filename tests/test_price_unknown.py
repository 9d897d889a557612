"""What becomes of a call whose price nobody knows, as the policy says: refused, counted at a dear price, or at zero."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import timeit
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from guard_kit import ESTIMATE, MODEL, PRICES, World

import budgetguard as bg
from budgetguard import price_data
from budgetguard.price import Price
from budgetguard.pricing import PriceTable, cost_of

NOW_MS = int(datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()) * 1000


async def refused(guard: bg.Guard, **labels: Any) -> bg.PriceUnknown:
    with pytest.raises(bg.PriceUnknown) as found:
        await guard.reserve(estimate=ESTIMATE, **labels)
    return found.value


def text_of(world: World, **labels: Any) -> str:
    async def main() -> str:
        async with world.guard("$5/day") as guard:
            return str(await refused(guard, **labels))

    return asyncio.run(main())


def lines_to_add(text: str) -> str:
    return "[[price]]" + text.partition("\n[[price]]")[2]


def test_the_refusal_names_the_model_and_the_nearest_known_ones(world: World) -> None:
    assert "what model 'gpt-4o-mimi' costs: " in text_of(world, model="gpt-4o-mimi", provider="openai")
    assert "Did you mean gpt-4o-mini" in text_of(world, model="gpt-4o-mimi", provider="openai")
    assert f"Did you mean {MODEL}?" in text_of(world, model="acme-l", provider="nobody")
    assert "Did you mean" not in text_of(world, model="zzzzzzzzzzzz")


@pytest.mark.parametrize("model", ["gpt-9", 'a "quoted" \\ name', "line\nbreak\x7f\u202e", "ünïcode-模型", "m[1]*?"])
def test_the_lines_that_it_shows_are_a_price_once_the_dollars_are_filled_in(world: World, model: str) -> None:
    text = text_of(world, model=model)
    assert text.count("\n") == 3, "nothing that a terminal obeys"
    (entry,) = tomllib.loads(lines_to_add(text).replace("DOLLARS", "0.5"))["price"]
    assert PriceTable([Price(**entry)]).find(model, NOW_MS) is not None
    with pytest.raises(bg.InvalidAmount, match=r"usd_per_mtok\.input"):
        Price(**tomllib.loads(lines_to_add(text))["price"][0])


def test_of_a_model_on_the_users_machine_the_lines_make_it_free(world: World) -> None:
    (entry,) = tomllib.loads(lines_to_add(text_of(world, model="llama3", provider="ollama")))["price"]
    assert cost_of(PriceTable([Price(**entry)]), "llama3", bg.Usage(9, 9), NOW_MS) == (0, "price:llama3")


def test_by_default_only_a_dollar_budget_refuses(world: World) -> None:
    async def main() -> None:
        async with world.guard("100k tokens/day") as guard, guard.reserve(model="gpt-9", estimate=ESTIMATE) as hold:
            hold.record(bg.Usage(100, 10))
        assert (world.row(hold.id)["cost_nanousd"], world.row(hold.id)["price_source"]) == (None, "unknown")

    asyncio.run(main())


@pytest.mark.parametrize("word", ["zero", "upper_bound"])
def test_without_a_dollar_budget_an_unknown_price_stays_unknown_whatever_the_policy_says(
    world: World, word: Any
) -> None:
    async def main() -> None:
        guard = world.guard("100k tokens/day", settings=bg.GuardSettings(on_unknown_price=word))
        async with guard, guard.reserve(model="gpt-9", estimate=ESTIMATE) as hold:
            hold.record(bg.Usage(100, 10))
        assert (world.row(hold.id)["cost_nanousd"], world.row(hold.id)["price_source"]) == (None, "unknown")

    asyncio.run(main())


def charged(world: World, word: Any, provider: str | None) -> tuple[int, str]:
    async def main() -> tuple[int, str]:
        guard = world.guard("$5/day", settings=bg.GuardSettings(on_unknown_price=word))
        async with guard, guard.reserve(model="unheard-of", provider=provider, estimate=ESTIMATE) as hold:
            hold.record(bg.Usage(1000, 200))
        row = world.row(hold.id)
        assert world.spent("usd") == row["cost_nanousd"]
        return row["cost_nanousd"], row["price_source"]

    return asyncio.run(main())


def test_zero_lets_it_pass_and_says_so_in_its_row(world: World) -> None:
    assert charged(world, "zero", "openai") == (0, "zero")


def test_upper_bound_counts_it_as_the_dearest_of_the_providers_models(world: World) -> None:
    # o1-pro: $150 and $600. (1000 x 150 + 200 x 600) / 1e6
    assert charged(world, "upper_bound", "openai") == (270_000_000, "upper_bound:o1-pro")


def test_upper_bound_counts_it_as_the_dearest_of_all_where_the_provider_is_unknown(world: World) -> None:
    cost_nanousd, source = charged(world, "upper_bound", None)
    assert source.startswith("upper_bound:")
    assert cost_nanousd >= 270_000_000


def test_the_built_in_prices_need_no_lines_in_the_policy(world: World) -> None:
    async def main() -> None:
        guard = world.guard("$5/day", prices=[])
        async with guard, guard.reserve(model="gpt-4o-mini", provider="openai", estimate=bg.Usage(1000, 400)) as hold:
            assert world.reserved() == 390_000
            hold.record(bg.Usage(1200, 400))
        row = world.row(hold.id)
        assert row["cost_nanousd"] == world.spent("usd") == 420_000
        assert row["price_source"].startswith("genai-prices 0.")

    asyncio.run(main())


def test_a_call_that_no_dollar_budget_covers_has_its_cost_recorded_all_the_same(world: World) -> None:
    async def main() -> None:
        guard = world.guard("100k tokens/day", prices=[])
        async with guard, guard.reserve(model="gpt-4o-mini", estimate=ESTIMATE) as hold:
            hold.record(bg.Usage(1200, 400))
        assert world.row(hold.id)["cost_nanousd"] == 420_000

    asyncio.run(main())


IMPORTS = """
import asyncio, sys, threading
import budgetguard as bg

async def main(model, known):
    prices = [bg.Price(known, {"input": "1", "output": "1"})]
    async with bg.Guard("$5/day", prices=prices, store="sqlite:///" + sys.argv[1]) as guard:
        thread = []
        class Seen:
            def find_spec(self, name, path=None, target=None):
                if name == "genai_prices":
                    thread.append(threading.current_thread() is threading.main_thread())
        sys.meta_path.insert(0, Seen())
        async with guard.reserve(model=model, estimate=bg.Usage(1, 1)) as hold:
            hold.record(bg.Usage(1, 1))
        print(thread)

asyncio.run(main("gpt-4o-mini", sys.argv[2]))
"""


@pytest.mark.parametrize(("known", "imported"), [("gpt-4o*", "[]"), ("other", "[False]")])
def test_the_data_is_imported_in_a_thread_at_the_first_call_that_the_policys_prices_do_not_answer(
    tmp_path: Path, known: str, imported: str
) -> None:
    program = [sys.executable, "-c", IMPORTS, str(tmp_path / "budgets.db"), known]
    assert subprocess.run(program, check=True, capture_output=True, text=True).stdout.strip() == imported


def test_what_is_answered_from_memory_takes_microseconds() -> None:
    """A price is looked up twice for every call; the data itself needs 220 us."""
    own = PriceTable(PRICES)
    usage = bg.Usage(1200, 400)
    took_s = min(
        timeit.repeat(lambda: cost_of(own, "gpt-4o-mini", usage, NOW_MS, provider="openai"), number=1000, repeat=5)
    )
    assert price_data.loaded()
    print(f"{took_s * 1000:.2f} us")
    assert took_s / 1000 < 20e-6
