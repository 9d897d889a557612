"""A storm of refusals, or of faults, is told once and then in sums."""

from __future__ import annotations

import types

import pytest
from logs_kit import NOON_MS, ONE, SkippingLoop, account, lines, refusal, run

import budgetguard as bg
from budgetguard.core.amounts import Amounts
from budgetguard.events import Overage, Refused, StoreProblem
from budgetguard.logs import LogObserver
from budgetguard.repeats import MOST_REMEMBERED, Repeats
from budgetguard.stores.sqlite import SQLiteStore
from budgetguard.testing import FakeClock


async def refused(guard: bg.Guard, times: int, **labels: str) -> None:
    for _ in range(times):
        with pytest.raises(bg.CallRefused):
            await guard.reserve(**labels)


def test_a_storm_of_refusals_is_one_warning_and_a_sum_after_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    async def play(loop: SkippingLoop) -> None:
        store = SQLiteStore(":memory:", clock=FakeClock(NOON_MS))
        budget = bg.Budget("each-agent", ["10 requests/day"], per=["agent"], block=True, alert_at=[])
        async with bg.Guard(budgets=[budget], store=store) as guard:
            for agent in ("a", "b"):
                for _ in range(10):
                    async with guard.reserve(agent=agent, estimate=ONE) as hold:
                        hold.record(ONE)
            await refused(guard, 100, agent="a")
            await refused(guard, 1, agent="b")
            assert [line.split()[1] for line in lines(caplog)] == ["agent=a", "agent=b"]
            await loop.skip(59)
            assert len(lines(caplog)) == 2
            await loop.skip(1.5)
            assert lines(caplog)[2:] == [
                'budget.refused_summary count=99 kinds=1 most="each-agent [agent=a] requests/day@UTC: 99"'
            ]
            await loop.skip(600)
            assert len(lines(caplog)) == 3, "nothing repeated since: there is nothing to say"
            await refused(guard, 7, agent="b")
            await loop.skip(61)
            assert lines(caplog)[3:] == [
                'budget.refused_summary count=7 kinds=1 most="each-agent [agent=b] requests/day@UTC: 7"'
            ]

    run(play)


