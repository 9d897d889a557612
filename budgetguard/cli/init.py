"""`budgetguard init`: a policy to begin with; or, after the store's state was lost, a new beginning."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from budgetguard.cli.options import ConfigOption, FormatOption, StoreOption
from budgetguard.cli.output import emit
from budgetguard.cli.sources import is_there, opened, policy_or_store, policy_path, shown_store, store_url
from budgetguard.errors import ConfigError
from budgetguard.policy import StoreSettings
from budgetguard.status import every

TEMPLATE = """\
# The budgets of your agents. `budgetguard check` tells what is wrong here, and shows what it says.
# A running guard reads this file again when it changes. "${NAME}" stands for an environment variable.

mode = "enforce"                  # "shadow" counts and never refuses; "off" does nothing
timezone = "UTC"                  # of days, weeks and months, such as "Europe/Berlin"

[store]
@STORE@
# namespace = "prod"              # keeps apart what shares a store
# on_store_away = "refuse"        # or "allow": calls go on unchecked, and are recorded when the store is back
# ledger = "outbox"               # of Redis: rows wait there for `budgetguard ledger drain`; "none" keeps none

# [labels]
# required = ["team"]             # a call without it is refused
# default = { env = "prod" }
# known = ["team", "agent", "session", "task", "user"]

# A budget: which calls, counted separately by what, up to which limits. Every budget that matches must have room.
#   limits: tokens, input_tokens, output_tokens, $, requests; per minute, hour, day, week, month, "rolling 10 minutes"
#   or "total", which never resets; and "20 concurrent".

[[budget]]
name = "everything"
limits = ["2M tokens/day", "600 requests/minute"]

[[budget]]
name = "each-agent"
per = ["agent"]                   # one account for every agent
limits = ["500k tokens/hour"]

# [[budget]]
# name = "search-team"
# where = { team = "search" }     # which calls; values may be globs: "crawler-*"
# limits = ["$50/day", "$900/month", "20 concurrent"]
# on_exceed = "delay"             # "refuse" (the default), "delay" or "shadow"
# max_delay = "30s"
# alert_at = [0.5, 0.8, 1.0]

# [[budget]]
# name = "runaway-session"
# per = ["session"]
# limits = ["$2/total"]

# What calls write is estimated by what they wrote, so that a limit may be overspent by a few percent. For none at all:
# [estimate]
# output = "ceiling"              # the most that a request allows: far more is refused. A budget: estimate = "ceiling"
# [guard]
# inject_max_tokens = true        # requests without a bound are given their estimate as one

# Alerts come in the log, and where you want them: thresholds of budgets, accounts that will be exhausted too soon ...
# [alerts]
# request_tokens = 8_000          # a single request of more tokens; `false` switches an alert off
# [[alert]]
# url = "${SLACK_WEBHOOK}"        # `budgetguard alerts test` posts to it
# kind = "slack"                  # "slack", "teams", or "json" (the default)
# where = { team = "search" }     # which alerts; without it all of them

# What models cost, in dollars per million tokens; wins over the built-in prices. "0" for those of your own machine.
# [[price]]
# model = "acme-*"
# usd_per_mtok = { input = "0.15", output = "0.60", cache_read = "0.075" }
"""
DEFAULT_STORE = (
    '# url = "sqlite:///budgets.db"    # a file beside this one; without it, one in your state directory;\n'
    '#                                 # or "redis://host:6379/0", for many machines'
)


def init(
    config: ConfigOption = None,
    store: StoreOption = None,
    format: FormatOption = "table",
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Write nothing: accept the store as it is after its state was lost.")
    ] = False,
) -> None:
    """Write a commented budgetguard.toml. Overwrites nothing."""
    if accept_loss:
        _, settings = policy_or_store(config, store)
        done = asyncio.run(_accept_loss(settings))
        found = "was not there and is made new" if done["new"] else "is accepted as it is"
        text = (
            f"{done['store']} {found}: {done['accounts']} accounts, {done['open_holds']} open holds; "
            "processes that refused calls with StateLost go on with it"
        )
    else:
        done = {"file": str(_write(policy_path(config), store))}
        text = f"{done['file']} is written; edit it, then run `budgetguard check`"
    if format == "table":
        typer.echo(text)
    else:
        emit(format, [done], list(done), ())


def _write(path: Path, store: str | None) -> Path:
    url = store_url(store)
    line = DEFAULT_STORE if url is None else f"url = {json.dumps(url)}"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(TEMPLATE.replace("@STORE@", line))
    except FileExistsError:
        raise ConfigError(str(path), ["the file is there already, and is left as it is"]) from None
    return path


async def _accept_loss(settings: StoreSettings) -> dict[str, Any]:
    new = not await is_there(settings)
    async with opened(settings, accept_loss=True) as store:
        return {
            "store": shown_store(settings),
            "accounts": len([row async for row in every(store.read_accounts)]),
            "open_holds": len([row async for row in every(store.read_holds)]),
            "new": new,
        }
