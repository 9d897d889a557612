"""`budgetguard report chargeback`: what each team is charged for a month, and the closing of months."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from budgetguard.cli.ledger_books import LedgerOption, NamespaceOption, asked_ledger
from budgetguard.cli.options import ConfigOption, StoreOption
from budgetguard.cli.output import note
from budgetguard.cli.report_options import OutputOption, VerifyOption
from budgetguard.cli.report_output import tell, tell_verified
from budgetguard.cli.sources import policy_or_store
from budgetguard.cli.stretches import TimezoneOption, zone_of_option

if TYPE_CHECKING:
    from budgetguard.ledger.reading import Book
    from budgetguard.policy import Policy
    from budgetguard.reports.chargeback import Statement
    from budgetguard.reports.verifying import Verified

Form = Literal["table", "csv", "json", "markdown", "html", "focus"]
MonthOption = Annotated[str, typer.Option("--month", metavar="MONTH", help="Which month, such as 2026-11.")]
CloseOption = Annotated[
    bool, typer.Option("--close", help="Freeze the month: what comes late is billed by the next as an adjustment.")
]
FormOption = Annotated[Form, typer.Option("--format", help="What to write; focus: CSV in the FOCUS columns.")]


def chargeback(
    month: MonthOption,
    close: CloseOption = False,
    timezone: TimezoneOption = None,
    format: FormOption = "table",
    output: OutputOption = None,
    verify: VerifyOption = False,
    ledger: LedgerOption = None,
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
    store: StoreOption = None,
) -> None:
    """Tell what each team is charged for a month: cost by agent and model, its budgets beside it, what was refused.

    Calls without a team are "(unallocated)". Cost centers come from the policy: [[owner]] team = "search"
    cost_center = "4711". A closed month stays as it was told when it was closed, in its time zone; what was settled
    later appears in the first month after it that is not closed, and names its own.
    """
    from budgetguard.ledger.books import open_book

    url, own, policy_zone = asked_ledger(ledger, namespace, config, store)
    policy, _ = policy_or_store(config, store or ("sqlite:///:memory:" if ledger is not None else None))
    zone = zone_of_option(timezone, policy_zone).key
    book = open_book(url)
    try:
        if close:
            _close(book, url, own, month, zone, policy)
        found, verified = _found(book, own, month, zone, policy, verify)
    finally:
        book.close()
    shown = _shown(found, format, output, "" if verified is None else verified.text)
    tell(shown, output)
    if verified is not None:
        tell_verified(verified)


def _close(book: Book, url: str, namespace: str, month: str, zone: str, policy: Policy | None) -> None:
    from budgetguard.ledger import open_ledger
    from budgetguard.ledger.closing import Billing, instant_text
    from budgetguard.reports.chargeback import facts_of, facts_text

    def facts(billing: Billing) -> str:
        return facts_text(facts_of(book, namespace, billing, policy))

    target = open_ledger(url)
    try:
        billing, new = target.close_month(namespace, month, zone, _now_ms(), facts)
    finally:
        target.close()
    if billing.closing is not None:
        at = instant_text(billing.closing.closed_ms, billing.zone)
        note(f"{month} is closed from now on" if new else f"{month} was closed already, at {at}: this is what stands")


def _found(
    book: Book, namespace: str, month: str, zone: str, policy: Policy | None, verify: bool
) -> tuple[Statement, Verified | None]:
    from budgetguard.reports.chargeback import statement
    from budgetguard.reports.chargeback_proof import prove

    with book.standing():
        found, billing = statement(book, namespace, month, zone, policy)
        return found, prove(book, namespace, billing) if verify else None


def _shown(found: Statement, format: Form, output: Path | None, proof: str) -> str:
    from budgetguard.reports import chargeback_forms

    if format == "csv":
        return chargeback_forms.csv_text(found)
    if format == "json":
        return chargeback_forms.json_text(found)
    if format == "markdown":
        return chargeback_forms.markdown_text(found)
    if format == "html":
        from budgetguard.reports.chargeback_page import page

        return page(found, _now_ms(), proof)
    if format == "focus":
        from budgetguard.reports.focus import focus_text

        return focus_text(found)
    from budgetguard.cli.chargeback_table import table_text

    return table_text(found, in_file=output is not None)


def _now_ms() -> int:
    return round(time.time() * 1000)
