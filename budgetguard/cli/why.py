"""`budgetguard why`: which limit is in the way of calls, and who has filled it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from budgetguard.cli.ledger import named_ledger
from budgetguard.cli.ledger_books import LedgerOption
from budgetguard.cli.options import ConfigOption, StoreOption
from budgetguard.cli.sources import looked_at, policy_of
from budgetguard.errors import ConfigError, InvalidLabel, StoreError
from budgetguard.labels import check_label
from budgetguard.policy import Policy

if TYPE_CHECKING:
    from budgetguard.cli.why_finding import Found
    from budgetguard.ledger.reading import Book

MISSING = "who has spent it, and what was refused"
UNKNOWN = (
    "no open hold and no row of the ledger has this id: a refused call leaves neither. Give the labels that its error "
    "names, as in budgetguard why --team search --agent crawler"
)
WITH_LABELS = (
    "no open hold and no row of the ledger has this id, as of a call that was refused: shown are calls with the labels "
    "that you gave"
)
ABOUT = "nothing has this id, as of a call that was refused: shown is who was refused about the time when it was made"


def why(
    reservation: Annotated[
        str | None, typer.Argument(metavar="[RESERVATION]", help="The id that an error, a log or `holds` shows.")
    ] = None,
    team: Annotated[str | None, typer.Option("--team", metavar="TEXT", help="Calls of this team.")] = None,
    agent: Annotated[str | None, typer.Option("--agent", metavar="TEXT", help="Calls of this agent.")] = None,
    session: Annotated[str | None, typer.Option("--session", metavar="TEXT", help="Calls of this session.")] = None,
    task: Annotated[str | None, typer.Option("--task", metavar="TEXT", help="Calls of this task.")] = None,
    user: Annotated[str | None, typer.Option("--user", metavar="TEXT", help="Calls of this user.")] = None,
    label: Annotated[
        list[str], typer.Option("--label", metavar="NAME=TEXT", help="Calls with this label, or model=...; repeatable.")
    ] = [],  # noqa: B006 - typer copies it
    format: Annotated[Literal["table", "json"], typer.Option("--format", help="What to print.")] = "table",
    ledger: LedgerOption = None,
    config: ConfigOption = None,
    store: StoreOption = None,
) -> None:
    """Tell which limit is in the way of calls, who has filled it, and when it resets.

    Of the calls with these labels, of one call, or of all: the limit that is full, has refused of late, or else has the
    least room. A refused call leaves nothing in the store, so that its id tells no more than when it was made. Exit
    code 1 if nothing is known of an id.
    """
    from budgetguard.cli.why_telling import tell

    usual = {"team": team, "agent": agent, "session": session, "task": task, "user": user}
    asked = Asked(reservation, _labels(usual, label), ledger, config, store)
    policy = policy_of(config, store)
    policy.labels.check({name: "" for name in asked.labels if name not in ("model", "provider")})
    found = asyncio.run(_find(asked, policy))
    tell(found, format)
    if found.reservation is not None and found.reservation["state"] == "unknown" and not found.standings:
        raise typer.Exit(1)


class Asked(NamedTuple):
    """What the user asked."""

    id: str | None
    labels: Mapping[str, str]
    ledger: str | None
    config: Path | None
    store: str | None


def _labels(usual: Mapping[str, str | None], others: list[str]) -> dict[str, str]:
    """The labels of the calls that are meant.

    Raises:
        InvalidLabel: one is not `name=text`, not the text of a label, or given twice.
    """
    labels = {name: text for name, text in usual.items() if text is not None}
    for text in others:
        name, equals, value = text.partition("=")
        if not equals or name in labels:
            wrong = f"{name} is given twice" if equals else "write name=text, as in --label tenant=acme"
            raise InvalidLabel(f"--label {text}: {wrong}")
        labels[name] = value
    for name, value in labels.items():
        check_label(name, value)
    return labels


async def _find(asked: Asked, policy: Policy) -> Found:
    from budgetguard.cli.why_finding import Places, find

    notes = [f'mode = "{policy.mode}": no call is refused'] if policy.mode != "enforce" else []
    book = _opened_book(asked.ledger, policy, notes)
    try:
        async with looked_at(policy.store, asked.store) as store:
            found = await find(Places(policy, store, book, policy.store.namespace), asked.labels, asked.id)
            backlog = await store.backlog()
    finally:
        if book is not None:
            book.close()
    if found.reservation is not None and found.reservation["state"] == "unknown":
        found.notes.append(WITH_LABELS if asked.labels else ABOUT if found.standings else UNKNOWN)
    if book is not None and backlog is not None and backlog.rows:
        found.notes.append(f"{backlog.rows:,} of the ledger's rows wait to be drained: what they say is missing here")
    found.notes += notes
    return found


def _opened_book(ledger: str | None, policy: Policy, notes: list[str]) -> Book | None:
    """The ledger; None, and a note, where there is none or it cannot be read."""
    from budgetguard.ledger.books import open_book

    try:
        return open_book(named_ledger(ledger, policy, policy.store))
    except ConfigError:
        if ledger is not None or policy.ledger.url is not None:
            raise
        notes.append(f"not known is {MISSING}: set ledger.url, or name the SQL ledger with --ledger")
    except StoreError as error:
        notes.append(f"not known is {MISSING}: {error}")
    return None