def test_a_new_window_is_told_anew(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock(NOON_MS)

    async def play(_: SkippingLoop) -> None:
        budget = bg.Budget("none", ["0 requests/minute"], block=True, alert_at=[])
        async with bg.Guard(budgets=[budget], store=SQLiteStore(":memory:", clock=clock)) as guard:
            for _ in range(3):
                await refused(guard, 5)
                clock.advance(60_000)

    run(play)
    windows = [line.split("window=")[1].split()[0] for line in lines(caplog)]
    assert windows == [f"2026-11-22T12:0{minute}+00:00" for minute in range(3)]


@pytest.mark.parametrize(
    ("limit", "span_s"), [("$5/rolling 10 minutes", 600), ("$5/total", 86_400), ("3 concurrent", 86_400)]
)
def test_an_account_without_windows_is_told_again_after_its_span(
    limit: str, span_s: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1_000_000.0
    monkeypatch.setattr("limits.storage.memory.time", types.SimpleNamespace(time=lambda: now_s))
    repeats, event = Repeats(), refusal(account(limit, ""))
    assert [repeats.is_new(event) for _ in range(3)] == [True, False, False]
    now_s += span_s - 1
    assert not repeats.is_new(event)
    now_s += 2
    assert repeats.is_new(event)


def test_a_refusal_by_one_more_account_is_told() -> None:
    repeats = Repeats()
    first, second = refusal(account()).violations[0], refusal(account("2k tokens/day")).violations[0]
    both = Refused("r-1", {}, "budget", (first, second))
    assert repeats.is_new(Refused("r-1", {}, "budget", (first,)))
    assert repeats.is_new(both)
    assert not repeats.is_new(both)
    (sums,) = repeats.take().values()
    assert (sums.count, len(sums.kinds)) == (1, 2)


def test_other_refusals_are_told_once_for_each_cause_and_label_set(caplog: pytest.LogCaptureFixture) -> None:
    async def play(loop: SkippingLoop) -> None:
        rules = bg.LabelRules(required=["team"])
        async with bg.Guard("$5/day", labels=rules, store="sqlite:///:memory:") as guard:
            await refused(guard, 5, agent="a")
            await refused(guard, 5, agent="b")
            await refused(guard, 5, agent="a", team="t", model="nobody-knows")
            await loop.skip(61)

    run(play)
    heads = [line.split(" reservation_id")[0] for line in lines(caplog)]
    causes = [line.split("cause=")[1].split()[0] for line in lines(caplog) if "cause=" in line]
    assert causes == ["LabelRequired", "LabelRequired", "EstimateRequired"]
    assert heads[-1] == 'budget.refused_summary count=12 kinds=2 most="LabelRequired: 8, EstimateRequired: 4"'


def test_calls_that_no_budget_covers_are_told_once_for_each_label_set(caplog: pytest.LogCaptureFixture) -> None:
    async def play(loop: SkippingLoop) -> None:
        budget = bg.Budget("other", ["$5/day"], where={"team": "other"})
        async with bg.Guard(budgets=[budget], store="sqlite:///:memory:") as guard:
            for team in ("a", "b", "a", "b", "a"):
                await (await guard.reserve(team=team)).release()
            await loop.skip(61)

    run(play)
    assert lines(caplog) == ["budget.unmatched team=a", "budget.unmatched team=b"]


def test_a_store_that_is_away_is_told_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1_000_000.0
    monkeypatch.setattr("limits.storage.memory.time", types.SimpleNamespace(time=lambda: now_s))

    async def play(loop: SkippingLoop) -> None:
        nonlocal now_s
        log = LogObserver()
        for _ in range(3):
            for _ in range(50):
                log.on_event(StoreProblem("reserve", "no answer", let_through=True))
            now_s += 61
            await loop.skip(61)

    run(play)
    assert [line.split()[0] for line in lines(caplog)] == ["budget.store_away", "budget.store_away_summary"] * 3
    assert 'count=49 kinds=1 most="reserve: no answer: 49"' in lines(caplog)[1]


def test_calls_above_learned_estimates_are_told_once_for_an_agent_and_model_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def play(loop: SkippingLoop) -> None:
        log = LogObserver()
        for number in range(50):
            subject = {"agent": "a", "session": f"s-{number}", "model": "m"}
            log.on_event(Overage(f"r-{number}", subject, Amounts(tokens=3), 0))
        log.on_event(Overage("r-51", {"agent": "a", "model": "m"}, Amounts(tokens=3), 1))
        log.on_event(Overage("r-52", {}, Amounts(tokens=3), 0))
        await loop.skip(61)

    run(play)
    *told, summary = lines(caplog)
    assert [line.split(" overage_tokens=3 ")[1] for line in told] == ["overdrawn=0", "overdrawn=1", "overdrawn=0"]
    assert summary == 'budget.overage_summary count=49 kinds=1 most="agent=a model=m: 49"'


def test_overage_is_told_again_after_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1_000_000.0
    monkeypatch.setattr("limits.storage.memory.time", types.SimpleNamespace(time=lambda: now_s))
    repeats, event = Repeats(), Overage("r-1", {"agent": "a"}, Amounts(tokens=3), 0)
    assert [repeats.is_new(event) for _ in range(3)] == [True, False, False]
    now_s += 3_601
    assert repeats.is_new(event)


def test_memory_has_a_bound_however_many_accounts_refuse() -> None:
    repeats = Repeats()
    many = [refusal(account(window="", limit="$2/total", session=f"s-{n}")) for n in range(MOST_REMEMBERED + 10)]
    assert all(repeats.is_new(event) for event in many)
    assert not repeats.is_new(many[-1])
    assert repeats.is_new(many[0]), "it has started again meanwhile, and tells rather too much than too little"
