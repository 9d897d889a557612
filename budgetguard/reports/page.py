"""The frame of every page: it has no script, loads nothing, and stands alone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from budgetguard.reports.markup import Markup, tag
from budgetguard.reports.style import STYLE


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


def scrolled(table: Markup, name: str) -> Markup:
    """Wider than a phone it is moved, also with the keyboard."""
    return tag("div", table, class_="scrolled", role="region", aria_label=name, tabindex=0)
