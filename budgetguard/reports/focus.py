"""A statement in the columns of FOCUS, the FinOps Open Cost and Usage Specification (https://focus.finops.org).

The columns are those of its Cost and Usage dataset in version 1.3, those of 1.2 and 1.4 among them: ProviderName and
PublisherName, which 1.3 deprecates and 1.4 no longer has, stand beside ServiceProviderName and HostProviderName. One
row for each team, agent, model and provider of the month; an adjustment is a Correction of the month that it names.
x_UnpricedCalls are those whose price nobody knows: their BilledCost is 0.

Left out are columns that FOCUS asks of who publishes prices or sells commitments (unit prices, SkuPriceId, ...).
What has no value is an empty cell. No cell is taken for a formula by a spreadsheet: a label that might be begins with
an apostrophe, and stands as it is in Tags.
"""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

from budgetguard.ledger.closing import Line
from budgetguard.reports.as_csv import cell
from budgetguard.reports.chargeback import Statement, TeamStatement
from budgetguard.reports.lines import usd_exact

COLUMNS = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart",
    "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart",
    "ConsumedQuantity", "ConsumedUnit", "ContractedCost", "EffectiveCost", "HostProviderName", "InvoiceIssuerName",
    "ListCost", "PricingCategory", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "ResourceId",
    "ResourceName", "ResourceType", "ServiceCategory", "ServiceName", "ServiceProviderName", "ServiceSubcategory",
    "SkuId", "SkuMeter", "SubAccountId", "SubAccountName", "SubAccountType", "Tags",
    "x_AdjustedMonth", "x_AssumedCost", "x_Calls", "x_CostCenter", "x_InputTokens", "x_LateCost", "x_OutputTokens",
    "x_UnpricedCalls",
)  # fmt: skip
UNKNOWN = "unknown"
"""Of a provider or a model that no label tells: FOCUS wants these columns to say something."""


def focus_text(statement: Statement) -> str:
    """The rows as CSV; their BilledCost adds up to the statement's total, to the nano-dollar."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for team in statement.teams:
        for line in team.lines:
            found = _row(statement, team, line)
            writer.writerow([_cell(name, found[name]) for name in COLUMNS])
    return out.getvalue()


def _row(statement: Statement, team: TeamStatement, line: Line) -> dict[str, Any]:
    one = line.sum
    _, agent, model, provider = one.group
    adjusts = line.of_month != statement.month
    cost, provider, tokens = usd_exact(one.cost_nanousd), provider or UNKNOWN, one.total_tokens
    billed_ms, charged_ms = statement.months[statement.month], statement.months[line.of_month]
    about = f"{model or UNKNOWN} for {agent or 'no agent'} of {team.team or 'no team'}"
    names = dict.fromkeys(
        ("HostProviderName", "InvoiceIssuerName", "ProviderName", "PublisherName", "ServiceProviderName"), provider
    )
    return names | {
        **dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), cost),
        "BillingAccountId": statement.namespace, "BillingAccountName": statement.namespace, "BillingCurrency": "USD",
        "BillingPeriodStart": _instant(billed_ms[0]), "BillingPeriodEnd": _instant(billed_ms[1]),
        "ChargePeriodStart": _instant(charged_ms[0]), "ChargePeriodEnd": _instant(charged_ms[1]),
        "ChargeCategory": "Usage", "ChargeClass": "Correction" if adjusts else None,
        "ChargeDescription": f"{about}, an adjustment of {line.of_month}" if adjusts else about,
        "ChargeFrequency": "Usage-Based", "PricingCategory": "Standard",
        **dict.fromkeys(("ConsumedQuantity", "PricingQuantity"), tokens),
        **dict.fromkeys(("ConsumedUnit", "PricingUnit", "SkuMeter"), "Tokens"),
        "ResourceId": agent, "ResourceName": None, "ResourceType": "Agent" if agent else None,
        "ServiceCategory": "AI and Machine Learning", "ServiceSubcategory": "Generative AI",
        "ServiceName": "Large Language Models", "SkuId": f"{provider}/{model or UNKNOWN}",
        "SubAccountId": team.team, "SubAccountName": team.team, "SubAccountType": "Team" if team.team else None,
        "Tags": _tags(team, agent), "x_AdjustedMonth": line.of_month if adjusts else None, "x_Calls": one.calls,
        "x_AssumedCost": usd_exact(one.assumed_cost_nanousd + one.expired_cost_nanousd),
        "x_CostCenter": team.facts.cost_center, "x_LateCost": usd_exact(one.late_cost_nanousd),
        "x_InputTokens": one.prompt_tokens, "x_OutputTokens": one.completion_tokens,
        "x_UnpricedCalls": one.unpriced_calls,
    }  # fmt: skip


def _tags(team: TeamStatement, agent: str) -> str:
    """JSON in ASCII, in which every label stands as it is."""
    found = {"team": team.team, "agent": agent, "cost_center": team.facts.cost_center}
    return json.dumps({name: value for name, value in found.items() if value}).replace("\x7f", "\\u007f")


def _cell(name: str, value: Any) -> Any:
    """Numbers may begin with a minus; Tags is JSON."""
    if not isinstance(value, str) or name in ("Tags", *_NUMBERS):
        return value
    return cell(value)


def _instant(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_NUMBERS = frozenset(name for name in COLUMNS if name.endswith("Cost"))
