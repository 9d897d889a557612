"""A statement as one HTML page: figures, a bar for each team, and a table of its lines. It loads nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from budgetguard.reports.chargeback import Statement, TeamStatement
from budgetguard.reports.chargeback_lines import assumed, heading, notes, places_of, refused, signed, team_shown
from budgetguard.reports.charts import Bar, bars, short_count
from budgetguard.reports.lines import counted
from budgetguard.reports.markup import Markup, tag
from budgetguard.reports.names import name_shown
from budgetguard.reports.page import cards, document, footer, table
from budgetguard.reports.tables import lines_table, teams_table

MOST_BARS = 12


def page(statement: Statement, made_ms: int, proof: str = "") -> str:
    """The page, of a ledger as it stood at `made_ms`. `proof` is what it says of how it was verified."""
    found = [_header(statement), _figures(statement)]
    if statement.total.calls:
        found.append(_bars(statement))
    found.append(_teams(statement))
    found += [_team(one, statement) for one in statement.teams if one.lines]
    last = footer(notes(statement), statement.total, proof, made_ms, statement.zone)
    return document(heading(statement), [*found, last])


def _header(statement: Statement) -> Markup:
    title, _, about = heading(statement).partition(": ")
    return tag("header", tag("h1", title), tag("p", about, class_="about"))


def _figures(statement: Statement) -> Markup:
    total, places = statement.total, places_of(statement)
    asked = refused(statement)
    adjusts = ", ".join(statement.adjusted)
    figures = [
        ("Cost", signed(total.cost_nanousd, places), f"with adjustments of {adjusts}" if adjusts else "no adjustments"),
        ("Calls", f"{total.calls:,}", f"{short_count(total.total_tokens)} tokens"),
        ("Assumed", signed(assumed(total), places), f"{signed(total.late_cost_nanousd, places)} came late"),
        ("Refused", f"{asked.refused_calls:,}", f"asked {signed(asked.refused_nanousd, places)}"),
    ]
    return cards(figures)


def _bars(statement: Statement) -> Markup:
    """Two charts beside each other: what teams and what models cost."""
    teams = {team_shown(one.team): one.total.cost_nanousd for one in statement.teams}
    models: Counter[str] = Counter()
    for one in statement.teams:
        for _, line in one.lines:
            models[name_shown(line.group[2])] += line.cost_nanousd
    return tag("div", _chart(statement, "team", teams), _chart(statement, "model", models), class_="pair")


def _chart(statement: Statement, by: str, costs: Mapping[str, int]) -> Markup:
    """A bar for each of the most expensive; an adjustment may leave less than nothing, which has none."""
    ranked = sorted((name for name in costs if costs[name] > 0), key=lambda name: (-costs[name], name))
    shown, left_out = ranked[:MOST_BARS], len(ranked[MOST_BARS:])
    more = [tag("p", f"and {counted(left_out, f'more {by}')}", class_="more")] if left_out else []
    places, title = places_of(statement), f"Cost by {by}"
    rows = [Bar(name, [costs[name]], signed(costs[name], places)) for name in shown]
    return tag("section", tag("h2", title), bars(rows, f"{by}-bars", title, lambda _: "s0"), *more)


def _teams(statement: Statement) -> Markup:
    return tag("section", tag("h2", "Teams"), table(teams_table(statement), "Teams"))


def _team(one: TeamStatement, statement: Statement) -> Markup:
    name = team_shown(one.team)
    cost = f"{name}: {signed(one.total.cost_nanousd, places_of(statement))}"
    return tag("section", tag("h2", cost), table(lines_table(one, statement), name))
