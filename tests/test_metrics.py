"""What the metrics of a process say of its calls: every kind of end, refusals, waiting, faults of the store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from delay_kit import ONE_AT_A_TIME, soon, taken, waits
from guard_kit import ESTIMATE, MODEL, USAGE, LossyStore, World, run_script
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import budgetguard as bg
from budgetguard import metrics
from budgetguard.metrics import Prometheus, label_name

HOSTILE = 'x"} 1\nbudgetguard_cost_usd_total{team="\\\x00\x1b[31m\u202e\ud7ff\'} 9'


class Counted:
    """A registry of its own, and the observer that counts in it."""

    def __init__(self, labels: Sequence[str] = ("team",), most_values: int = 50) -> None:
        self.registry = CollectorRegistry()
        self.observer = Prometheus(labels, most_values=most_values, registry=self.registry)

    def guard(self, world: World, *limits: str, **options: object) -> bg.Guard:
        return world.guard(*limits, observers=[self.observer], **options)

    def of(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"budgetguard_{name}", labels)

    def all(self, name: str) -> dict[tuple[str, ...], float]:
        """Every sample of a metric that is not zero, by the values of its labels in the order of their names."""
        return {
            tuple(value for _, value in sorted(sample.labels.items())): sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == f"budgetguard_{name}" and sample.value
        }


async def broken_off_by(error: type[BaseException], guard: bg.Guard) -> None:
    async with guard.reserve(estimate=ESTIMATE) as hold:
        hold.record(USAGE)
        raise error


@pytest.fixture
def counted() -> Iterator[Counted]:
    return Counted()


def test_the_types_of_tokens_do_not_overlap_and_add_up_to_what_the_ledger_says(world: World, counted: Counted) -> None:
    async def main() -> None:
        async with counted.guard(world, "9k tokens/day") as guard:
            for usage in (bg.Usage(500, 100, 200, 100, 40, 30), bg.Usage(5, 1)):
                async with guard.reserve(team="search", model=MODEL, estimate=ESTIMATE) as hold:
                    hold.record(usage)

    asyncio.run(main())
    assert counted.all("tokens_total") == {
        ("search", "input"): 205,
        ("search", "cache_read"): 200,
        ("search", "cache_write"): 100,
        ("search", "output"): 71,
        ("search", "reasoning"): 30,
    }
    assert sum(counted.all("tokens_total").values()) == world.spent("tokens") == 606
    assert counted.of("cost_usd_total", team="search") == pytest.approx(707e-6)
    assert counted.of("reserve_seconds_count") == counted.of("settle_seconds_count") == 2
    assert 0 < (counted.of("settle_seconds_sum") or 0) < 60
    assert 0 < (counted.of("reserve_seconds_sum") or 0) < 60


def test_calls_are_counted_by_how_they_ended(world: World, counted: Counted) -> None:
    async def main() -> None:
        async with counted.guard(world, "90k tokens/day") as guard:
            await (await guard.reserve(team="a", estimate=ESTIMATE)).settle(USAGE)
            await (await guard.reserve(team="a", estimate=ESTIMATE)).settle()
            for _ in range(2):
                await (await guard.reserve(team="b", estimate=ESTIMATE)).release()
            for error in (KeyError, asyncio.CancelledError):
                with pytest.raises(error):
                    await broken_off_by(error, guard)

    asyncio.run(main())
    assert counted.all("calls_total") == {
        ("settled", "a"): 1,
        ("assumed", "a"): 1,
        ("released", "b"): 2,
        ("error", ""): 1,
        ("cancelled", ""): 1,
    }


def test_what_an_estimate_was_off_by_is_told_of_usage_that_is_known(world: World, counted: Counted) -> None:
    async def main() -> None:
        async with counted.guard(world, "90k tokens/day") as guard:
            for tokens in (800, 600, 1_000):
                await (await guard.reserve(estimate=ESTIMATE)).settle(bg.Usage(tokens, 0))
            await (await guard.reserve(estimate=ESTIMATE)).settle()  # assumed: nobody knows

    asyncio.run(main())
    assert counted.all("estimate_error_ratio_count") == {("high",): 2, ("low",): 1}
    assert counted.all("estimate_error_ratio_sum") == {("high",): 0.25, ("low",): 0.25}


def test_a_refusal_counts_for_each_budget_that_refused(world: World, counted: Counted) -> None:
    async def main() -> None:
        budgets = [bg.Budget("first", ["700 tokens/day", "9 tokens/hour"]), bg.Budget("second", ["1k tokens/day"])]
        async with counted.guard(world, budgets=budgets) as guard:
            for tokens in (1_001, 2_000):
                with pytest.raises(bg.BudgetExceeded):
                    await guard.reserve(estimate=bg.Usage(tokens, 0))
            with pytest.raises(bg.EstimateRequired):
                await guard.reserve()

    asyncio.run(main())
    assert counted.all("refusals_total") == {
        ("first", "enforce", "impossible"): 2,
        ("second", "enforce", "impossible"): 2,
        ("", "enforce", "EstimateRequired"): 1,
    }


def test_what_shadow_lets_through_is_counted_apart(world: World, counted: Counted) -> None:
    async def main() -> None:
        budgets = [bg.Budget("trial", ["9 tokens/day"], on_exceed="shadow")]
        async with counted.guard(world, budgets=budgets) as guard:
            await (await guard.reserve(estimate=ESTIMATE)).release()
        async with counted.guard(world, "9 tokens/day", mode="shadow") as guard:
            await (await guard.reserve()).release()

    asyncio.run(main())
    assert counted.all("refusals_total") == {
        ("trial", "shadow", "exceeded"): 1,
        ("", "shadow", "EstimateRequired"): 1,
    }


def test_the_budgets_of_runs_are_one_for_each_name(world: World, counted: Counted) -> None:
    async def main() -> None:
        async with counted.guard(world, "9k tokens/day") as guard:
            for _ in range(3):
                with pytest.raises(bg.BudgetExceeded):
                    async with guard.within("5 tokens", name="nightly"):
                        await guard.reserve(estimate=ESTIMATE)

    asyncio.run(main())
    assert counted.all("refusals_total") == {("nightly", "enforce", "impossible"): 3}


def test_calls_that_wait_are_counted_until_they_are_admitted_or_cancelled(world: World, counted: Counted) -> None:
    async def main() -> None:
        async with counted.guard(world, budgets=[ONE_AT_A_TIME]) as guard:
            first = await taken(guard)
            waiters = [await waits(guard) for _ in range(2)]
            assert counted.of("waiting_calls") == 2
            waiters[1].cancel()
            await asyncio.wait([waiters[1]])
            assert counted.of("waiting_calls") == 1
            await first.release()
            await (await soon(waiters[0])).release()
            assert counted.of("waiting_calls") == 0

    asyncio.run(main())


@pytest.mark.parametrize("on_store_away", ["refuse", "allow"])
def test_what_the_store_failed_in_is_counted(
    world: World, counted: Counted, tmp_path: Path, on_store_away: str
) -> None:
    policy = f'[store]\non_store_away = "{on_store_away}"\n[[budget]]\nname = "all"\nlimits = ["9k tokens/day"]\n'
    (tmp_path / "policy.toml").write_text(policy, encoding="utf-8")

    async def main() -> None:
        store = LossyStore(world.store())
        async with bg.Guard.from_toml(tmp_path / "policy.toml", store=store, observers=[counted.observer]) as guard:
            store.refused = {"reserve"}
            if on_store_away == "refuse":
                with pytest.raises(bg.StoreAway):
                    await guard.reserve(estimate=ESTIMATE)
            else:
                await (await guard.reserve(estimate=ESTIMATE)).release()

    asyncio.run(main())
    let_through = str(on_store_away == "allow").lower()
    assert counted.all("store_errors_total") == {(let_through, "reserve"): 1}


def test_values_beyond_the_most_are_one(world: World) -> None:
    counted = Counted(("team", "agent"), most_values=2)

    async def main() -> None:
        async with counted.guard(world, "90k tokens/day") as guard:
            for team, agent in (("a", "x"), ("a", "y"), ("a", "z"), ("a", "zz"), ("b", "x"), ("c", "x"), ("", "")):
                labels = {"team": team, "agent": agent} if team else {}
                await (await guard.reserve(labels=labels, estimate=ESTIMATE)).release()

    asyncio.run(main())
    assert counted.all("calls_total") == {
        ("x", "released", "a"): 1,
        ("y", "released", "a"): 1,
        ("other", "released", "a"): 2,
        ("x", "released", "b"): 1,
        ("x", "released", "other"): 1,
        ("", "released", ""): 1,
    }


def test_sets_of_labels_beyond_ten_times_as_many_are_one() -> None:
    bounded = metrics.Bounded(7)
    told = {bounded(str(first), str(second)) for first in range(200) for second in range(200)}
    assert len(told) <= 70 + 1
    assert ("other", "other") in told and ("0", "0") in told and ("0", "other") in told
    wide = metrics.Bounded(7)
    told = {wide(*f"{number:04}") for number in range(10_000)}
    assert len(told) == 70 + 1


@given(st.lists(st.text(min_size=1, max_size=8), unique=True))
def test_labels_have_names_that_prometheus_takes_and_no_two_the_same(names: list[str]) -> None:
    shown = [label_name(name) for name in names]
    assert len(set(shown)) == len(names)
    assert all(name.isascii() and name.isidentifier() and not name.startswith("__") for name in shown)


@pytest.mark.parametrize(
    ("name", "shown"),
    [("team", "team"), ("type", "label_type"), ("tenant-id", "label_tenant_2d_id"), ("label_x", "label_label_5f_x")],
)
def test_a_label_keeps_its_name_where_it_can(name: str, shown: str) -> None:
    assert label_name(name) == shown


def test_hostile_labels_and_budgets_come_back_as_they_were(world: World) -> None:
    counted = Counted(("team", "le", "ten ant"))

    async def main() -> None:
        labels = {"team": HOSTILE, "le": HOSTILE, "ten ant": HOSTILE}
        budget, known = bg.Budget(HOSTILE, ["900 tokens/day"]), bg.LabelRules(known=list(labels))
        async with counted.guard(world, budgets=[budget], labels=known) as guard:
            await (await guard.reserve(labels=labels, estimate=ESTIMATE)).settle(USAGE)
            with pytest.raises(bg.BudgetExceeded):
                await guard.reserve(labels=labels, estimate=ESTIMATE)

    asyncio.run(main())
    text = generate_latest(counted.registry).decode()
    read = {s.name: s.labels for family in text_string_to_metric_families(text) for s in family.samples}
    hostile = {"team": HOSTILE, "label_le": HOSTILE, "label_ten_20_ant": HOSTILE}
    assert read["budgetguard_cost_usd_total"] == hostile
    assert read["budgetguard_calls_total"] == {**hostile, "status": "settled"}
    assert read["budgetguard_refusals_total"]["budget"] == HOSTILE


def test_a_registry_that_has_the_metrics_and_wrong_labels_are_told(counted: Counted) -> None:
    with pytest.raises(bg.ConfigError, match="one Prometheus\\(\\) for a registry"):
        Prometheus(registry=counted.registry)
    for labels in ("team", ["team", "team"]):
        with pytest.raises(bg.ConfigError, match="labels: expected names, each once"):
            Prometheus(labels, registry=CollectorRegistry())
    with pytest.raises(bg.ConfigError, match="most_values: expected 1 or more, not 0"):
        Prometheus(most_values=0, registry=CollectorRegistry())


def test_the_client_is_imported_when_it_is_needed_and_who_lacks_it_is_told_what_to_install(tmp_path: Path) -> None:
    done = run_script(
        """
import sys
import budgetguard.metrics as metrics
assert "prometheus_client" not in sys.modules
sys.modules["prometheus_client"] = None
metrics.Prometheus()
""",
        tmp_path,
    )
    assert done.returncode == 1
    assert "ConfigError" in done.stderr and "pip install 'llm-budgetguard[prometheus]'" in done.stderr


def test_the_module_describes_every_metric_with_its_labels() -> None:
    counted = Counted(())
    described = metrics.__doc__ or ""
    for family in counted.registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        assert f"`{name}" in described, name
    assert described.count("`budgetguard_") == len(list(counted.registry.collect()))
