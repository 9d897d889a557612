"""What workers learn together: they lose at most a second of it, count nothing twice, and no call is harmed by it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path

import pytest
from guard_kit import MODEL, PATIENT_MS, PRICES, LossyStore, World
from learning_kit import BOUND, DAY_MS, INPUT, WORKER, Fleet, Meanwhile, call, share, words_of
from other_process import DEADLINE_S, other_process
from redis_kit import RedisServer
from store_kit import NOON_MS, rows, stands

import budgetguard as bg
from budgetguard.core.amounts import MAX_AMOUNT
from budgetguard.core.model import Plan
from budgetguard.estimates.settings import EstimateSettings
from budgetguard.learning.forecasting import READ_TURNS, Forecasting, Guess
from budgetguard.learning.sketch import place_of
from budgetguard.learning.unsent import ASKED, EXACT, HIGH_TOKENS, LOW_TOKENS, TOO_LOW
from budgetguard.policy import Policy
from budgetguard.policy_settings import GuardSettings
from budgetguard.store import OutputCount
from budgetguard.stores import open_store
from budgetguard.stores.redis.keys import Keys, digest_of
from budgetguard.stores.redis.plans import pack


@pytest.fixture(params=["sqlite", "redis"])
def fleet(request: pytest.FixtureRequest, tmp_path: Path, state_home: None) -> Fleet:
    if request.param == "sqlite":
        return Fleet(f"sqlite:///{tmp_path / 'store.db'}", "default")
    server: RedisServer = request.getfixturevalue("redis_server")
    return Fleet(server.unix_url, request.getfixturevalue("namespace"))


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    ends_s = time.monotonic() + DEADLINE_S
    while not await holds():
        assert time.monotonic() < ends_s
        await asyncio.sleep(0.02)


def test_a_killed_worker_loses_a_second_of_learning_no_accounting_and_others_go_on_where_it_was(fleet: Fleet) -> None:
    async def main() -> None:
        async with fleet.guard() as other:
            await call(other, 70)
            async with other_process(WORKER, fleet.url, fleet.namespace) as worker:
                assert await worker.told("60") == "60"

                async def are_known() -> bool:
                    return await fleet.knows() == 61

                await until(are_known)  # by its duty alone, and by that of the guard here
                assert await worker.told("25") == "25"
                await worker.kill()
            assert 61 <= await fleet.knows() <= 86
            await call(other, 70)  # which asks for the set
            await share(other, READ_TURNS)
            await call(other, 70)
        async with fleet.guard() as new:
            await call(new, 70)
        async with aclosing(fleet.store()) as store:
            (spent, reserved), *_ = (await stands(store)).values()  # type: ignore[arg-type]
        assert (spent, reserved) == ((1 + 60 + 25 + 3) * (INPUT + 70), 0)

    asyncio.run(main())
    alone, _, others, new = fleet.estimates
    assert alone > 3_900
    assert others <= 90 and new <= 90
    assert fleet.problems == []


def test_a_new_worker_is_not_blind_however_many_sets_were_written_since(fleet: Fleet) -> None:
    async def main() -> None:
        async with fleet.guard() as old:
            for _ in range(60):
                await call(old, 70)
        async with aclosing(fleet.store()) as store:
            for first in range(0, 1_500, 500):
                rows = [OutputCount(words_of("m", "agent", f"{first + number}"), 5, 1) for number in range(500)]
                await store.note_outputs(f"f-{first}", DAY_MS, rows)
        async with fleet.guard() as new:
            await asyncio.gather(*(call(new, 70) for _ in range(5)))

    asyncio.run(main())
    assert max(fleet.estimates[60:]) <= 90


@pytest.mark.parametrize(("prompt", "output"), [(INPUT, MAX_AMOUNT - INPUT), (MAX_AMOUNT - 70, 70)])
@pytest.mark.parametrize("injects", [False, True])
def test_whatever_a_provider_says_was_used_is_recorded(fleet: Fleet, prompt: int, output: int, injects: bool) -> None:
    async def main() -> None:
        weighed = EstimateSettings(tokenizer="bytes")
        async with fleet.guard(settings=GuardSettings(inject_max_tokens=injects), estimate=weighed) as worker:
            assert await call(worker, output, prompt, max_tokens=None if injects else BOUND) is None
            await share(worker)
            async with aclosing(fleet.store()) as store:
                ((spent, reserved),) = (await stands(store)).values()  # type: ignore[arg-type]
            assert (spent, reserved) == (MAX_AMOUNT, 0)
        assert await fleet.knows() == 1

    asyncio.run(main())
    assert fleet.problems == []


POLICY = """
[estimate]
quantile = {quantile}
half_life = "{half_life}"
[[budget]]
name = "all"
limits = ["100M tokens/day"]
"""


def test_a_reload_of_the_quantile_keeps_what_was_learned_and_one_of_the_half_life_begins_anew(
    fleet: Fleet, tmp_path: Path
) -> None:
    file = tmp_path / "budgets.toml"

    def write(quantile: float, half_life: str) -> None:
        file.write_text(POLICY.format(quantile=quantile, half_life=half_life), encoding="utf-8")

    async def main() -> None:
        write(0.95, "1d")
        async with bg.Guard.from_toml(file, store=fleet.store(), observers=[fleet.heard]) as guard:
            for number in range(60):
                await call(guard, 900 if number % 10 == 9 else 70)
            write(0.8, "1d")
            guard.reload()
            await call(guard, 70)
            await share(guard)
            assert await fleet.knows() == 61, "nothing that waited was lost"
            write(0.8, "2d")
            guard.reload()
            await call(guard, 70)

    asyncio.run(main())
    *_, before, of_quantile, of_half_life = fleet.estimates
    assert 880 <= before <= 1_000 and 300 <= of_quantile <= 800
    assert of_half_life > 3_900, "sets of other half-lives are other sets"


def test_a_call_that_began_before_the_half_life_changed_does_not_change_it_back(tmp_path: Path) -> None:
    old, new = EstimateSettings(), EstimateSettings(half_life_ms=2 * DAY_MS)
    found = Forecasting()
    plan = Plan(())
    found.opened(old, plan)

    async def main() -> None:
        async with aclosing(open_store("sqlite:///:memory:", "default", PATIENT_MS)) as store:
            await found.begin(new, store, lambda: 0)
            judged = {"model": "m"}
            found.ended(old, plan)
            found.learn(Policy([], estimate=old), judged, Guess(), bg.Usage(1, 70), 0, is_cut=False)
            await found.share(store, lambda: 0, lambda event: None)
            ((words, *_),) = await store.read_outputs()
            assert words == f'["out",{2 * DAY_MS},"m"]'

    asyncio.run(main())


def hostile(fleet: Fleet, request: pytest.FixtureRequest, slice: int) -> None:
    """Somebody writes over the set of a model "evil" what no store would."""
    if fleet.url.startswith("sqlite"):
        body = json.dumps({str(slice): [5, 1]})
        rows(
            fleet.url.removeprefix("sqlite:///"),
            "UPDATE outputs SET counts = ? WHERE words = ?",
            body,
            words_of("evil"),
        )
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        key = Keys(fleet.namespace).output(digest_of(words_of("evil")))
        packed = pack([words_of("evil"), MAX_AMOUNT, slice, pack([5, 1])])
        server.ask("SET", key, packed, "PX", DAY_MS)


@pytest.mark.parametrize("slice", [-1, MAX_AMOUNT + 1])
def test_a_row_that_no_store_has_written_hides_none_of_the_others(
    fleet: Fleet, request: pytest.FixtureRequest, slice: int
) -> None:
    async def main() -> None:
        async with aclosing(fleet.store()) as store:
            for flush, names in (("a", ["evil"]), ("b", [MODEL])):
                rows_of = [OutputCount(words_of(name), place_of(70), 60) for name in names]
                await store.note_outputs(flush, DAY_MS, rows_of)
            hostile(fleet, request, slice)
        async with fleet.guard() as guard:
            await call(guard, 70, model="evil")
            await call(guard, 70)
            await share(guard, READ_TURNS)
            assert await fleet.knows("evil") == 1

    asyncio.run(main())
    assert fleet.estimates[0] > 3_900 and fleet.estimates[1] <= 90
    assert fleet.problems == []


def test_a_clock_that_jumps_spoils_no_estimate_and_no_call(world: World) -> None:
    async def main() -> None:
        fleet = Fleet("", "")
        async with bg.Guard("100M tokens/total", store=world.store(), prices=PRICES, observers=[fleet.heard]) as guard:
            for at_ms in (0, 3 * DAY_MS, 3 * DAY_MS - 60_000, 400 * DAY_MS):
                world.clock.set(NOON_MS + at_ms)
                for _ in range(60):
                    assert await call(guard, 70) is None
                await share(guard, READ_TURNS)
            await call(guard, 70)
        assert fleet.problems == []
        assert fleet.estimates[-1] <= 90

    asyncio.run(main())


@pytest.mark.parametrize("sends", [False, True])
def test_what_is_not_sent_yet_stands_beside_what_is_read(
    world: World, sends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where another event loop sends it before what was read is taken in."""
    monkeypatch.setattr("budgetguard.engine.SHARE_S", 3_600.0)  # only the test shares

    async def main() -> int:
        store = Meanwhile(world.store())
        async with bg.Guard("100M tokens/total", store=store, prices=PRICES, observers=[world.heard]) as guard:

            async def calls(output: int) -> None:
                for _ in range(60):
                    await call(guard, output)
                if sends and output == 900:
                    await share(guard)

            await calls(70)
            store.meanwhile = partial(calls, 900)
            await share(guard)
            assert store.meanwhile is None
            await call(guard, 70)
        return world.heard.of(bg.events.Settled)[-1].estimated_tokens

    assert 850 <= asyncio.run(main()) <= 1_000


