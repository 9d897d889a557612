"""The frame of every page: it has no script, loads nothing, and stands alone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime

from budgetguard.core.periods import zone_of
from budgetguard.ledger.sums import Sum
from budgetguard.reports.lines import counted, usd_exact
from budgetguard.reports.markup import Markup, tag
from budgetguard.reports.style import STYLE
from budgetguard.reports.tables import MISSING, Table
from budgetguard.version import VERSION


def document(title: str, main: Sequence[Markup]) -> str:
    """A page of these parts, which may load nothing and run nothing whatever they hold."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    head = tag(
        "head",
        Markup('<meta charset="utf-8">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup('<meta name="color-scheme" content="light dark">'),
        tag("title", title),
        tag("style", Markup(STYLE)),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', tag('main', *main)), lang='en')}\n"


def footer(notes: Sequence[str], total: Sum, proof: str, made_ms: int, zone: str) -> Markup:
    """What a reader of the figures has to know; `proof` is what is said of how they were verified."""
    exactly = f"Exactly ${usd_exact(total.cost_nanousd)} in {counted(total.calls, 'call')}."
    made = datetime.fromtimestamp(made_ms / 1000, zone_of(zone))
    return tag(
        "footer",
        *(tag("p", note) for note in notes),
        tag("p", f"{exactly} {proof[:1].upper()}{proof[1:]}".strip()),
        tag("p", f"As the ledger stood at {made:%Y-%m-%d %H:%M}. budgetguard {VERSION}"),
    )


def cards(figures: Sequence[tuple[str, str, str]]) -> Markup:
    """Name, figure, and what more is to be said of it."""
    found = [
        tag("div", tag("dt", name), tag("dd", shown), tag("dd", more, class_="more")) for name, shown, more in figures
    ]
    return tag("dl", *found, class_="figures")


def table(told: Table, name: str) -> Markup:
    """Wider than a phone it is moved, also with the keyboard."""
    numbers = [None] * told.names + ["number"] * (len(told.titles) - told.names)
    head = [tag("th", title, scope="col", class_=kind) for title, kind in zip(told.titles, numbers, strict=True)]
    rows = [
        tag(
            "tr",
            *(
                tag("th", cell, scope="row", class_="missing" if cell in MISSING else None)
                for cell in row[: told.names]
            ),
            *(tag("td", cell, class_="number") for cell in row[told.names :]),
            class_="total" if told.has_total and row is told.rows[-1] else None,
        )
        for row in told.rows
    ]
    drawn = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *rows))
    return tag("div", drawn, class_="scrolled", role="region", aria_label=name, tabindex=0)
