"""What the policy says, as plain values: all that a run can be repeated from, and nothing that is a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from budgetguard.core.grammar import format_limit
from budgetguard.doctor.findings import Check, Facts, some, well, without_secrets
from budgetguard.ledger import shown_ledger
from budgetguard.policy import Budget, Policy, StoreSettings
from budgetguard.stores import default_url


def policy_facts(policy: Policy) -> Facts:
    """Only what is named here, so that no secret of a later version gets in."""
    return {
        "mode": policy.mode,
        "timezone": policy.timezone,
        "budgets": [_budget(budget, policy.timezone) for budget in policy.budgets],
        "labels": {
            "required": list(policy.labels.required), "known": list(policy.labels.known or ()),
            "default": dict(policy.labels.default),
        },
        "guard": dict(vars(policy.guard)),
        "estimate": dict(vars(policy.estimate)),
        "prompts_are_hashed": policy.ledger.prompt_key is not None,
    }  # fmt: skip


def _budget(budget: Budget, timezone: str) -> dict[str, Any]:
    return {
        "name": budget.name,
        "where": dict(budget.where),
        "per": list(budget.per),
        "limits": [format_limit(limit) for limit in budget.parsed_limits(timezone)],
        "on_exceed": budget.on_exceed,
        "max_delay_ms": budget.max_delay_ms,
        "alert_at": list(budget.alert_at),
        "timezone": budget.timezone,
    }


def store_facts(settings: StoreSettings, ledger: str | None) -> Facts:
    """Where budgets are held, and where the ledger is."""
    return {
        "url": without_secrets(settings.url or default_url()),
        "namespace": settings.namespace,
        "timeout_ms": settings.timeout_ms,
        "on_store_away": settings.on_store_away,
        "outbox_max": settings.outbox_max,
        "ledger": settings.ledger,
        "ledger_url": None if ledger is None else without_secrets(shown_ledger(ledger)),
        "allow_eviction": settings.allow_eviction,
    }


def check_policy(path: Path, policy: Policy | None, faults: tuple[str, ...]) -> Check:
    """Whether it can be read, and says anything."""
    if faults:
        return Check("policy", "failed", f"{path}: {'; '.join(faults)}", "budgetguard check lists every fault")
    if policy is None:
        return Check("policy", "warning", "none: a store was named by itself", "name it with --config FILE")
    limits = sum(len(budget.limits) for budget in policy.budgets)
    found = f"{path}: {some(len(policy.budgets), 'budget')}, {some(limits, 'limit')}, mode {policy.mode}"
    if not policy.budgets:
        return Check("policy", "warning", f"{found}: nothing is held", "state a [[budget]]")
    if policy.mode != "enforce":
        return Check("policy", "warning", f"{found}: nothing is refused", 'set mode = "enforce" when ready')
    return well("policy", found)