def test_how_far_estimates_of_inputs_and_outputs_were_off_is_kept(fleet: Fleet) -> None:
    async def main() -> None:
        async with fleet.guard(estimate=EstimateSettings(tokenizer="bytes")) as guard:
            for number in range(60):
                await call(guard, 900 if number == 59 else 70, prompt=6)
        async with aclosing(fleet.store()) as store:
            found = {one.words: one.counts for one in await store.read_outputs()}
        outputs, inputs = (
            {place: number for _, place, number in found[words] if place >= EXACT}
            for words in (words_of(MODEL), words_of(MODEL).replace("out", "in"))
        )
        assert outputs[ASKED] == inputs[ASKED] == 60
        assert (outputs[TOO_LOW], inputs.get(TOO_LOW, 0)) == (1, 0)
        assert 820 <= outputs[LOW_TOKENS] <= 830 and outputs[HIGH_TOKENS] > 3_900
        assert 100 < inputs[HIGH_TOKENS] < 600, "weighed at first, then nearly as what came back"

    asyncio.run(main())


def test_a_flush_whose_answer_was_lost_counts_once(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("budgetguard.engine.SHARE_S", 3_600.0)

    async def main() -> None:
        store = LossyStore(fleet.store())  # type: ignore[arg-type]
        async with fleet.guard(store=store) as guard:
            await call(guard, 70)
            store.lost.add("note_outputs")
            await share(guard, 3)
            await call(guard, 70)
            store.lost.clear()
            await share(guard)
            assert await fleet.knows() == 2

    asyncio.run(main())
    assert len(fleet.problems) == 1
