"""Recorded exchanges through an SDK, with and without a guard: what it returns, and what the ledger then holds."""

from __future__ import annotations

import inspect
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from guard_kit import World
from sdk_kit import ledger_rows, loop
from test_wire_apis import HOSTS
from wire_kit import Exchange
from wire_truth import counts_of, in_ledger, truth

from budgetguard.core.amounts import nanousd
from budgetguard.testing import FakeProvider, exchange_reply

Call = Callable[[Any, Exchange], Any]
"""Asks for what was recorded, with an SDK's client, and returns what can be compared."""


def place_of(row: Exchange, *ends: str) -> str:
    """The base URL under which an SDK finds the recorded path: without the end that it adds itself."""
    path = ((row["request"] or {}).get("path") or "").rpartition(">")[2].partition("?")[0]
    prefix = next((path[: -len(end)] for end in ends if path.endswith(end)), "/v1")
    return f"http://{HOSTS.get(row['provider'], 'llm.example')}{prefix}"


def arguments(method: Any, row: Exchange, **needed: Any) -> dict[str, Any]:
    """The recorded request as the arguments of an SDK's method; what it does not know goes beside them."""
    body = {**needed, **((row["request"] or {}).get("json") or {}), "stream": row["stream"]}
    known = inspect.signature(method).parameters
    beside = {name: value for name, value in body.items() if name not in known}
    made = {name: value for name, value in body.items() if name in known}
    beside.pop("stream", None)
    return {**made, "extra_body": beside} if beside else made


def shown(found: Any) -> Any:
    """What an SDK returned, as plain data."""
    if hasattr(found, "model_dump"):
        return type(found).__name__, found.model_dump(warnings=False)
    return [shown(event) for event in found] if isinstance(found, list) else found


def everything(found: Any, events: list[Any]) -> list[Any]:
    """Every event of a stream, and the error that ends it."""
    try:
        for event in found:
            events.append(event)
    except Exception as error:  # noqa: BLE001 - whatever the SDK makes of this stream
        events.append(failed(error))
    return events


async def everything_async(found: Any, events: list[Any]) -> list[Any]:
    """As `everything`."""
    try:
        async for event in found:
            events.append(event)
    except Exception as error:  # noqa: BLE001 - as above
        events.append(failed(error))
    return events


def answered(found: Any) -> Any:
    """What a call of an SDK's method says, as plain data; of an async client in the test's event loop."""

    async def awaited() -> Any:
        made = await found
        return await everything_async(made, []) if hasattr(made, "__aiter__") else made

    if inspect.isawaitable(found):
        return shown(loop().run(awaited()))
    return shown(everything(found, []) if hasattr(found, "__next__") else found)


def failed(error: Exception) -> Any:
    """An SDK's error, as plain data."""
    return type(error).__name__, str(error), getattr(error, "status_code", None)


def told(call: Call, client: Any, row: Exchange) -> Any:
    """What an SDK returns or raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SDKs warn of models that are gone
        try:
            return call(client, row)
        except Exception as error:  # noqa: BLE001 - whatever the SDK says of this answer
            return failed(error)


class Played:
    """Recorded exchanges, played twice each.

    Args:
        client: makes a client for an exchange, that goes through the fake provider as its proxy.
        guarded: the same, guarded.
    """

    def __init__(self, provider: FakeProvider, world: World, client: Any, guarded: Any) -> None:
        self._provider, self._world = provider, world
        self._client, self._guarded = client, guarded
        self._seen = 0
        self.counts: Counter[str] = Counter()

    def play(self, rows: Iterable[Exchange], call: Call) -> None:
        """Each is the same with and without a guard, and the ledger holds its truth."""
        for row in rows:
            reply = exchange_reply(row)
            self._provider.reply_next(reply, reply)
            without, within = told(call, self._client(row), row), told(call, self._guarded(row), row)
            assert repr(within) == repr(without), f"{row['id']} {row['provider']} {row['api']}"  # NaN is not itself
            self._check(row)

    def _check(self, row: Exchange) -> None:
        added = ledger_rows(self._world, self._seen)
        self._seen += len(added)
        expected, status, name = in_ledger(row), row["response"]["status"], f"{row['id']} {row['provider']}"
        if expected is None:
            self.counts["not stated"] += 1
            assert all(found["usage_source"] != "reported" for found in added), name
            assert len(added) == (0 if 400 <= status < 500 or status in (503, 529) else 1), name
            return
        self.counts["stated"] += 1
        assert [found["usage_source"] for found in added] == ["reported"], name
        assert counts_of(added[0]) == expected, name
        cost = truth(row)[6] if row["truth_kind"] == "reported" else None
        if cost is not None:
            self.counts["cost stated"] += 1
            assert added[0]["cost_nanousd"] == nanousd(cost, "cost"), name
