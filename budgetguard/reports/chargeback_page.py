"""A statement as one HTML page: figures, a bar for each team, and a table of its lines. It loads nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from budgetguard.reports.chargeback import Statement, TeamStatement
from budgetguard.reports.chargeback_lines import (
    NONE,
    TOTAL,
    assumed,
    budget_shown,
    heading,
    notes,
    places_of,
    refused,
    signed,
    team_shown,
)
from budgetguard.reports.charts import Bar, bars, short_count
from budgetguard.reports.lines import counted, usd_exact
from budgetguard.reports.markup import Markup, tag
from budgetguard.reports.page import document, scrolled

MOST_BARS = 12


def page(statement: Statement, proof: str = "") -> str:
    """The page. `proof` is what it says of how it was verified."""
    found = [_header(statement), _figures(statement)]
    if statement.total.calls:
        found.append(_bars(statement))
    found.append(_teams(statement))
    found += [_team(one, statement) for one in statement.teams if one.lines]
    return document(heading(statement), [*found, _footer(statement, proof)])


def _header(statement: Statement) -> Markup:
    title, _, about = heading(statement).partition(": ")
    return tag("header", tag("h1", title), tag("p", about, class_="about"))


def _figures(statement: Statement) -> Markup:
    total, places = statement.total, places_of(statement)
    calls, nanousd = refused(statement)
    adjusts = ", ".join(statement.adjusted)
    figures = [
        ("Cost", signed(total.cost_nanousd, places), f"with adjustments of {adjusts}" if adjusts else "no adjustments"),
        ("Calls", f"{total.calls:,}", f"{short_count(total.total_tokens)} tokens"),
        ("Assumed", signed(assumed(total), places), f"{signed(total.late_cost_nanousd, places)} came late"),
        ("Refused", f"{calls:,}", f"asked {signed(nanousd, places)}"),
    ]
    cards = [
        tag("div", tag("dt", name), tag("dd", shown), tag("dd", more, class_="more")) for name, shown, more in figures
    ]
    return tag("dl", *cards, class_="figures")


def _bars(statement: Statement) -> Markup:
    """Two charts beside each other: what teams and what models cost."""
    teams = {team_shown(one.team): one.total.cost_nanousd for one in statement.teams}
    models: Counter[str] = Counter()
    for one in statement.teams:
        for _, line in one.lines:
            models[line.group[2] or NONE] += line.cost_nanousd
    return tag("div", _chart(statement, "team", teams), _chart(statement, "model", models), class_="pair")


def _chart(statement: Statement, by: str, costs: Mapping[str, int]) -> Markup:
    """A bar for each of the most expensive; an adjustment may leave less than nothing, which has none."""
    shown = sorted((name for name in costs if costs[name] > 0), key=lambda name: (-costs[name], name))[:MOST_BARS]
    places, title = places_of(statement), f"Cost by {by}"
    rows = [Bar(name, [costs[name]], signed(costs[name], places)) for name in shown]
    return tag("section", tag("h2", title), bars(rows, f"{by}-bars", title, lambda _: "s0"))


def _teams(statement: Statement) -> Markup:
    places = places_of(statement)
    titles = (("Cost center", ""), ("Calls", "number"), ("Cost", "number"), ("Assumed", "number"), ("Late", "number"),
              ("Budget", "number"), ("Refused", "number"))  # fmt: skip
    head = [tag("th", "Team", scope="col"), *(_head(title, kind) for title, kind in titles)]
    rows = []
    for one in statement.teams:
        facts, late = one.facts, one.total.late_cost_nanousd
        name = tag("th", team_shown(one.team), scope="row", class_=None if one.team else "missing")
        amounts = [f"{one.total.calls:,}", signed(one.total.cost_nanousd, places)]
        amounts += [signed(part, places) if part else "" for part in (assumed(one.total), late)]
        cells = [tag("td", facts.cost_center or ""), *map(_number, [*amounts, budget_shown(one)])]
        cells.append(_number(f"{facts.refused_calls:,}" if facts.refused_calls else ""))
        rows.append(tag("tr", name, *cells))
    sums = [tag("td", ""), _number(f"{statement.total.calls:,}"), _number(signed(statement.total.cost_nanousd, places))]
    rows.append(tag("tr", tag("th", TOTAL, scope="row"), *sums, *[tag("td", "")] * 4, class_="total"))
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *rows))
    return tag("section", tag("h2", "Teams"), scrolled(table, "Teams"))


def _team(one: TeamStatement, statement: Statement) -> Markup:
    places, name = places_of(statement), team_shown(one.team)
    columns = ("Calls", "Input tokens", "Output tokens", "Cost", "Assumed", "Late")
    head = [_head("Agent"), _head("Model"), _head("Provider"), *(_head(title, "number") for title in columns)]
    head.append(_head("Adjusts"))
    rows = []
    for of_month, line in one.lines:
        labels = [tag("td", value or NONE, class_=None if value else "missing") for value in line.group[1:]]
        counts = [f"{count:,}" for count in (line.calls, line.prompt_tokens, line.completion_tokens)]
        money = [signed(line.cost_nanousd, places)]
        money += [signed(part, places) if part else "" for part in (assumed(line), line.late_cost_nanousd)]
        adjusts = "" if of_month == statement.month else of_month
        rows.append(tag("tr", *labels, *map(_number, [*counts, *money]), tag("td", adjusts)))
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *rows))
    cost = f"{name}: {signed(one.total.cost_nanousd, places)}"
    return tag("section", tag("h2", cost), scrolled(table, name))


def _head(title: str, kind: str = "") -> Markup:
    return tag("th", title, scope="col", class_=kind or None)


def _number(shown: str) -> Markup:
    return tag("td", shown, class_="number")


def _footer(statement: Statement, proof: str) -> Markup:
    total = f"Exactly ${usd_exact(statement.total.cost_nanousd)} in {counted(statement.total.calls, 'call')}."
    said = [tag("p", note) for note in notes(statement)]
    return tag(
        "footer", *said, tag("p", f"{total} {proof[:1].upper()}{proof[1:]}".strip()), tag("p", "Made by budgetguard.")
    )
