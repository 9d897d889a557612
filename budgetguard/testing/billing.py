"""What the fake provider bills: what the script of a reply says, else what the reply itself says that its call took."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import reduce
from operator import add

from budgetguard.testing.bill import BilledCall, ProviderPrice
from budgetguard.testing.http import HttpRequest
from budgetguard.testing.reply import Reply
from budgetguard.usage import Usage
from budgetguard.wire.apis import Api, recognise
from budgetguard.wire.asked import asked
from budgetguard.wire.frames import frames_for
from budgetguard.wire.reports import Reported, StreamReport, reported


def billed_call(
    request: HttpRequest, reply: Reply, prices: Mapping[str, ProviderPrice], number: int
) -> BilledCall | None:
    """The line of the bill, None where nothing is billed. `number` makes the id of a reply that has none."""
    found = recognise(request.method, request.headers.get("host", ""), request.target)
    api = found if isinstance(found, Api) else None
    billed = _stated(api, request, reply) if reply.billed == "stated" else reply.billed
    if not isinstance(billed, Usage):
        return None
    model = reply.model or (asked(api, request.body).model if api else None) or ""
    cost_nanousd = billed.cost_nanousd
    if cost_nanousd is None and model in prices:
        cost_nanousd = prices[model].cost_nanousd(billed.input_tokens, billed.output_tokens)
    return BilledCall(
        reply.id or f"call-{number}", model, billed.input_tokens, billed.output_tokens, cost_nanousd,
        request.headers.get("x-request-id"), billed.cache_read_tokens, billed.cache_write_tokens,
        billed.cache_write_1h_tokens, billed.reasoning_tokens, request.path,
    )  # fmt: skip


def _stated(api: Api | None, request: HttpRequest, reply: Reply) -> Usage | None:
    """What the whole body says, as `budgetguard.wire` reads it; None for an error, and where it says nothing."""
    if api is None or reply.status >= 400:
        return None
    said = _read(api, request, reply)
    return None if said is None else reduce(add, (usage for _, usage in said.others), said.usage)


def _read(api: Api, request: HttpRequest, reply: Reply) -> Reported | None:
    streams = asked(api, request.body).streams
    frames = frames_for(reply.headers.get("content-type", ""), api.kind, streams=streams)
    if frames is not None:
        report = StreamReport(api)
        for frame in [*frames.feed(reply.content), *frames.end()]:
            report.feed(frame)
        return report.reported
    try:
        body = json.loads(reply.content)
    except (ValueError, RecursionError):
        return None
    return reported(api, body, reply.headers) if isinstance(body, dict) else None
