"""`budgetguard alerts test`: does an alert reach the webhooks of the policy?"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from budgetguard.alerts.settings import ROUTE_CHECKS, AlertRoute, Kind
from budgetguard.cli.options import ConfigOption, FormatOption
from budgetguard.cli.output import Column, Record, emit, labels_text
from budgetguard.cli.sources import policy_of
from budgetguard.errors import ConfigError
from budgetguard.refusal import escaped

if TYPE_CHECKING:
    from budgetguard.alerts.shapes import Message

KEYS = ("route", "where", "causes", "delivered", "answer", "took_ms")
COLUMNS = (
    Column("route", lambda record: escaped(record["route"])),
    Column("alerts about", lambda record: labels_text(record["where"]) or "all"),
    Column("causes", lambda record: ", ".join(record["causes"]) or "all", extra=True),
    Column("what came back", lambda record: escaped(record["answer"])),
    Column("took", lambda record: f"{record['took_ms']:,} ms", right=True, extra=True),
)
commands = typer.Typer(rich_markup_mode=None, help="Alerts, and the webhooks that they go to.", no_args_is_help=True)


@commands.command("test")
def post_test(
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="This webhook, instead of the policy's.")
    ] = None,
    kind: Annotated[Kind, typer.Option("--kind", help="The shape that the webhook of --url takes.")] = "json",
    config: ConfigOption = None,
    format: FormatOption = "table",
) -> None:
    """Post a test alert to every webhook, once, whatever alerts it takes; say what came back.

    Exit code 1 if one of them did not take it.
    """
    from budgetguard.alerts.raised import AlertRaised
    from budgetguard.alerts.shapes import Message

    if url is not None:
        if faults := list(ROUTE_CHECKS["url"]("--url", url)):
            raise ConfigError("command line", faults)
        namespace, routes = "default", [AlertRoute(url, kind=kind)]
    else:
        policy = policy_of(config, None)
        namespace, routes = policy.store.namespace, list(policy.alerts.routes)
    if not routes:
        raise ConfigError("alerts", ["the policy has no webhook: write an [[alert]] with its url, or say --url"])
    alert = AlertRaised("test", "this is a test of budgetguard's alerts: nothing has happened")
    message = Message(os.urandom(16).hex(), alert, namespace, time.time_ns() // 1_000_000)
    records = asyncio.run(_posted(routes, message))
    emit(format, records, KEYS, COLUMNS)
    if not all(record["delivered"] for record in records):
        raise typer.Exit(1)


async def _posted(routes: Sequence[AlertRoute], message: Message) -> list[Record]:
    return list(await asyncio.gather(*(_record(route, message) for route in routes)))


async def _record(route: AlertRoute, message: Message) -> Record:
    from budgetguard.alerts.posting import NotTaken, Webhook

    webhook, began = Webhook(route), time.monotonic()
    made: dict[str, Any] = {"route": str(route), "where": dict(route.where), "causes": list(route.causes)}
    try:
        status = await webhook.post(message)
        made |= {"delivered": True, "answer": f"taken ({status})"}
    except NotTaken as error:
        made |= {"delivered": False, "answer": f"not taken: {error}"}
    finally:
        await webhook.aclose()
    return {**made, "took_ms": round((time.monotonic() - began) * 1000)}
