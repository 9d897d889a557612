"""What alerts are raised for."""

CAUSES = (
    "threshold", "exhausted", "burn_rate", "large_request", "hourly_cost", "task_tokens", "errors", "unknown_price",
    "assumed", "outbox", "drift",
)  # fmt: skip
"""The first two by the thresholds of budgets (`alert_at`)."""
