"""Refusals reach the caller as refusals: at the first attempt, as our type and as the SDK's own."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import pickle
from typing import Any

import pytest
from guard_kit import ESTIMATE, LossyStore, World
from replay_kit import Replay
from sdk_kit import Sdk, closing, each_sdk, four_sdks, ledger_rows, openai

import budgetguard as bg
from budgetguard.events import Refused

streamed = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


def raised(sdk: Sdk, guard: bg.Guard, url: str, stream: bool, **options: Any) -> bg.BudgetGuardError:
    """What a call of a wrapped client that would try six times raises, and that it asked for nothing."""
    client = guard.wrap(sdk.client(url, max_retries=5))
    with pytest.raises(sdk.base) as info:
        sdk.create(client, stream=stream, **options)
    sdk.close(client)
    assert isinstance(info.value, bg.BudgetGuardError)
    return info.value


@each_sdk
@streamed
def test_a_budgets_refusal_is_told_at_once_as_both_types(sdk: Sdk, stream: bool, world: World) -> None:
    with Replay(sdk.plain) as server, closing(world.guard("10 tokens/day")) as guard:
        with bg.acting_as(team="search"):
            error = raised(sdk, guard, server.url, stream)
        assert isinstance(error, bg.BudgetExceeded) and isinstance(error, sdk.base)
        assert type(error).__name__ == "BudgetExceeded"
        assert (error.status_code, error.retry_after, error.subject["team"]) == (429, None, "search")
        assert [violation.reason for violation in error.violations] == ["impossible"]
        assert str(error).startswith("default refused this call: ")
        assert len(world.heard.of(Refused)) == 1, "one attempt"
        assert (server.asked, world.reserved(), world.statuses()) == ([], 0, [])
        assert bg.refusal_in(error) is error


@four_sdks
def test_the_refusal_is_what_it_was_after_a_pickle_and_a_copy(sdk: Sdk, world: World) -> None:
    with Replay(sdk.plain) as server, closing(world.guard("10 tokens/day")) as guard:
        error = raised(sdk, guard, server.url, stream=False)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301 - our own
        assert isinstance(again, bg.BudgetExceeded)
        assert (str(again), again.violations, again.reservation_id, again.retry_after) == (
            str(error), error.violations, error.reservation_id, error.retry_after,
        )  # fmt: skip


@each_sdk
def test_the_other_reasons_of_a_guard_come_out_as_themselves(sdk: Sdk, world: World) -> None:
    away = LossyStore(world.store())
    away.refused.add("reserve")
    cases: list[tuple[type[bg.BudgetGuardError], bg.Guard]] = [
        (bg.PriceUnknown, world.guard("$1/day", prices=[])),
        (bg.LabelRequired, world.guard("1k tokens/day", labels=bg.LabelRules(required=["team"]))),
        (bg.StoreAway, world.guard("1k tokens/day", store=away)),
    ]
    with Replay(sdk.plain) as server:
        for kind, made in cases:
            with closing(made) as guard:
                error = raised(sdk, guard, server.url, stream=False)
                assert isinstance(error, kind) and isinstance(error, sdk.base)
                assert not hasattr(error, "status_code"), "that is for budgets"
                assert isinstance(pickle.loads(pickle.dumps(error)), kind)  # noqa: S301 - our own
        assert server.asked == []


@four_sdks
def test_an_api_that_is_not_known_is_refused_with_what_can_be_done(sdk: Sdk, world: World) -> None:
    with Replay(sdk.plain) as server, closing(world.guard("1k tokens/day")) as guard:
        client = guard.wrap(sdk.client(server.url, max_retries=5))
        with pytest.raises(bg.UnguardedApi, match="on_unknown_api") as info:
            sdk.run(client.post("/v1/audio/speech", body={"input": "hello"}, cast_to=object))
        assert isinstance(info.value, sdk.base)
        assert server.asked == []
        sdk.close(client)


@four_sdks
def test_a_stream_that_a_budget_stops_ends_with_the_refusal_after_what_was_paid_for(sdk: Sdk, world: World) -> None:
    settings = bg.GuardSettings(on_stream_exceed="stop")
    with Replay(sdk.stream(3_000)) as server, closing(world.guard("900 tokens/day", settings=settings)) as guard:
        client = guard.wrap(sdk.client(server.url, max_retries=5))
        seen: list[Any] = []

        with pytest.raises(bg.BudgetExceeded) as info:
            sdk.read(client, seen)
        assert isinstance(info.value, sdk.base)
        assert 20 < len(seen) < 1_000, "what was paid for has come, and no more"
        assert (len(server.asked), world.reserved()) == (1, 0)
        (row,) = ledger_rows(world)
        assert (row["status"], row["usage_source"], row["error_type"]) == ("error", "counted", "BudgetExceeded")
        assert 20 < row["completion_tokens"] <= 900
        sdk.close(client)


@four_sdks
def test_a_caller_that_catches_the_sdks_error_or_ours_catches_the_same(sdk: Sdk, world: World) -> None:
    with Replay(sdk.plain) as server, closing(world.guard("1 requests/day")) as guard:
        client = guard.wrap(sdk.client(server.url))
        sdk.create(client)
        for kind in (sdk.base, bg.BudgetExceeded, bg.CallRefused, bg.BudgetGuardError):
            with contextlib.suppress(kind):
                sdk.create(client)
                raise AssertionError("it was not refused")
        assert len(server.asked) == 1
        sdk.close(client)


def test_a_refusal_ends_a_task_group_and_is_found_in_it(world: World) -> None:
    async def main() -> None:
        async with (
            world.guard("1 requests/day") as guard,
            guard.reserve(estimate=ESTIMATE),
            guard.wrap(openai.AsyncOpenAI(api_key="k", max_retries=5)) as client,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(refused(client))

    async def refused(client: Any) -> None:
        with bg.acting_as(team="search"):
            await client.chat.completions.create(model="acme-1", messages=[])

    with pytest.raises(ExceptionGroup) as info:
        asyncio.run(main())
    assert isinstance(bg.refusal_in(info.value), bg.BudgetExceeded)
