"""The table of `budgetguard/endings.py`, row by row: what is settled for an answer that does not say what it took."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any, get_args

import httpx2
import pytest
from guard_kit import World
from transport_kit import (
    ASKED,
    CHAT,
    DONE,
    HANG,
    HIDDEN,
    JSON,
    PLAIN,
    STOP,
    STREAMED,
    Play,
    Player,
    event,
    guard_of,
    heard,
    heard_sync,
    ledger_rows,
    only_row,
    request,
    word,
)  # fmt: skip

from budgetguard.call_events import Released
from budgetguard.estimate import estimate
from budgetguard.events import Assumed
from budgetguard.integrations.httpx import BudgetTransport
from budgetguard.policy_settings import WithoutUsage
from budgetguard.wire.apis import Api

RULES = get_args(WithoutUsage)
SETTINGS = ("on_cancel", "on_error", "on_unknown_outcome")
ERROR = {"error": {"message": "overloaded", "type": "server_error", "code": "overloaded"}}
HALF = (word("Hello, this"), word(" is half of"))
WITHOUT = json.dumps({"choices": [{"message": {"content": "Hello"}}]}).encode()


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Args:
        setting: the one that decides; None where nothing is ever billed.
        error_type: in the ledger.
        streams: something of a stream has come.
        caller: reads all, cancels when nothing comes any more, or leaves after so many chunks.
    """

    play: Play
    setting: str | None
    error_type: str | None = None
    streams: bool = False
    caller: str | int = "reads"


def broken(error: Exception) -> dict[str, Case]:
    name = type(error).__name__
    return {
        f"{name} in a body": Case(Play([PLAIN[:30]], JSON, ending=error), "on_error", name),
        f"{name} in a stream": Case(Play(HALF, ending=error), "on_error", name, streams=True),
    }


CASES: dict[str, Case] = {
    **{
        f"{status} {'stream' if streams else 'body'}": Case(
            Play([event(ERROR)] if streams else [json.dumps(ERROR).encode()], {} if streams else JSON, status),
            None if status in (307, 400, 401, 404, 429, 503, 529) else "on_error",
            f"http_{status}",
        )
        for status in (307, 400, 401, 404, 429, 503, 529, 408, 499, 500, 502, 504)
        for streams in (False, True)
    },
    **{
        type(error).__name__: Case(Play(before=error), None)
        for error in (httpx2.ConnectError("refused"), httpx2.ConnectTimeout("slow"), httpx2.PoolTimeout("busy"))
    },
    **{
        f"{type(error).__name__} before the answer": Case(
            Play(before=error), "on_unknown_outcome", type(error).__name__
        )
        for error in (httpx2.ReadTimeout("slow"), httpx2.WriteError("reset"), httpx2.RemoteProtocolError("gone"))
    },
    **broken(httpx2.ReadTimeout("slow")),
    **broken(httpx2.ReadError("reset")),
    **broken(httpx2.RemoteProtocolError("incomplete")),
    "cancelled before the answer": Case(Play(before=HANG), "on_cancel", "CancelledError", caller="cancels"),
    "cancelled in a body": Case(Play([PLAIN[:30]], JSON, ending=HANG), "on_cancel", "CancelledError", caller="cancels"),
    "cancelled in a stream": Case(Play(HALF, ending=HANG), "on_cancel", "CancelledError", True, "cancels"),
    "a body left unread": Case(Play([PLAIN[:30], PLAIN[30:]], JSON), "on_cancel", "left_unread", caller=1),
    "a stream left unread": Case(Play([*HALF, STOP]), "on_cancel", "left_unread", True, 2),
    "a body of success that is an error": Case(Play([json.dumps(ERROR).encode()], JSON), "on_error", "overloaded"),
    "an error inside a stream": Case(Play([*HALF, event(ERROR)]), "on_error", "overloaded", True),
    "one that its caller leaves, as SDKs do": Case(
        Play([*HALF, event(ERROR), DONE]), "on_error", "overloaded", True, 3
    ),
    "one after which nothing comes": Case(
        Play([*HALF, event(ERROR)], ending=HANG), "on_error", "overloaded", True, "cancels"
    ),
    "a body without usage": Case(Play([WITHOUT], JSON), "on_unknown_outcome"),
    "a body that is cut": Case(Play([PLAIN[:30]], JSON), "on_unknown_outcome"),
    "an empty body": Case(Play([], JSON), "on_unknown_outcome"),
    "a stream without usage": Case(Play([*HALF, STOP]), "on_unknown_outcome", None, True),
}
KINDS_OF_CALLER = [(name, way) for name, case in CASES.items() for way in ("async", "sync")
                   if way == "async" or case.caller != "cancels"]  # fmt: skip
