"""A report as one HTML page: figures, charts and tables. It has no script, loads nothing, and stands alone."""

from __future__ import annotations

from collections.abc import Sequence

from budgetguard.reports.asking import Report, rank
from budgetguard.reports.charts import Bar, bars, colour_of, columns, short_count, shortened
from budgetguard.reports.lines import (
    Line,
    counted,
    lines,
    notes,
    share_shown,
    stretch_shown,
    usd_places,
    usd_shown,
)
from budgetguard.reports.markup import Markup, joined, tag
from budgetguard.reports.over_time import Timeline
from budgetguard.reports.page import cards, document, footer, table
from budgetguard.reports.tables import Table, report_table

MOST_BARS = 12
MOST_CHARS = 60
KINDS = ("input", "cache read", "cache write", "output")
_WIDE, _NARROW = (980, 300), (400, 260)


def page(report: Report, over_time: Timeline, made_ms: int, proof: str = "") -> str:
    """The page, of a ledger as it stood at `made_ms`. `proof` is what it says of how it was verified."""
    found = [_header(report), _figures(report)]
    if report.total.calls:
        found += [_over_time(report, over_time), _by_group(report)]
    last = footer(notes(report), report.total, proof, made_ms, report.question.zone)
    title = f"Cost by {', '.join(report.by)}, {stretch_shown(report.question)}"
    return document(title, [*found, _in_numbers(report), last])


def _header(report: Report) -> Markup:
    where = [tag("span", f"{name} = {glob}", class_="chip") for name, glob in report.question.where.items()]
    about = [tag("span", report.question.stretch.namespace, class_="chip"), *where]
    return tag(
        "header",
        tag("h1", f"Cost by {', '.join(report.by)}"),
        tag("p", stretch_shown(report.question), " ", *about, class_="about"),
    )


def _figures(report: Report) -> Markup:
    total = report.total
    each = total.cost_nanousd // total.calls if total.calls else 0
    input_tokens, output_tokens = short_count(total.prompt_tokens), short_count(total.completion_tokens)
    figures = [
        ("Cost", usd_shown(total.cost_nanousd, usd_places(report)), f"{usd_shown(each, 4)} a call"),
        ("Calls", f"{total.calls:,}", f"{counted(total.operations, 'operation')}"),
        ("Tokens", short_count(total.total_tokens), f"{input_tokens} in, {output_tokens} out"),
        ("Errors", f"{total.errors:,}", f"{share_shown(total.errors, total.calls)} of the calls"),
    ]
    return cards(figures)


def _over_time(report: Report, over_time: Timeline) -> Markup:
    what = "Cost" if over_time.in_dollars else "Tokens"
    title = f"{what} by {over_time.step}"
    named = [one for one in over_time.series if one.name]
    legend = [(colour_of(place, one.name), one.name) for place, one in enumerate(over_time.series)] if named else []
    zone, places = report.question.zone, usd_places(report)
    charts = [
        tag("div", columns(over_time, zone, f"over-time-{name}", title, *size), class_=name)
        for name, size in (("wide", _WIDE), ("narrow", _NARROW))
    ]

    def shown(amount: int) -> str:
        return usd_shown(amount, places) if over_time.in_dollars else f"{amount:,}"

    names = [one.name or what for one in over_time.series]
    amounts = zip(*(one.amounts for one in over_time.series), strict=True)
    rows = [
        [moment, *map(shown, some), *([shown(sum(some))] if named else [])]
        for moment, some in zip(over_time.times, amounts, strict=True)
    ]
    numbers = Table([over_time.step, *names, *(["total"] if named else [])], 1, rows)
    return tag(
        "section", tag("h2", title), _legend(legend), *charts,
        tag("details", tag("summary", "The numbers"), table(numbers, title)),
    )  # fmt: skip


def _by_group(report: Report) -> Markup:
    """Two charts beside each other: cost and tokens of the groups."""
    places = usd_places(report)
    shown = sorted((line for line in lines(report) if line.kind == "group"), key=lambda line: rank(line.sum))[
        :MOST_BARS
    ]
    left_out = len(report.groups) - len(shown) + report.hidden
    cost = [Bar(_name(line), [line.sum.cost_nanousd], usd_shown(line.sum.cost_nanousd, places)) for line in shown]
    tokens = [Bar(_name(line), _kinds(line), short_count(line.sum.total_tokens)) for line in shown]
    by = ", ".join(report.by)
    legend = _legend([(f"k{place}", kind) for place, kind in enumerate(KINDS)])
    more = [tag("p", f"and {counted(left_out, 'more group')}", class_="more")] if left_out else []
    return tag(
        "div",
        tag("section", tag("h2", f"Cost by {by}"), bars(cost, "cost-bars", f"Cost by {by}", lambda _: "s0"), *more),
        tag("section", tag("h2", f"Tokens by {by}"),
            bars(tokens, "token-bars", f"Tokens by {by}", lambda place: f"k{place}"), legend, *more),
        class_="pair",
    )  # fmt: skip


def _kinds(line: Line) -> list[int]:
    """Its tokens, each counted as one of `KINDS`."""
    one = line.sum
    plain = max(0, one.prompt_tokens - one.cache_read_tokens - one.cache_write_tokens)
    return [plain, one.cache_read_tokens, one.cache_write_tokens, one.completion_tokens]


def _name(line: Line) -> str:
    return ", ".join(line.names)


def _legend(entries: Sequence[tuple[str, str]]) -> Markup:
    items = [tag("li", tag("i", class_=colour), shortened(name, MOST_CHARS), title=name) for colour, name in entries]
    return tag("ul", *items, class_="legend") if items else joined()


def _in_numbers(report: Report) -> Markup:
    return tag("section", tag("h2", "In numbers"), table(report_table(report), "In numbers"))
