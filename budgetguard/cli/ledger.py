"""`budgetguard ledger drain`: the rows of a store's outbox, moved into a SQL ledger."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from budgetguard.cli.options import ConfigOption, Format, FormatOption, StoreOption
from budgetguard.cli.output import emit, note
from budgetguard.cli.sources import policy_or_store, shown_store
from budgetguard.errors import BudgetGuardError, ConfigError
from budgetguard.policy import Policy, StoreSettings
from budgetguard.policy_checks import a_ledger_url, a_namespace

if TYPE_CHECKING:
    from budgetguard.ledger.drain import Drained, Ledger
    from budgetguard.ledger.outbox import Outbox

EVERY_S = 1.0
commands = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="The ledger in SQL.")


@commands.command()
def drain(
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="URL", help="The SQL ledger, made if need be: sqlite:///file.db or postgresql://..."
        ),
    ] = None,
    config: ConfigOption = None,
    store: StoreOption = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", metavar="NAME", help="The store's namespace, instead of the policy's.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as new rows come, until Ctrl-C or SIGTERM.")] = False,
    format: FormatOption = "table",
) -> None:
    """Move ledger rows from a Redis store to a SQL ledger.

    They come into its table token_usage. It may be interrupted at any time, run again, and run twice at once: no row
    is lost or counted twice. Exit code 1 if an entry cannot be read; it stays in the store, and holds up no other.
    """
    from budgetguard.ledger.drain import Drained

    policy, settings = _settings(config, store, namespace)
    url = to or (policy.ledger.url if policy is not None else None)
    if url is None:
        raise ConfigError("--to", ["say which SQL ledger: sqlite:///file.db or postgresql://..., or set ledger.url"])
    target, drained = _ledger(url), Drained()
    try:
        asyncio.run(_drain(settings, target, drained, follow))
    except KeyboardInterrupt:
        if not follow:
            raise
    finally:
        target.close()
    _tell(settings, url, drained, format)


def _tell(settings: StoreSettings, to: str, drained: Drained, format: Format) -> None:
    from budgetguard.ledger import shown_ledger

    done = {
        "store": shown_store(settings), "namespace": settings.namespace, "ledger": shown_ledger(to),
        "rows": drained.rows, "unreadable": list(drained.unreadable),
    }  # fmt: skip
    if format == "table":
        typer.echo(f"{drained.rows:,} {'row' if drained.rows == 1 else 'rows'} moved into {done['ledger']}")
    else:
        emit(format, [done], list(done), ())
    if drained.unreadable:
        raise typer.Exit(1)


def _ledger(url: str) -> Ledger:
    from budgetguard.ledger import open_ledger

    try:
        return open_ledger(url)
    except ConfigError as error:
        raise ConfigError("--to", error.faults) from None


def named_ledger(ledger: str | None, policy: Policy | None, settings: StoreSettings) -> str:
    """The URL of the ledger that a command reads: the one named, the policy's, or the SQLite store itself.

    Raises:
        ConfigError: there is none.
    """
    from budgetguard.stores import default_url

    url = ledger or (policy.ledger.url if policy is not None else None) or settings.url or default_url()
    faults = list(a_ledger_url("--ledger", url)) if ledger is not None or url.startswith("sqlite") else []
    if faults:
        raise ConfigError("command line", faults)
    if not url.startswith(("sqlite:", "postgres")):
        raise ConfigError(
            "--ledger", ["say which SQL ledger, or set ledger.url: this store's rows are drained into one"]
        )
    return url


def _settings(config: Path | None, store: str | None, namespace: str | None) -> tuple[Policy | None, StoreSettings]:
    policy, settings = policy_or_store(config, store)
    if namespace is None:
        return policy, settings
    faults = list(a_namespace("--namespace", namespace))
    if faults:
        raise ConfigError("command line", faults)
    return policy, replace(settings, namespace=namespace)


async def _drain(settings: StoreSettings, target: Ledger, drained: Drained, follow: bool) -> None:
    from budgetguard.ledger.background import CLAIM_AFTER_MS
    from budgetguard.stores import open_outbox

    outbox = open_outbox(settings.url, settings.namespace, settings.timeout_ms, CLAIM_AFTER_MS if follow else 0)
    try:
        # Even where nothing waits: whether it can be written is told now, not with the first row.
        await asyncio.to_thread(target.write, ())
        if follow:
            await _follow(outbox, target, drained)
        else:
            await _round(outbox, target, drained)
    finally:
        await outbox.aclose()


async def _follow(outbox: Outbox, target: Ledger, drained: Drained) -> None:
    """Drain again and again. What waiting can heal is told once, and waited for."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # how services are ended
    note("draining until Ctrl-C")
    told = ""
    while True:
        trouble = ""
        try:
            await _round(outbox, target, drained)
        except BudgetGuardError as error:
            if not error.retryable:
                raise
            trouble = str(error)
        if trouble != told:
            note(trouble or "draining again")
            told = trouble
        await asyncio.sleep(EVERY_S)


async def _round(outbox: Outbox, target: Ledger, drained: Drained) -> None:
    from budgetguard.ledger.drain import drain as drain_outbox

    known = set(drained.unreadable)
    try:
        await drain_outbox(outbox, target, drained=drained)
    finally:
        for entry_id, cause in drained.unreadable.items():
            if entry_id not in known:
                note(f"entry {entry_id} stays in the outbox, for a version that can read it: {cause}")
