"""Which stretch of time a report is about: `--since`, `--until`, `--last`, and in whose time zone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from budgetguard.cli.ledger_books import instant_ms
from budgetguard.errors import ConfigError
from budgetguard.policy_checks import a_zone, span_ms

if TYPE_CHECKING:
    from budgetguard.ledger.reading import Stretch

SinceOption = Annotated[
    str | None,
    typer.Option("--since", metavar="WHEN", help="Calls admitted from then on. [default: this month, or all until]"),
]
UntilOption = Annotated[
    str | None, typer.Option("--until", metavar="WHEN", help="Calls admitted before. [default: to the end of today]")
]
LastOption = Annotated[
    str | None, typer.Option("--last", metavar="TIME", help="Instead: the last 24h, 7d, ... until now.")
]
TimezoneOption = Annotated[
    str | None, typer.Option("--timezone", metavar="ZONE", help="Of days and dates, instead of the policy's.")
]


def zone_of_option(timezone: str | None, default: ZoneInfo) -> ZoneInfo:
    """The zone that was named, else the policy's.

    Raises:
        ConfigError: nobody knows it.
    """
    if timezone is None:
        return default
    faults = list(a_zone("--timezone", timezone))
    if faults:
        raise ConfigError("command line", faults)
    return ZoneInfo(timezone)


def asked_stretch(
    namespace: str, since: str | None, until: str | None, last: str | None, zone: ZoneInfo
) -> Stretch:  # fmt: skip
    """The stretch that the options mean; without any, this month so far.

    Raises:
        ConfigError: one is no time, they contradict each other, or nothing lies between.
    """
    from budgetguard.core.periods import Period, window_at
    from budgetguard.ledger.reading import FIRST_MS, Stretch

    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    if last is not None:
        if since is not None or until is not None:
            raise ConfigError("--last", ["it ends now: give it alone, or --since and --until"])
        # Up to the next ms: a call that is admitted now is among the last.
        return Stretch(namespace, now_ms + 1 - span_ms(last, "--last", 1), now_ms + 1)
    until_ms = window_at(Period("calendar", name="day", zone=zone.key), now_ms).end_ms
    since_ms = window_at(Period("calendar", name="month", zone=zone.key), now_ms).start_ms
    if until is not None:
        since_ms, until_ms = FIRST_MS, instant_ms("--until", until, zone)
    if since is not None:
        since_ms = instant_ms("--since", since, zone)
    if since_ms >= until_ms:
        raise ConfigError("--since", [f"it must lie before {'the end of today' if until is None else '--until'}"])
    return Stretch(namespace, since_ms, until_ms)