ESTIMATE = estimate(Api("chat", "openai", None), ASKED, len(json.dumps(ASKED))).usage


def expected(case: Case, rule: str) -> tuple[Any, ...] | None:
    """Prompt, completion (True for some), source and status of the row; None for no row."""
    if case.setting is None or rule == "release":
        return None
    left = case.error_type in ("CancelledError", "left_unread")
    status = "settled" if case.error_type is None else "cancelled" if left else "error"
    if rule == "input":
        return ESTIMATE.input_tokens, 0, "counted", status
    if rule == "streamed" and case.streams:
        return ESTIMATE.input_tokens, True, "counted", status
    return ESTIMATE.input_tokens, ESTIMATE.output_tokens, "estimate", "assumed"


async def run(world: World, case: Case, way: str, settings: dict[str, str]) -> Any:
    guard = guard_of(world, **settings)
    player = Player(case.play)
    transport, asked = BudgetTransport(guard, player), request(STREAMED if case.streams else ASKED)
    most = case.caller if isinstance(case.caller, int) else None
    async with guard:
        if way == "sync":
            outcome = await asyncio.to_thread(heard_sync, transport, asked, most)
        else:
            call = asyncio.create_task(heard(transport, asked, most))
            if case.caller == "cancels":
                await player.waits(call)
                call.cancel()
            outcome = await call
    if way == "sync":
        guard.sync.close()
    return outcome


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("name", "way"), KINDS_OF_CALLER)
def test_a_call_that_does_not_say_what_it_took_is_settled_as_its_setting_says(
    world: World, name: str, way: str, rule: str
) -> None:
    case = CASES[name]
    settings = dict.fromkeys(SETTINGS, "release" if rule != "release" else "estimate")
    settings |= {case.setting: rule} if case.setting else dict.fromkeys(SETTINGS, rule)
    outcome = asyncio.run(run(world, case, way, settings))
    raised = case.play.before or case.play.ending
    if raised == HANG:
        assert isinstance(outcome.error, asyncio.CancelledError)
    else:
        assert outcome.error is raised
    if not isinstance(case.caller, int) and case.play.before is None:
        assert outcome.passed == b"".join(case.play.chunks)
    assert (world.held(), world.reserved()) == (0, 0)
    right = expected(case, rule)
    if right is None:
        assert (ledger_rows(world), world.states()) == ([], ["released"])
        failed = type(raised).__name__ if case.setting is None and case.play.before else case.error_type
        by_caller = failed in ("CancelledError", "left_unread")
        assert [event.cause for event in world.heard.of(Released)] == ["" if by_caller else failed or ""]
        return
    row = only_row(world)
    output_tokens = row["completion_tokens"] > 0 if right[1] is True else row["completion_tokens"]
    assert (row["prompt_tokens"], output_tokens, row["usage_source"], row["status"]) == right
    assert row["error_type"] == case.error_type
    assumed = [case.error_type or "the answer states no usage"] if row["status"] == "assumed" else []
    assert [event.cause for event in world.heard.of(Assumed)] == assumed


@pytest.mark.parametrize("way", ["async", "sync"])
@pytest.mark.parametrize("asked", [STREAMED, HIDDEN, ASKED])
@pytest.mark.parametrize("ending", [None, httpx2.ReadError("reset")])
def test_what_an_answer_states_is_settled_whatever_the_settings_say_and_however_it_ends(
    world: World, asked: dict[str, Any], way: str, ending: Exception | None
) -> None:
    case = Case(
        Play(CHAT, ending=ending) if "stream" in asked else Play([PLAIN], JSON, ending=ending),
        None,
        streams="stream" in asked,
    )
    asyncio.run(run(world, case, way, dict.fromkeys(SETTINGS, "release")))
    row = only_row(world)
    assert (row["prompt_tokens"], row["completion_tokens"], row["usage_source"]) == (500, 70, "reported")
    assert (row["status"], row["error_type"]) == ("settled", None if ending is None else "ReadError")
